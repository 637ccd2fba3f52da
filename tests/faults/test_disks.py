"""The work volume is full, without inodes, read-only, emptied or gone; a destination's volume is full."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from tests.faults.world import World, world
from tests.system import until

#: Mounting needs root, which CI has.
pytestmark = [pytest.mark.timeout(300), pytest.mark.faults]

#: What the admission wants to see free for a chunk, and then some; a tmpfs takes memory only for what is written.
ROOM = "2g"


@dataclass
class Volume:
    """A small file system of a test's own."""

    folder: Path

    def mount(self) -> None:
        options = f"size={ROOM},nr_inodes=100000,mode=777"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "pixcrawler-test", self.folder], check=True, timeout=30)

    def unmount(self) -> None:
        """Also from under those who use it."""
        subprocess.run(["umount", "--lazy", self.folder], check=True, timeout=30)

    def limit(self, options: str) -> None:
        """Another size, number of inodes, or way of being mounted."""
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True, timeout=30)

    async def becomes_read_only(self) -> bool:
        """False while somebody still has a file open there for writing."""
        remounted = ["mount", "-o", "remount,ro", self.folder]
        done = await asyncio.to_thread(subprocess.run, remounted, check=False, timeout=30, capture_output=True)
        return done.returncode == 0

    def fill(self) -> None:
        """Leaves no room for another byte."""
        used = shutil.disk_usage(self.folder).used
        self.limit(f"size={max(used, 4096)}")

    def make_room(self) -> None:
        self.limit(f"size={ROOM},nr_inodes=100000,rw")


@contextmanager
def volume(folder: Path) -> Iterator[Volume]:
    folder.mkdir(parents=True, exist_ok=True)
    mounted = Volume(folder)
    mounted.mount()
    try:
        yield mounted
    finally:
        mounted.unmount()


@pytest.fixture(scope="module")
async def disk_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, Volume]]:
    """A world whose work area is a volume of its own."""
    folder = tmp_path_factory.mktemp("disks")
    with volume(folder / "work") as work:
        async with world(folder) as ours:
            yield ours, work


@pytest.fixture
def work(disk_world: tuple[World, Volume]) -> Volume:
    return disk_world[1]


@pytest.fixture
def ours(disk_world: tuple[World, Volume], work: Volume) -> World:
    work.make_room()
    disk_world[0].mend()
    return disk_world[0]


async def is_handed_back(ours: World, job: UUID, code: str) -> bool:
    """A chunk of the job went back for that reason, and waits."""
    rows = await ours.board.run(
        """SELECT chunk_events.error_code FROM chunk_events JOIN chunks ON chunks.id = chunk_id
           WHERE job_id = :job AND from_state LIKE '%ing' AND chunk_events.error_code IS NOT NULL""",
        job=job,
    )
    assert {row.error_code for row in rows} <= {code}
    return bool(rows)


async def burned(ours: World, job: UUID) -> list[int]:
    """Attempts that are counted against chunks nobody works on."""
    rows = await ours.board.run("SELECT attempt FROM chunks WHERE job_id = :job AND state LIKE '%ready'", job=job)
    return [row.attempt for row in rows if row.attempt]


@pytest.mark.parametrize("stage", ["download", "validate", "upload"])
async def test_a_full_work_volume_is_waited_for(ours: World, work: Volume, stage: str) -> None:
    service = {"download": "downloader", "validate": "validator", "upload": "uploader"}[stage]
    ours.remove(service)
    async with ours.with_deaf_downloader() if stage == "download" else nullcontext():
        job = await ours.submit(520, recipe=json.dumps({"output_format": "webdataset"}))
        await until(f"chunks wait for the {service}", lambda: stands_before(ours, job, stage), limit_seconds=60)

    work.fill()
    ours.mend()
    await until("a chunk is handed back", lambda: is_handed_back(ours, job, "work_area_full"), limit_seconds=60)
    assert await burned(ours, job) == []
    work.make_room()
    ours.heal()

    await ours.has_ended(job)
    await well_done(ours, job)


