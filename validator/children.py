"""Keeps one decode child and sees to it that a hostile image costs nothing but itself.

The child works through a chunk alone; we look at its position ten times a second. An image that takes longer
than it may, or that kills the child twice, gets a reason; a new child goes on behind it. What the dead one had
finished stands in its journal.

Celery's children are daemonic and may not fork, so a child is a plain subprocess in a process group of its own.
It dies with the thread that started it (PR_SET_PDEATHSIG), which must therefore be the one of the event loop.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from shared import metrics
from shared.errors import ChunkError, WorkAreaFull
from shared.reasons import Reason
from validator.judge import Value
from validator.work import At, ChunkWork, Position, Reply, WorkRow

#: Seconds between two looks at the child's position.
_LOOK = 0.1
#: Between two looks no more seconds than these count.
_LONGEST_BLINK = 1.0
#: Seconds in which a new child must say that it is ready; the machine may be busy.
_START = 60.0
#: Children in a row that may die without having begun an image.
_MAX_IDLE_DEATHS = 3
#: Images of a chunk that are tried again after the child died under them: it may have been killed for another's sake
#: (the kernel was out of memory, an operator's mistake). Not all of them, or a hostile chunk would take twice as long.
_SECOND_TRIES = 5
#: A child is replaced once it held so much more memory than at its start: decoders leak.
_MAX_GROWTH_KB = 512 * 1024
#: While this share of a chunk's time is left, every image may use its whole deadline.
_AMPLE = 0.75
#: After that, an image may use so many times its fair share of what is left.
_SHARES = 4
#: Environment that a decoder needs; nothing else is handed on, above all no credentials.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TMPDIR")
#: glibc keeps what one picture took for the next: the kernel would clear each page of it anew.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024 * 1024),
}
#: The folder that holds our packages, so that the child runs the same code as we do.
_CODE = Path(__file__).resolve().parent.parent

_EVENTS = {event: metrics.decode_children.labels(event=event) for event in ("started", "died", "too_slow")}

Columns = dict[str, Value]


class _End(Enum):
    """How an attempt at a chunk ended."""

    FINISHED = auto()
    DIED = auto()
    TOO_SLOW = auto()
    DISK_FULL = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a decode child may use."""

    image_seconds: float
    memory_mb: int
    #: All images of a chunk together.
    chunk_seconds: float
    #: A child is replaced after so many images.
    images_per_child: int = 5_000


def allowance(limits: Limits, *, left_seconds: float, left_rows: int) -> float:
    """Seconds that the next image may take, so that a chunk full of slow ones still ends in time."""
    if left_seconds > _AMPLE * limits.chunk_seconds:
        return limits.image_seconds
    fair = left_seconds / max(1, left_rows)
    return max(0.0, min(limits.image_seconds, _SHARES * fair, left_seconds / 2))


class Stand:
    """For how long a child has been at one image, as we saw it.

    A time in which we did not look counts as a second at most: then the machine may have slept, or had no time for
    either of us, and the image is not to blame.
    """

    def __init__(self, now: float) -> None:
        self._place: int | None = None
        self._looked = now
        self._seconds = 0.0

    def look(self, place: int | None, now: float) -> float:
        """Seconds so far, when it is at this place now."""
        unseen = min(now - self._looked, _LONGEST_BLINK)
        self._seconds = self._seconds + unseen if place == self._place else 0.0
        self._place, self._looked = place, now
        return self._seconds


class _Child:
    """A running decoder."""

    def __init__(self, process: asyncio.subprocess.Process, position: Position) -> None:
        self._process = process
        self._ready: Reply | None = None
        self._last = Reply()
        self.position = position

    @classmethod
    async def start(cls, memory_mb: int) -> Self:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(Position.SIZE))
            file.flush()
            position = Position(file.fileno())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "validator.decode", str(os.getpid()), str(file.fileno()), str(memory_mb)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=(file.fileno(),),
                process_group=0,
                cwd=_CODE,
                env=child_environment(os.environ),
            )
            return cls(process, position)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        """Raises ChunkError when the child does not come up."""
        try:
            async with asyncio.timeout(_START):
                self._ready = await self.reply()
        except TimeoutError:
            raise ChunkError("the decoder did not start in time") from None
        if self._ready is None:
            raise ChunkError("the decoder ended at its start; its own words are in the log")

    def send(self, work: ChunkWork) -> None:
        assert self._process.stdin is not None
        self.position.write(None, done=0, accepted=0, stored_bytes=0)
        self._process.stdin.write(work.model_dump_json().encode() + b"\n")

    async def reply(self) -> Reply | None:
        """What the child says next; None when it is gone."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            return None
        self._last = Reply.model_validate_json(line)
        return self._last

    def is_worn(self, images_per_child: int) -> bool:
        grown = self._last.resident_kb - (self._ready.resident_kb if self._ready else 0)
        return self._last.images >= images_per_child or grown > _MAX_GROWTH_KB

    async def stop(self) -> None:
        """Kills the child with whatever it may have started; returns once it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(ConnectionError):
            await self._process.communicate()
        self.position.close()


