"""The simulation's costs, from what was measured, and its table."""

from collections.abc import Mapping

from scheduler.admission import MB
from shared.pipeline import CHUNK_ROWS, PIPELINE
from tests.bench.page import Section, Table
from tests.capacity.simulation import BOOKKEEPING, Costs, Outcome, Simulation, fleets

_CHUNKS = 20_000
#: Milliseconds of CPU an image by stage, where nothing was measured; see `line` for the bookkeeping.
USUAL_CPU_MS = {"download": 0.8, "validate": 3.8, "upload": 0.9, "bookkeeping": 0.05}
#: How long an image of the web takes from the request to its last byte, and transfers that a child of a downloader
#: keeps open (512 a container, shared by 7).
_FETCH_SECONDS, _TRANSFERS = 1.5, 512 / 7
#: How long the store takes to confirm an object of 180 kB, and objects put at once.
_PUT_SECONDS, _PUTS = 0.05, 16
_IMAGE_BYTES = 180_000
#: A stage is what holds everything up when it is busy for so much of the time; else it is the slots.
_IS_FULL = 0.95


def costs_of(cpu_ms: Mapping[str, float]) -> Costs:
    """What a chunk takes: a stage computes and waits at the same time, so the longer of both counts."""
    computing = {name: CHUNK_ROWS * ms / 1000 for name, ms in cpu_ms.items()}
    waiting = {
        "download": CHUNK_ROWS * _FETCH_SECONDS / _TRANSFERS,
        "validate": 0.0,
        "upload": CHUNK_ROWS * _PUT_SECONDS / _PUTS,
    }
    return Costs(
        stage_seconds={stage.name: max(computing[stage.name], waiting[stage.name]) for stage in PIPELINE},
        bookkeeping_seconds=computing[BOOKKEEPING],
        work_bytes=CHUNK_ROWS * _IMAGE_BYTES + 16 * MB,
    )


def bottleneck(found: Outcome) -> str:
    """What more workers of one kind, or more slots, would relieve."""
    stages = {name: share for name, share in found.busy.items() if name != "slots"}
    busiest = max(stages, key=lambda name: stages[name])
    return busiest if stages[busiest] >= _IS_FULL else "slots"


def section(cpu_ms: Mapping[str, float]) -> Section:
    costs = costs_of(cpu_ms)
    rows = [_row(name, Simulation(fleet, costs, chunks=_CHUNKS).run()) for name, fleet in fleets()]
    given = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in costs.stage_seconds.items())
    return Section(
        title="10,000,000 images over many workers",
        text=(
            "Simulated chunk by chunk with the product's own admission and priority: "
            f"{_CHUNKS:,} chunks of {CHUNK_ROWS} rows of one tenant. A chunk keeps a worker's place for: {given}; and "
            f"the scheduler with its database for {1000 * costs.bookkeeping_seconds:.0f} ms. CPU is as measured "
            f"above; an image of the web is taken to need {_FETCH_SECONDS} s and 180 kB. In the middle a new "
            "tenant submits 2,000 images. *Busy* is the share of the time in which a stage's places were taken; the "
            "bottleneck is what to scale next. Gbit/s is what the downloaders receive."
        ),
        tables=[
            Table(
                (
                    "workers",
                    "hours",
                    "million a day",
                    "download busy, %",
                    "validate, %",
                    "upload, %",
                    "scheduler, %",
                    "Gbit/s",
                    "small job: first chunk in, s",
                    "done, s",
                    "bottleneck",
                ),
                rows,
            )
        ],
    )


def _row(name: str, found: Outcome) -> tuple[str, ...]:
    busy = [f"{100 * found.busy[line]:.0f}" for line in (*(stage.name for stage in PIPELINE), BOOKKEEPING)]
    gigabits = found.images / found.seconds * _IMAGE_BYTES * 8 / 1e9
    return (
        name,
        f"{found.seconds / 3600:.2f}",
        f"{found.images_a_day / 1e6:.0f}",
        *busy,
        f"{gigabits:.1f}",
        f"{found.small_waited_seconds:.1f}",
        f"{found.small_seconds:.0f}",
        bottleneck(found),
    )
