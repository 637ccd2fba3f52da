"""How many chunks may be let in now, and to which cell: by free slots, disk, inodes and memory.

For each cell:

    free − floor − what chunks in flight have still to write      room on disk
    ───────────────────────────────────────────────────────  =
                     bytes a chunk needs

The same for inodes and for memory; the scarcest decides. A cell that ran out opens again only above 1.5 × the floor,
so that it does not flap. An empty cell takes one chunk as long as that one fits at all, floor or not: a small machine
is slow, not stuck. Values in, values out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from shared.capacity import CellReport
from shared.pipeline import MAX_CHUNKS

MB = 10**6
GB = 10**9

#: A volume keeps the smaller of this share and this size free.
DISK_FLOOR_SHARE = 0.05
DISK_FLOOR_BYTES = 2 * GB
#: A worker's memory keeps the smaller of this size and this share free (a container may have 512 MB in all).
MEMORY_FLOOR_BYTES = 512 * MB
MEMORY_FLOOR_SHARE = 0.25
#: For what else lives on the volume.
INODE_FLOOR = 1_000
#: Where a cell that ran out opens again, as a multiple of the floor.
RESUME = 1.5
#: A worker that has not reported for this long says nothing about its cell.
STALE = timedelta(seconds=20)


class Shut(StrEnum):
    """Why no chunk is let in; the value is shown to clients and labels a metric."""

    NOBODY_REPORTS = "nobody_reports"  #: no downloader of any cell is alive
    SLOTS = "slots"  #: all of `max_chunks` are in flight
    DISK = "disk"
    INODES = "inodes"
    MEMORY = "memory"
    PAUSED = "paused"  #: an administrator paused the first stage


@dataclass(frozen=True, kw_only=True)
class ChunkNeeds:
    """What one chunk takes; learned from recent chunks, and this until there are any."""

    #: The user's figure: 20,000 images take about 10 GB.
    disk_bytes: int = 250 * MB
    memory_bytes: int = 128 * MB
    #: Packs and tables of three stages, with their folders and the files they are renamed from.
    inodes: int = 32


#: So many chunks must have ended before their sizes are believed.
MIN_SAMPLES = 20
#: Nineteen in twenty chunks were smaller; and a quarter more, for those to come.
LEARNED_PERCENTILE = 0.95
LEARNED_MARGIN = 1.25
MIN_CHUNK_BYTES = 16 * MB


def learned_needs(work_bytes: Sequence[int]) -> ChunkNeeds:
    """What the next chunk will take, from what recent ones took on the work volume."""
    if len(work_bytes) < MIN_SAMPLES:
        return ChunkNeeds()
    large = sorted(work_bytes)[int(LEARNED_PERCENTILE * (len(work_bytes) - 1))]
    return ChunkNeeds(disk_bytes=max(MIN_CHUNK_BYTES, int(large * LEARNED_MARGIN)))


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """One worker's measurement and how old it is."""

    measured: CellReport
    age: timedelta
    #: The host name the worker sees, which is the container's: workers of one container share its memory.
    host: str = ""
    #: Whether it is of the stage that takes what is let in. The others tell of disk and memory all the same.
    is_first_stage: bool = True


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A work volume, the workers that share it, and the chunks that hold a slot there."""

    name: str
    reports: tuple[WorkerReport, ...]
    #: Chunks holding a slot in this cell.
    in_flight: int = 0
    #: Those among them in a `…_ready` state, whose memory no report shows.
    not_started: int = 0
    #: What chunks in flight have on the volume already.
    written_bytes: int = 0
    #: Why the cell was shut when it was last looked at.
    was_shut: Shut | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Which slots may be filled now."""

    #: The cell for each chunk to let in, in order.
    places: tuple[str, ...]
    #: For each cell that would take no more: why. To be handed back as `was_shut`.
    shut: Mapping[str, Shut]
    #: Why nothing may be let in at all; None when something may.
    why: Shut | None

    @property
    def count(self) -> int:
        return len(self.places)


def decide(
    cells: Collection[Cell], *, needs: ChunkNeeds | None = None, max_chunks: int = MAX_CHUNKS, in_flight: int = 0
) -> Decision:
    """Which slots may be filled now. `in_flight` counts all chunks holding a slot, in whatever cell."""
    needs = needs or ChunkNeeds()
    rooms = {cell.name: room(cell, needs) for cell in cells}
    shut = {name: why for name, (_, why) in rooms.items() if why is not None}
    free_slots = max(0, max_chunks - in_flight)
    places = _spread({name: chunks for name, (chunks, _) in rooms.items()}, free_slots)
    return Decision(places=places, shut=shut, why=None if places else _why(rooms.values(), free_slots))