async def test_a_work_volume_without_inodes_is_waited_for(ours: World, work: Volume) -> None:
    ours.remove("validator")
    job = await ours.submit(520)
    await until("chunks wait for the validator", lambda: stands_before(ours, job, "validate"), limit_seconds=60)

    work.limit(f"nr_inodes={inodes_used(work)}")
    ours.mend()
    await until("a chunk is handed back", lambda: is_handed_back(ours, job, "work_area_full"), limit_seconds=60)
    work.make_room()
    ours.heal()

    await ours.has_kept_its_promises(job)


async def test_a_work_volume_that_became_read_only_is_waited_for(ours: World, work: Volume) -> None:
    ours.remove("validator")
    job = await ours.submit(520)
    await until("chunks wait for the validator", lambda: stands_before(ours, job, "validate"), limit_seconds=60)

    await until("the volume is read-only", work.becomes_read_only)
    ours.mend()
    await until("a chunk is handed back", lambda: is_handed_back(ours, job, "work_area_full"), limit_seconds=60)
    assert await burned(ours, job) == []
    work.make_room()
    ours.heal()

    await ours.has_kept_its_promises(job)


async def test_a_job_says_that_it_waits_for_room(ours: World, work: Volume) -> None:
    ours.remove("validator")
    job = await ours.submit(400)
    await until("its chunk waits for the validator", lambda: stands_before(ours, job, "validate"), limit_seconds=60)

    work.fill()
    ours.mend()

    async def says_so() -> bool:
        told = await ours.board.one("SELECT waiting_for FROM jobs WHERE id = :job", job=job)
        return bool(told == "room on the work volume")

    await until("the job says so", says_so, limit_seconds=60)
    work.make_room()
    ours.heal()

    await ours.has_kept_its_promises(job)


async def test_a_work_area_emptied_under_the_workers_is_filled_again(ours: World, work: Volume) -> None:
    ours.remove("validator")
    job = await ours.submit(520)
    await until("chunks wait for the validator", lambda: stands_before(ours, job, "validate"), limit_seconds=60)

    for left in work.folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    ours.mend()

    await ours.has_kept_its_promises(job)


async def test_a_work_volume_unmounted_under_the_workers_costs_work_and_no_row(ours: World, work: Volume) -> None:
    """Below it lies an empty folder, in which the chunks begin anew, and anew again when it is back."""
    ours.remove("validator")
    job = await ours.submit(520)
    await until("chunks wait for the validator", lambda: stands_before(ours, job, "validate"), limit_seconds=60)

    work.unmount()
    ours.mend()

    async def begins_anew() -> bool:
        return bool(await ours.board.one("SELECT sum(restarts) FROM chunks WHERE job_id = :job", job=job))

    await until("a chunk begins anew", begins_anew, limit_seconds=60)
    work.mount()
    ours.heal()

    await ours.has_kept_its_promises(job)


async def test_a_full_destination_is_waited_for_and_never_holds_half_an_object(ours: World, tmp_path: Path) -> None:
    with volume(ours.system.folder / "small") as small:
        ours.remove("uploader")
        job = await ours.submit(520, destination=small.folder / "cats")
        await until("chunks wait for the uploader", lambda: stands_before(ours, job, "upload"), limit_seconds=60)

        used = shutil.disk_usage(small.folder).used
        small.limit(f"size={used + 200_000}")
        ours.mend()
        await until("a chunk is handed back", lambda: is_handed_back(ours, job, "store_unavailable"), limit_seconds=60)
        assert await burned(ours, job) == []
        small.make_room()
        ours.heal()

        await ours.has_kept_its_promises(job)


async def stands_before(ours: World, job: UUID, stage: str) -> bool:
    states = [row.state for row in await ours.board.run("SELECT state FROM chunks WHERE job_id = :job", job=job)]
    return bool(states) and set(states) == {f"{stage}_ready"}


def inodes_used(work: Volume) -> int:
    return sum(1 for _ in work.folder.rglob("*")) + 1


async def well_done(ours: World, job: UUID) -> None:
    assert await ours.board.job_state(job) == "completed"
    (counts,) = await ours.board.run("SELECT counts FROM jobs WHERE id = :job", job=job)
    assert counts.counts["accepted"] + sum(counts.counts["rejected"].values()) == 520
    assert not [path for path in ours.system.work.rglob("*") if path.name != ".janitor"]
