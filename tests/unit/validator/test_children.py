"""Decode children: a crash, a hang and a picture too large for memory each cost one image."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from shared.errors import ChunkError, WorkAreaFull
from shared.reasons import Reason
from shared.recipe import Depth, Recipe
from tests import images
from validator.children import Columns, DecodeChildren, Limits, Stand, allowance, child_environment
from validator.decode import MAX_FILE, MAX_OPEN_FILES, NICENESS
from validator.work import At, ChunkWork, WorkRow

FULL = Recipe(depth=Depth.FULL)
#: Takes some tenths of a second to decode, so that a look at the position finds the child at work.
SLOW = images.png_of(8000, 7000, 8, 0, images.zeros(8001 * 7000))

ROOT = Path(__file__).parents[3]
CHILD_LIMITS = {
    "RLIMIT_CORE": 0,
    "RLIMIT_NPROC": 0,
    "RLIMIT_NOFILE": MAX_OPEN_FILES,
    "RLIMIT_FSIZE": MAX_FILE,
}
#: As a user without rights, for the limit on processes does not bind root.
_CONFINED = """
import ctypes, os
from validator.decode import confine
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
confine(os.getppid())
print("dumpable", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
try:
    os.fork()
except BlockingIOError:
    print("fork refused")
"""


def work_of(folder: Path, bodies: Sequence[bytes], recipe: Recipe = FULL) -> ChunkWork:
    pack = folder / "pack"
    pack.write_bytes(b"".join(bodies))
    rows, offset = [], 0
    for place, body in enumerate(bodies):
        rows.append(WorkRow(place=place, offset=offset, length=len(body)))
        offset += len(body)
    return ChunkWork(pack=pack, derived=folder / "derived", journal=folder / "journal", recipe=recipe, rows=tuple(rows))


def unwatched(_at: At) -> None:
    pass


class Once:
    """Does something to the child when it is first seen at work on an image."""

    def __init__(self, children: DecodeChildren, action: Callable[[int], None]) -> None:
        self._children = children
        self._action = action
        self.is_done = False

    def __call__(self, at: At) -> None:
        if at.place is not None and not self.is_done:
            assert self._children.pid is not None
            self.is_done = True
            self._action(self._children.pid)


def reasons(verdicts: dict[int, Columns]) -> list[object]:
    return [verdicts[place].get("reason") for place in sorted(verdicts)]


async def test_every_image_gets_a_verdict(children: DecodeChildren, tmp_path: Path) -> None:
    bodies = [*images.good().values(), b"<html>", images.jpeg()[:-40]]

    verdicts = await children.judge(work_of(tmp_path, bodies), unwatched)

    assert reasons(verdicts) == [None, None, None, None, Reason.NOT_AN_IMAGE, Reason.CORRUPT_IMAGE]
    assert not (tmp_path / "journal").exists()


async def test_a_child_is_kept_from_chunk_to_chunk(children: DecodeChildren, tmp_path: Path) -> None:
    await children.judge(work_of(tmp_path, [images.jpeg()]), unwatched)
    first = children.pid

    await children.judge(work_of(tmp_path, [images.png()]), unwatched)

    assert children.pid == first


async def test_a_worn_child_is_replaced_between_chunks(tmp_path: Path) -> None:
    limits = Limits(image_seconds=10, memory_mb=1024, chunk_seconds=300, images_per_child=3)
    async with DecodeChildren(limits) as children:
        pids = []
        for _ in range(3):
            await children.judge(work_of(tmp_path, [images.jpeg(), images.png()]), unwatched)
            pids.append(children.pid)

    assert pids[0] is not None
    assert pids[1] is None
    assert pids[2] not in (None, pids[0])


async def test_a_full_disk_is_told_as_such(children: DecodeChildren, tmp_path: Path) -> None:
    work = work_of(tmp_path, [images.jpeg_with_exif()])
    work.derived.symlink_to("/dev/full")

    with pytest.raises(WorkAreaFull):
        await children.judge(work, unwatched)


async def test_a_killed_child_costs_no_image(children: DecodeChildren, tmp_path: Path) -> None:
    kill = Once(children, lambda pid: os.kill(pid, signal.SIGKILL))

    verdicts = await children.judge(work_of(tmp_path, [images.jpeg(), SLOW, SLOW, SLOW, images.png()]), kill)

    assert kill.is_done
    assert reasons(verdicts) == [None] * 5


async def test_of_images_that_kill_every_child_only_some_get_a_second_try(
    children: DecodeChildren, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_each(at: At) -> None:
        if at.place is not None and children.pid is not None and children.pid not in killed:
            killed.append(children.pid)
            os.kill(children.pid, signal.SIGKILL)

    verdicts = await children.judge(work_of(tmp_path, [SLOW] * 7), kill_each)

    assert reasons(verdicts) == [Reason.DECODER_CRASHED] * 7
    assert len(killed) == 7 + 5


def test_only_what_was_seen_of_an_image_counts_against_it() -> None:
    stand = Stand(100.0)

    assert stand.look(7, 100.1) == 0.0
    assert stand.look(7, 100.5) == pytest.approx(0.4)
    assert stand.look(7, 160.0) == pytest.approx(1.4), "the machine slept"
    assert stand.look(0, 160.1) == 0.0, "half written"
    assert stand.look(8, 160.2) == 0.0
    assert stand.look(8, 160.3) == pytest.approx(0.1)


async def test_a_child_that_hangs_costs_one_image(tmp_path: Path) -> None:
    async with DecodeChildren(Limits(image_seconds=4, memory_mb=1024, chunk_seconds=300)) as children:
        stop = Once(children, lambda pid: os.kill(pid, signal.SIGSTOP))

        verdicts = await children.judge(work_of(tmp_path, [images.jpeg(), SLOW, SLOW, images.png()]), stop)

    assert stop.is_done
    assert sorted(reasons(verdicts), key=str) == [None, None, None, Reason.DECODER_TIMEOUT]


async def test_a_picture_beyond_the_memory_costs_one_image(tmp_path: Path) -> None:
    wide = images.png_of(7900, 7900, 8, 2, images.zeros((7900 * 3 + 1) * 7900))
    async with DecodeChildren(Limits(image_seconds=20, memory_mb=150, chunk_seconds=300)) as children:
        verdicts = await children.judge(work_of(tmp_path, [images.jpeg(), wide, images.png()]), unwatched)

    assert reasons(verdicts) == [None, Reason.DECODER_CRASHED, None]


async def test_what_a_dead_child_derived_is_kept(children: DecodeChildren, tmp_path: Path) -> None:
    stripped = images.with_segment(images.jpeg(), 0xFE, images.SECRET)
    kill = Once(children, lambda pid: os.kill(pid, signal.SIGKILL))
    work = work_of(tmp_path, [stripped, SLOW, stripped])

    verdicts = await children.judge(work, kill)

    derived = work.derived.read_bytes()
    for place in (0, 2):
        offset, length = verdicts[place]["offset"], verdicts[place]["length"]
        assert isinstance(offset, int)
        assert isinstance(length, int)
        assert derived[offset : offset + length] == images.jpeg()


async def test_progress_counts_what_earlier_children_did(children: DecodeChildren, tmp_path: Path) -> None:
    seen: list[At] = []
    kill = Once(children, lambda pid: os.kill(pid, signal.SIGKILL))

    def watch(at: At) -> None:
        seen.append(at)
        if at.done >= 1:
            kill(at)

    await children.judge(work_of(tmp_path, [images.jpeg(), SLOW, images.png()]), watch)

    assert [at.done for at in seen] == sorted(at.done for at in seen)
    assert (seen[-1].done, seen[-1].accepted) == (3, 3)


async def test_a_cancelled_chunk_leaves_no_child_and_no_journal(children: DecodeChildren, tmp_path: Path) -> None:
    begun = asyncio.Event()
    work = work_of(tmp_path, [SLOW] * 20)
    task = asyncio.create_task(children.judge(work, lambda at: begun.set() if at.place is not None else None))
    await begun.wait()
    pid = children.pid
    assert pid is not None

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert children.pid is None
    assert not psutil.pid_exists(pid)
    assert not work.journal.exists()


async def test_a_decoder_that_cannot_work_is_an_error_of_the_chunk(children: DecodeChildren, tmp_path: Path) -> None:
    work = work_of(tmp_path, [images.jpeg()])
    work.pack.unlink()

    with pytest.raises(ChunkError):
        await children.judge(work, unwatched)


async def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(tmp_path), stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))

    parent.kill()
    await parent.wait()

    await asyncio.to_thread(psutil.wait_procs, [child], timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


_PARENT = """
import asyncio, sys
from pathlib import Path
from shared.recipe import Recipe
from tests import images
from validator.children import DecodeChildren, Limits
from validator.work import ChunkWork, WorkRow

async def main(folder):
    body = images.jpeg()
    (folder / "pack").write_bytes(body)
    work = ChunkWork(pack=folder / "pack", derived=folder / "derived", journal=folder / "journal", recipe=Recipe(),
                     rows=(WorkRow(place=0, offset=0, length=len(body)),))
    async with DecodeChildren(Limits(image_seconds=10, memory_mb=1024, chunk_seconds=100)) as children:
        await children.judge(work, lambda at: None)
        print(children.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""

LIMITS = Limits(image_seconds=10, memory_mb=1024, chunk_seconds=540)

ALLOWANCES = [
    # seconds left, rows left, seconds allowed
    (540, 500, 10),
    (410, 500, 10),
    (400, 400, 4),
    (400, 100, 10),
    (40, 400, 0.4),
    (4, 1, 2),
    (-1, 5, 0),
]


@pytest.mark.parametrize(("left", "rows", "allowed"), ALLOWANCES)
def test_slow_images_use_up_what_later_ones_may_take(left: float, rows: int, allowed: float) -> None:
    assert allowance(LIMITS, left_seconds=left, left_rows=rows) == pytest.approx(allowed)


def test_a_chunk_of_hanging_images_ends_in_time() -> None:
    left = LIMITS.chunk_seconds

    for rows in range(500, 0, -1):
        left -= allowance(LIMITS, left_seconds=left, left_rows=rows)

    assert left >= 0


def test_a_child_is_told_no_secrets() -> None:
    environment = {"PATH": "/bin", "PIXCRAWLER_DATABASE_URL": "postgresql://u:p@h/d", "AWS_SECRET_ACCESS_KEY": "x"}

    told = child_environment(environment)

    assert told["PATH"] == "/bin"
    assert not [name for name in told if name.startswith(("PIXCRAWLER", "AWS"))]


def test_a_decoder_loads_no_broker_database_or_network() -> None:
    script = "import sys, validator.decode; print(*{name.split('.')[0] for name in sys.modules})"

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert not set(loaded.stdout.split()) & {"celery", "kombu", "sqlalchemy", "asyncpg", "redis", "pyarrow", "asyncio"}


def status_of(pid: int) -> dict[str, str]:
    """What the kernel says of a process."""
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


async def test_a_child_can_start_nothing_open_little_and_not_be_read(children: DecodeChildren, tmp_path: Path) -> None:
    await children.judge(work_of(tmp_path, [images.jpeg()]), unwatched)
    assert children.pid is not None
    child = psutil.Process(children.pid)

    status = status_of(child.pid)
    limits = {name: resource.prlimit(child.pid, getattr(resource, name))[0] for name in CHILD_LIMITS}

    assert limits == CHILD_LIMITS
    assert 0 < resource.prlimit(child.pid, resource.RLIMIT_AS)[0] < 8 << 30
    assert status["NoNewPrivs"] == "1"
    assert child.nice() >= NICENESS
    assert child.num_threads() == 1
    assert not child.net_connections(kind="all")


def test_what_a_confined_process_may_not_do() -> None:
    said = subprocess.run(
        [sys.executable, "-c", _CONFINED], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )

    assert said.stdout.split() == ["dumpable", "0", "fork", "refused"]


#: Takes and gives back what a large picture does; prints the pages that were new after the first time.
_TAKES_AND_GIVES_BACK = """
import resource
def take():
    buffers = [bytearray(24 << 20) for _ in range(3)]
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
take()
before = faults()
for _ in range(4):
    take()
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_what_one_picture_took_of_memory_is_there_for_the_next() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _TAKES_AND_GIVES_BACK],
        env=child_environment(os.environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert int(ended.stdout) < 1_000
