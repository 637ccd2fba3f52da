"""A job of 10,000,000 images over many workers, chunk by chunk, on a clock of its own: what is busy all the time?

The decisions are the product's own: `scheduler.priority` places every chunk and moves the virtual clock,
`scheduler.admission` says at each pass how many may be let in and where. What takes time is given: how long a chunk
keeps a worker of each stage, and how long the leading scheduler and PostgreSQL are busy with one chunk. In the middle
a new tenant submits a job of 2,000 images; how long it waits for its first chunk is written down.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from scheduler.admission import GB, MB, Cell, ChunkNeeds, WorkerReport, decide
from scheduler.priority import offset_after, offset_at_pass, places
from shared.capacity import CellReport
from shared.pipeline import CHUNK_ROWS, PIPELINE, Tier

_BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
_LONG_AGO = _BEGAN - timedelta(days=400)
#: The scheduler looks at least this often; it is woken when a chunk ends.
_TICK = 1.0
_SMALL_JOB_CHUNKS = 4
#: The line of work that there is once.
BOOKKEEPING = "bookkeeping"


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a chunk of 500 rows takes, seconds; measured, see the guide."""

    #: By stage: how long it keeps one of a worker's places.
    stage_seconds: dict[str, float]
    #: How long the scheduler's and the database's one line of work is busy with it, over its whole life.
    bookkeeping_seconds: float
    work_bytes: int


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """How many workers there are, and how many chunks each has at once."""

    workers: dict[str, int]
    concurrency: dict[str, int]
    max_chunks: int

    def places(self, stage: str) -> int:
        return self.workers[stage] * self.concurrency[stage]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the large job, and what was busy."""

    seconds: float
    images: int
    #: Share of the time that each stage's places, the slots and the bookkeeping were busy.
    busy: dict[str, float]
    #: Until the first chunk of the small job was let in, and until its last had ended.
    small_waited_seconds: float
    small_seconds: float

    @property
    def images_a_day(self) -> float:
        return self.images / self.seconds * 86_400


@dataclass
class _Line:
    """Chunks before a resource, and its busy time."""

    places: int
    waiting: deque[int] = field(default_factory=deque)
    taken: int = 0
    busy_seconds: float = 0.0


class Simulation:
    """One run. Chunk numbers from `chunks` on are the small job's."""

    def __init__(self, fleet: Fleet, costs: Costs, *, chunks: int) -> None:
        self._fleet, self._costs, self._chunks = fleet, costs, chunks
        self._now, self._offset, self._passed_at = 0.0, 0.0, 0.0
        self._waiting: list[tuple[float, int, float, str]] = []
        self._events: list[tuple[float, int, str, int]] = []
        self._lines = {stage.name: _Line(fleet.places(stage.name)) for stage in PIPELINE} | {BOOKKEEPING: _Line(1)}
        self._in_flight: set[int] = set()
        self._slot_seconds, self._ended = 0.0, 0
        self._admitted_at: dict[int, float] = {}
        self._small_ended = 0.0
        self._large_ended = 0.0
        self._numbers = iter(range(10**12))

    def run(self) -> Outcome:
        self._plan(0, self._chunks, Tier.FREE, _LONG_AGO)
        self._at(0.0, "pass", 0)
        middle = self._estimated_seconds() / 2
        self._at(middle, "small", 0)
        while self._ended < self._chunks + _SMALL_JOB_CHUNKS:
            at, _, kind, chunk = heapq.heappop(self._events)
            self._slot_seconds += (at - self._now) * len(self._in_flight)
            self._now = at
            self._happen(kind, chunk)
        small = range(self._chunks, self._chunks + _SMALL_JOB_CHUNKS)
        return Outcome(
            seconds=self._large_ended,
            images=self._chunks * CHUNK_ROWS,
            busy=self._busy(),
            small_waited_seconds=min(self._admitted_at[chunk] for chunk in small) - middle,
            small_seconds=self._small_ended - middle,
        )

    def _happen(self, kind: str, chunk: int) -> None:
        if kind == "pass":
            self._admit()
            self._at(self._now + _TICK, "pass", 0)
        elif kind == "small":
            self._plan(self._chunks, _SMALL_JOB_CHUNKS, Tier.FREE, self._today())
            self._admit()
        else:
            self._leave(kind, chunk)

    def _plan(self, first: int, count: int, plan: Tier, created_at: datetime) -> None:
        """Places the chunks of a job as the planner does."""
        placed = places(
            [CHUNK_ROWS] * count,
            clock=self._now + self._offset,
            tenant_last=float("-inf"),
            plan=plan,
            created_at=created_at,
            now=self._today(),
            rows_planned=0,
        )
        for chunk, place in enumerate(placed, first):
            heapq.heappush(self._waiting, (place.score, chunk, place.virtual_start, place.tier))

    def _admit(self) -> None:
        """A pass of the scheduler."""
        next_start = self._waiting[0][2] if self._waiting else None
        elapsed, self._passed_at = self._now - self._passed_at, self._now
        self._offset = offset_at_pass(offset=self._offset, now=self._now, elapsed=elapsed, next_start=next_start)
        decision = decide(
            [self._cell()],
            needs=ChunkNeeds(disk_bytes=self._costs.work_bytes),
            max_chunks=self._fleet.max_chunks,
            in_flight=len(self._in_flight),
        )
        for _ in range(min(decision.count, len(self._waiting))):
            _, chunk, start, _ = heapq.heappop(self._waiting)
            self._offset = offset_after(offset=self._offset, now=self._now, virtual_start=start)
            self._in_flight.add(chunk)
            self._admitted_at[chunk] = self._now
            self._arrive(BOOKKEEPING, chunk)

    def _cell(self) -> Cell:
        """One cell with room for all: what is asked is how far the workers go."""
        roomy = CellReport(
            free_bytes=10**6 * GB,
            total_bytes=10**6 * GB,
            free_inodes=10**12,
            memory_available_bytes=10**6 * GB,
            memory_total_bytes=10**6 * GB,
        )
        return Cell(
            name="main",
            reports=(WorkerReport(measured=roomy, age=timedelta(0)),),
            in_flight=len(self._in_flight),
            written_bytes=len(self._in_flight) * 64 * MB,
        )

    def _arrive(self, name: str, chunk: int) -> None:
        self._lines[name].waiting.append(chunk)
        self._serve(name)

    def _serve(self, name: str) -> None:
        line = self._lines[name]
        while line.waiting and line.taken < line.places:
            chunk = line.waiting.popleft()
            seconds = self._seconds(name)
            line.taken += 1
            line.busy_seconds += seconds
            self._at(self._now + seconds, name, chunk)

    def _leave(self, name: str, chunk: int) -> None:
        self._lines[name].taken -= 1
        self._serve(name)
        following = self._following(name)
        if following is not None:
            self._arrive(following, chunk)
            return
        self._in_flight.discard(chunk)
        self._ended += 1
        if chunk >= self._chunks:
            self._small_ended = self._now
        else:
            self._large_ended = self._now
        self._admit()

    def _following(self, name: str) -> str | None:
        order = [BOOKKEEPING, *(stage.name for stage in PIPELINE)]
        place = order.index(name) + 1
        return order[place] if place < len(order) else None

    def _seconds(self, name: str) -> float:
        return self._costs.bookkeeping_seconds if name == BOOKKEEPING else self._costs.stage_seconds[name]

    def _estimated_seconds(self) -> float:
        """As long as the slowest line needs; only to place the small job somewhere in the middle."""
        return self._chunks * max(self._seconds(name) / line.places for name, line in self._lines.items())

    def _busy(self) -> dict[str, float]:
        lines = {name: line.busy_seconds / (line.places * self._now) for name, line in self._lines.items()}
        return lines | {"slots": self._slot_seconds / (self._fleet.max_chunks * self._now)}

    def _at(self, moment: float, kind: str, chunk: int) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), kind, chunk))

    def _today(self) -> datetime:
        return _BEGAN + timedelta(seconds=self._now)


def fleets() -> Iterator[tuple[str, Fleet]]:
    """From the defaults on one machine to many, each step what the one before lacks."""
    concurrency = {"download": 7, "validate": 1, "upload": 7}
    for name, download, validate, upload, max_chunks in (
        ("the defaults: 5 downloaders", 5, 2, 1, 35),
        ("validators on 8 cores", 5, 8, 1, 35),
        ("more slots", 5, 8, 2, 105),
        ("10 downloaders, 20 cores", 10, 20, 3, 210),
        ("20 downloaders, 40 cores", 20, 40, 6, 420),
        ("40 downloaders, 80 cores", 40, 80, 12, 840),
        ("80 downloaders, 160 cores", 80, 160, 24, 1_680),
    ):
        workers = {"download": download, "validate": validate, "upload": upload}
        yield name, Fleet(workers=workers, concurrency=concurrency, max_chunks=max_chunks)