def room(cell: Cell, needs: ChunkNeeds) -> tuple[int, Shut | None]:
    """How many more chunks fit into a cell; and when none does, what is missing."""
    alive = [report for report in cell.reports if report.age <= STALE]
    if not any(report.is_first_stage for report in alive):
        return 0, Shut.NOBODY_REPORTS
    fresh = [report.measured for report in alive]
    fitting = {
        Shut.DISK: _fitting_disk(cell, fresh, needs),
        Shut.INODES: _fitting_inodes(cell, fresh, needs),
        Shut.MEMORY: _fitting_memory(cell, _memories(alive), needs),
    }
    scarcest = min(fitting, key=lambda kind: fitting[kind])
    if fitting[scarcest] > 0:
        return fitting[scarcest], None
    return (1, None) if cell.in_flight == 0 and _one_fits(fresh, needs) else (0, scarcest)


def _fitting_disk(cell: Cell, fresh: list[CellReport], needs: ChunkNeeds) -> int:
    free = min(report.free_bytes for report in fresh)
    floor = min(DISK_FLOOR_BYTES, DISK_FLOOR_SHARE * min(report.total_bytes for report in fresh))
    unwritten = max(0, cell.in_flight * needs.disk_bytes - cell.written_bytes)
    return _fitting(free - unwritten, floor, needs.disk_bytes, was_shut=cell.was_shut is Shut.DISK)


def _fitting_inodes(cell: Cell, fresh: list[CellReport], needs: ChunkNeeds) -> int:
    free = min(report.free_inodes for report in fresh) - cell.in_flight * needs.inodes
    return _fitting(free, INODE_FLOOR, needs.inodes, was_shut=cell.was_shut is Shut.INODES)


def _fitting_memory(cell: Cell, memories: list[CellReport], needs: ChunkNeeds) -> int:
    was_shut = cell.was_shut is Shut.MEMORY
    fitting = sum(
        _fitting(memory.memory_available_bytes, _memory_floor(memory), needs.memory_bytes, was_shut=was_shut)
        for memory in memories
    )
    return fitting - cell.not_started


def _memories(alive: list[WorkerReport]) -> list[CellReport]:
    """One report for each memory: containers' own add up, what belongs to the host counts once."""
    tightest: dict[str | None, CellReport] = {}
    for report in sorted(alive, key=lambda report: report.measured.memory_available_bytes):
        tightest.setdefault(report.host if report.measured.memory_is_own else None, report.measured)
    return list(tightest.values())


def _memory_floor(report: CellReport) -> float:
    return min(MEMORY_FLOOR_BYTES, MEMORY_FLOOR_SHARE * report.memory_total_bytes)


def _fitting(free: float, floor: float, need: int, *, was_shut: bool) -> int:
    if was_shut and free < RESUME * floor:
        return 0
    return max(0, int((free - floor) // max(1, need)))


def _one_fits(fresh: list[CellReport], needs: ChunkNeeds) -> bool:
    return (
        min(report.free_bytes for report in fresh) >= needs.disk_bytes
        and min(report.free_inodes for report in fresh) >= needs.inodes
        and max(report.memory_available_bytes for report in fresh) >= needs.memory_bytes
    )


def _spread(rooms: Mapping[str, int], free_slots: int) -> tuple[str, ...]:
    """The cells for the next chunks, each time the one with most room left; by name among equals."""
    left = dict(sorted(rooms.items()))
    places: list[str] = []
    while left and len(places) < free_slots:
        roomiest = max(left, key=lambda name: left[name])
        if left[roomiest] <= 0:
            break
        left[roomiest] -= 1
        places.append(roomiest)
    return tuple(places)


def _why(rooms: Collection[tuple[int, Shut | None]], free_slots: int) -> Shut:
    """What to tell: what a living cell lacks is worth more than that another is dead."""
    if not free_slots:
        return Shut.SLOTS
    reasons = [why for _, why in rooms if why is not None and why is not Shut.NOBODY_REPORTS]
    return reasons[0] if reasons else Shut.NOBODY_REPORTS