class DecodeChildren:
    """One decode child at a time, replaced when it dies, hangs or is worn. For one chunk at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._child: _Child | None = None
        self._one_chunk = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()

    @property
    def pid(self) -> int | None:
        """The running child's process id."""
        return None if self._child is None else self._child.pid

    async def start(self) -> None:
        """Starts the child now, so that the next image need not wait for it. Raises ChunkError."""
        async with self._one_chunk:
            await self._running()

    async def judge(self, work: ChunkWork, watch: Callable[[At], None]) -> dict[int, Columns]:
        """Verdict columns for every row of the work, by place. `watch` hears the sums as they grow.

        Raises WorkAreaFull, or ChunkError when no decoder can be kept alive. When cancelled, the child is killed.
        """
        async with self._one_chunk:
            try:
                return await self._judge(work, watch)
            except BaseException:
                await asyncio.shield(self._drop())  # it may be in the middle of anything
                raise
            finally:
                work.journal.unlink(missing_ok=True)

    async def _judge(self, work: ChunkWork, watch: Callable[[At], None]) -> dict[int, Columns]:
        deadline = time.monotonic() + self._limits.chunk_seconds
        lost: dict[int, Columns] = {}
        suspects: set[int] = set()
        idle_deaths = 0
        while todo := _open_rows(work, done := _journaled(work.journal) | lost):
            child = await self._running()
            child.send(work.model_copy(update={"rows": todo}))
            end = await self._wait(child, deadline, len(todo), partial(_tell, watch, _sums(done)))
            if end is _End.DISK_FULL:
                raise WorkAreaFull("the work volume is full")
            if end is _End.FINISHED:
                await self._drop_if_worn()
                return _complete(work, _journaled(work.journal) | lost)
            _EVENTS["too_slow" if end is _End.TOO_SLOW else "died"].inc()
            place = child.position.read().place
            await self._drop()
            if place is not None and place not in _journaled(work.journal):
                idle_deaths = 0
                if end is _End.DIED and place not in suspects and len(suspects) < _SECOND_TRIES:
                    suspects.add(place)
                else:
                    lost[place] = _lost(end)
            elif (idle_deaths := idle_deaths + 1) >= _MAX_IDLE_DEATHS:
                raise ChunkError("the decoder keeps dying before it begins an image")
        return done

    async def _running(self) -> _Child:
        if self._child is None:
            self._child = await _Child.start(self._limits.memory_mb)
            _EVENTS["started"].inc()
            await self._child.ready()
        return self._child

    async def _wait(self, child: _Child, deadline: float, rows: int, watch: Callable[[At], None]) -> _End:
        """Looks after the child until it answers, dies or takes too long."""
        answer, stand = asyncio.ensure_future(child.reply()), Stand(time.monotonic())
        try:
            while True:
                await asyncio.wait({answer}, timeout=_LOOK)
                at = child.position.read()
                watch(at)
                if answer.done():
                    return _end_of(answer.result())
                now = time.monotonic()
                allowed = allowance(self._limits, left_seconds=deadline - now, left_rows=rows - at.done)
                if stand.look(at.place, now) > allowed:
                    return _End.TOO_SLOW
        finally:
            answer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answer

    async def _drop_if_worn(self) -> None:
        if self._child is not None and self._child.is_worn(self._limits.images_per_child):
            await self._drop()

    async def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop()


def child_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What a child may know of our environment: where its code is, that it has one thread, how it keeps memory."""
    kept = {name: own[name] for name in _ENVIRONMENT if name in own}
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} | _ALLOCATOR


def _end_of(reply: Reply | None) -> _End:
    if reply is None:
        return _End.DIED
    return _End.DISK_FULL if reply.is_disk_full else _End.FINISHED


def _lost(end: _End) -> Columns:
    if end is _End.TOO_SLOW:
        return {"reason": Reason.DECODER_TIMEOUT.value, "detail": "decoding took too long"}
    return {"reason": Reason.DECODER_CRASHED.value, "detail": "the decoder died"}


def _open_rows(work: ChunkWork, done: dict[int, Columns]) -> tuple[WorkRow, ...]:
    return tuple(row for row in work.rows if row.place not in done)


def _journaled(journal: Path) -> dict[int, Columns]:
    """The verdicts that were written; a last line that was cut is not."""
    if not journal.exists():
        return {}
    verdicts: dict[int, Columns] = {}
    for line in journal.read_bytes().splitlines(keepends=True):
        with contextlib.suppress(json.JSONDecodeError):
            columns = json.loads(line)
            verdicts[columns.pop("place")] = columns
    return verdicts


def _sums(done: dict[int, Columns]) -> At:
    accepted = [columns for columns in done.values() if "reason" not in columns]
    stored = sum(int(columns["length"] or 0) for columns in accepted)
    return At(None, len(done), len(accepted), stored)


def _tell(watch: Callable[[At], None], before: At, at: At) -> None:
    """Passes on a position with what earlier children had done."""
    watch(
        replace(
            at,
            done=before.done + at.done,
            accepted=before.accepted + at.accepted,
            stored_bytes=before.stored_bytes + at.stored_bytes,
        )
    )


def _complete(work: ChunkWork, done: dict[int, Columns]) -> dict[int, Columns]:
    if _open_rows(work, done):
        raise ChunkError("the decoder left images out")
    return done
