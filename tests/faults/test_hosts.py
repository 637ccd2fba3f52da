"""What a host does to its services: a clock that jumps, no file descriptors left; and origins that go away."""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.test_disks import is_handed_back
from tests.faults.test_redis import claims_of
from tests.faults.world import HELD_ROW, World
from tests.origin import Request, Wire
from tests.system import Service, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.faults]


@pytest.fixture(scope="session")
def faketime() -> str:
    """The library that shifts a process's clock."""
    for folder in (Path("/usr/lib").glob("*/faketime"), Path("/usr/local/lib").glob("faketime")):
        for place in folder:
            if (place / "libfaketime.so.1").is_file():
                return str(place / "libfaketime.so.1")
    pytest.fail("the clock's tests need libfaketime (Debian, Ubuntu: apt install libfaketime)")


class Clock:
    """Shifts the wall clock of services that were started with `environment`; their monotonic one runs on."""

    def __init__(self, library: str, file: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "PIXCRAWLER_LEASE_SECONDS": "30",  # it is slower with this library
        }
        self.step("+0")

    def step(self, shift: str) -> None:
        self._file.write_text(shift)


@pytest.mark.parametrize("shift", ["+2h", "-2h"], ids=["ahead", "behind"])
@pytest.mark.parametrize("name", ["downloader", "validator", "uploader", "scheduler", "gateway"])
async def test_a_clock_that_steps_takes_nobodys_chunk_away(
    ours: World, faketime: str, tmp_path: Path, name: str, shift: str
) -> None:
    clock = Clock(faketime, tmp_path / "clock")
    with ours.instead(name, clock.environment) as service:
        job = await ours.under_way()

        clock.step(shift)
        ours.origin.release()

        await ours.has_kept_its_promises(job)
        assert await claims_of(ours, job) == 9, "each chunk was claimed once in each stage"
        assert service.process.poll() is None


def processes_of(service: Service) -> Iterator[psutil.Process]:
    """The service and its pool's children; theirs, which decode, are confined."""
    own = psutil.Process(service.process.pid)
    yield from (own, *own.children())


@pytest.mark.parametrize("name", ["downloader", "validator", "uploader"])
async def test_a_worker_without_file_descriptors_goes_on_when_it_has_some(ours: World, name: str) -> None:
    service = ours.running[name]
    job = await ours.under_way()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    for process in processes_of(service):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (process.num_fds(), limits[1]))
    ours.origin.release()
    before = len(service.log.read_text())

    async def is_felt() -> bool:
        return "Too many open files" in service.log.read_text()[before:] or await ours.board.has_ended(job)

    await until("it is felt", is_felt, limit_seconds=60)
    for process in processes_of(service):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
    ours.mend()

    await ours.has_ended(job)
    assert await ours.board.job_state(job) == "completed"


async def test_an_origin_that_resets_for_a_while_costs_no_row(ours: World) -> None:
    resets = 0

    async def reset_first(request: Request, wire: Wire) -> None:
        nonlocal resets
        if resets < 60:
            resets += 1
            wire.reset()
        else:
            await ours.origin._serve_p(request, wire)

    for number in range(0, 1_100, 10):
        ours.origin.handlers[f"/p/{number}"] = reset_first
    job = await ours.submit()

    await ours.has_ended(job)
    ours.origin.handlers.clear()
    await ours.has_kept_its_promises(job)


#: A host is left alone for so long; a row waits for that once in each try, so it must outlast what is done meanwhile.
LEFT_ALONE = {"PIXCRAWLER_BREAKER_SECONDS": "15"}


async def is_left_alone(downloader: Service) -> None:
    """Returns when the origin is."""

    async def is_counted() -> bool:
        return await asyncio.to_thread(downloader.metric, 'pixcrawler_hosts_left_alone_total{why="breaker"}') > 0

    await until("the origin is left alone", is_counted, limit_seconds=90)


async def test_an_origin_that_refuses_for_a_while_is_left_alone_and_costs_no_row(ours: World) -> None:
    """A refusal comes at once: a row's tries must not be over before anybody knows that the host is away."""
    downloader = ours.start("downloader", **LEFT_ALONE)
    await ours.origin.go_away()
    job = await ours.submit()

    await is_left_alone(downloader)
    await ours.origin.come_back()
    ours.heal()

    await ours.has_kept_its_promises(job)
    ours.remove("downloader")


async def test_an_origin_that_falls_silent_is_left_alone_and_costs_no_row_when_it_is_back(ours: World) -> None:
    """It is away until the downloader has noticed and leaves it alone."""
    downloader = ours.start("downloader", **LEFT_ALONE)
    ours.origin.hold(HELD_ROW)
    job = await ours.submit(recipe='{"thumbnails": 32, "url_deadline_seconds": 15}')
    await asyncio.wait_for(ours.origin.is_holding.wait(), timeout=60)

    ours.origin.fall_silent()

    await is_left_alone(downloader)
    ours.heal()

    await ours.has_kept_its_promises(job)
    ours.remove("downloader")


async def test_a_work_volume_that_is_gone_for_a_while_is_waited_for(ours: World) -> None:
    job = await ours.under_way()
    work, elsewhere = ours.system.work, ours.system.folder / "elsewhere"

    work.rename(elsewhere)
    ours.origin.release()
    await until("a chunk is handed back", lambda: is_handed_back(ours, job, "work_area_full"), limit_seconds=60)
    assert not work.exists(), "nobody makes another one in its place"
    elsewhere.rename(work)
    ours.heal()

    await ours.has_kept_its_promises(job)
    assert await ours.board.one("SELECT sum(restarts) FROM chunks WHERE job_id = :job", job=job) == 0
