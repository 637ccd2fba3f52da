"""Admission is arithmetic: tables of cells and what may be let in."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from scheduler.admission import GB, MB, Cell, ChunkNeeds, Shut, WorkerReport, decide, learned_needs, room
from shared.capacity import UNLIMITED_INODES, CellReport

AMPLE = CellReport(
    free_bytes=500 * GB,
    total_bytes=1000 * GB,
    free_inodes=10_000_000,
    memory_available_bytes=64 * GB,
    memory_total_bytes=64 * GB,
)


def cell(name: str = "main", *, age_seconds: float = 1, was_shut: Shut | None = None, **fields: Any) -> Cell:
    """A cell with ample room, but for the fields given: of the report or of the cell."""
    measured = {key: fields.pop(key) for key in list(fields) if hasattr(AMPLE, key)}
    report = WorkerReport(measured=replace(AMPLE, **measured), age=timedelta(seconds=age_seconds))
    return Cell(name=name, reports=(report,), was_shut=was_shut, **fields)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        # plenty of everything: far more than 35
        (cell(), (496, None)),
        # the user's case: 35 x 250 MB above the 2 GB floor of a large disk
        (cell(free_bytes=10_750 * MB), (35, None)),
        # a byte less: one chunk less
        (cell(free_bytes=10_750 * MB - 1), (34, None)),
        # a small volume keeps 5 % (500 MB of 10 GB), not 2 GB
        (cell(total_bytes=10 * GB, free_bytes=1 * GB), (2, None)),
        # what chunks in flight have still to write is spoken for: 4 x 250 - 400 = 600 MB
        (cell(free_bytes=3_600 * MB, in_flight=4, written_bytes=400 * MB), (4, None)),
        # chunks that grew beyond their estimate reserve nothing, and give nothing back
        (cell(free_bytes=3 * GB, in_flight=1, written_bytes=900 * MB), (4, None)),
        # no room, but nothing in flight either: the one chunk that fits goes in, below the floor
        (cell(free_bytes=300 * MB), (1, None)),
        # … and not while one is in flight
        (cell(free_bytes=300 * MB, in_flight=1), (0, Shut.DISK)),
        # … nor when it does not fit at all
        (cell(free_bytes=249 * MB), (0, Shut.DISK)),
        # a shut disk opens at 1.5 x 2 GB, not at the first chunk that would fit
        (cell(free_bytes=2_900 * MB, in_flight=1, written_bytes=250 * MB, was_shut=Shut.DISK), (0, Shut.DISK)),
        (cell(free_bytes=3_000 * MB, in_flight=1, written_bytes=250 * MB, was_shut=Shut.DISK), (4, None)),
        # the same free space while it was open
        (cell(free_bytes=2_900 * MB, in_flight=1, written_bytes=250 * MB), (3, None)),
        # a shut and drained cell starts again with one
        (cell(free_bytes=2_900 * MB, was_shut=Shut.DISK), (1, None)),
        # inodes decide: (1,000 + 64) - 1,000 = two chunks
        (cell(free_inodes=1_064), (2, None)),
        (cell(free_inodes=31), (0, Shut.INODES)),
        (cell(free_inodes=UNLIMITED_INODES), (496, None)),
        # memory decides: (1,536 - 512) / 128
        (cell(memory_available_bytes=1_536 * MB), (8, None)),
        # chunks that wait for a worker will want theirs
        (cell(memory_available_bytes=1_536 * MB, in_flight=5, not_started=5), (3, None)),
        (cell(memory_available_bytes=1_536 * MB, in_flight=9, not_started=9), (0, Shut.MEMORY)),
        # a container of 512 MB keeps a quarter free, not all of it
        (cell(memory_available_bytes=400 * MB, memory_total_bytes=512 * MB), (2, None)),
        (cell(memory_available_bytes=127 * MB), (0, Shut.MEMORY)),
        # a report of 20 s still counts, an older one does not
        (cell(age_seconds=20), (496, None)),
        (cell(age_seconds=20.1), (0, Shut.NOBODY_REPORTS)),
        (Cell(name="main", reports=()), (0, Shut.NOBODY_REPORTS)),
    ],
)
def test_room_in_a_cell(one: Cell, expected: tuple[int, Shut | None]) -> None:
    found = room(one, ChunkNeeds())

    assert found == expected


def test_the_tightest_report_of_a_shared_volume_counts() -> None:
    roomy, tight = cell(), cell(free_bytes=3 * GB)

    both = Cell(name="main", reports=(*roomy.reports, *tight.reports))

    assert room(both, ChunkNeeds()) == (4, None)


@pytest.mark.parametrize(
    ("is_own", "hosts", "expected"),
    [
        # the machine's memory is the same for all its workers, whatever their containers are called
        (False, ("a", "b", "c"), 4),
        # three containers with a limit each
        (True, ("a", "b", "c"), 12),
        # three workers in one container with a limit
        (True, ("a", "a", "a"), 4),
        # nobody says which container: the careful answer
        (True, ("", "", ""), 4),
    ],
)
def test_each_memory_counts_once(is_own: bool, hosts: tuple[str, ...], expected: int) -> None:
    one = cell(memory_available_bytes=1_024 * MB, memory_is_own=is_own).reports[0]

    reports = tuple(replace(one, host=host) for host in hosts)

    assert room(Cell(name="main", reports=reports), ChunkNeeds()) == (expected, None)


def test_never_more_than_the_free_slots_of_the_whole_system() -> None:
    decision = decide([cell()], in_flight=33)

    assert decision.places == ("main", "main")
    assert decision.why is None


def test_no_free_slot_is_the_reason_given() -> None:
    decision = decide([cell()], in_flight=35)

    assert (decision.count, decision.why) == (0, Shut.SLOTS)


def test_more_slots_in_use_than_there_are_now_is_no_error() -> None:
    assert decide([cell()], max_chunks=10, in_flight=35).count == 0


def test_chunks_go_where_most_room_is_left() -> None:
    large, small = cell("large", free_bytes=3_000 * MB), cell("small", free_bytes=2_500 * MB)

    decision = decide([small, large])

    assert decision.places == ("large", "large", "large", "small", "large", "small")


def test_a_dead_cell_does_not_hide_what_a_living_one_lacks() -> None:
    dead, full = Cell(name="dead", reports=()), cell("full", free_bytes=100 * MB)

    decision = decide([dead, full])

    assert decision.why is Shut.DISK
    assert decision.shut == {"dead": Shut.NOBODY_REPORTS, "full": Shut.DISK}


def test_without_any_cell_nobody_reports() -> None:
    assert decide([]).why is Shut.NOBODY_REPORTS


def test_a_cell_without_a_downloader_takes_nothing_though_others_report() -> None:
    validator = replace(cell().reports[0], is_first_stage=False)

    assert room(Cell(name="main", reports=(validator,)), ChunkNeeds()) == (0, Shut.NOBODY_REPORTS)


def test_a_validator_tells_of_the_memory_it_shares_with_the_downloader() -> None:
    downloader = cell().reports[0]
    validator = replace(cell(memory_available_bytes=1_536 * MB).reports[0], is_first_stage=False)

    assert room(Cell(name="main", reports=(downloader, validator)), ChunkNeeds()) == (8, None)


def test_a_full_disk_that_slowly_empties_does_not_flap() -> None:
    states: list[bool] = []
    was_shut: Shut | None = None

    for free_mb in (2_300, 2_200, 2_400, 2_200, 2_900, 3_100, 2_300, 2_200):
        now = cell(free_bytes=free_mb * MB, in_flight=1, written_bytes=250 * MB, was_shut=was_shut)
        decision = decide([now], in_flight=1)
        was_shut = decision.shut.get("main")
        states.append(decision.count > 0)

    assert states == [True, False, False, False, False, True, True, False]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # too few to believe
        ([10 * MB] * 19, 250 * MB),
        # all alike: a quarter more
        ([80 * MB] * 20, 100 * MB),
        # one giant in a hundred does not count for all
        ([80 * MB] * 99 + [9 * GB], 100 * MB),
        # chunks of dead links do not make room look endless
        ([0] * 50, 16 * MB),
    ],
)
def test_what_a_chunk_takes_is_learned(sizes: list[int], expected: int) -> None:
    assert learned_needs(sizes).disk_bytes == expected
