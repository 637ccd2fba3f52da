"""Whole commands against img2dataset on the same list, in alternating pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.names import NAMES
from tests.bench.page import Section, Table
from tests.bench.pixels import largest_difference
from tests.bench.runs import LATE_MS, Ground, Run, run_ours, run_peer

_NO = "--resize_mode=no"
_ORIGINAL = ("--output-format", "webdataset", "--image-format", "original")
_TO_256 = ("--resize-mode", "border", "--image-size", "256", "--image-format", "jpeg")


@dataclass(frozen=True)
class Pair:
    """Our choices, the peer's, and what is to be reached: times its images a second, and times its CPU."""

    name: str
    ours: Sequence[str]
    peer: Sequence[str]
    speed: float
    cpu: float | None = None


_NEAREST = (_NO, "--skip_reencode=True")
_UNCHECKED = (_NO, "--disable_all_reencoding=True")
_PAIRS = (
    Pair("standard, files; resize_mode=no", ("--depth", "standard"), (_NO,), 5, 0.22),
    Pair(
        "standard, webdataset; resize_mode=no",
        ("--depth", "standard", *_ORIGINAL),
        (_NO, "--output_format=webdataset"),
        5,
        0.22,
    ),
    Pair("structure, files; resize_mode=no", ("--depth", "structure"), (_NO,), 10, 0.09),
    Pair("structure, files; disable_all_reencoding", ("--depth", "structure"), _UNCHECKED, 2.5, 0.42),
    Pair("full, files; skip_reencode", ("--depth", "full"), _NEAREST, 1.8),
    Pair("to 256 pixels; the same", _TO_256, (), 2.5),
)
#: Images a second wanted with a far origin.
_LATE = (("structure", 900), ("standard", 450))


def compare(ground: Ground, rounds: int) -> Section:
    """Every pair as often as asked, ours and the peer's in turn; medians of each."""
    _warm_up(ground)
    rows = [_compared(ground, pair, rounds) for pair in _PAIRS]
    return Section(
        title="End to end",
        text=(
            f"Whole processes on {ground.corpus.describe()}, under {len(NAMES)} host names, {rounds} alternating pairs "
            "each, medians. Time is from the command to the finished dataset (for PixCrawler to `_SUCCESS`, "
            "five services, PostgreSQL and Valkey started from a kept data folder); CPU is that of all of the "
            "contender's processes, without the origin's. *Lost* are good images that are not in the dataset, *kept* "
            "are broken ones that are. img2dataset ran with 2 processes of 64 threads."
        ),
        tables=[
            Table(
                (
                    *("ours; img2dataset", "images/s", "", "times", "goal", "CPU-s/1000", "", "times", "goal"),
                    *("first fetch, s", "lost / kept", ""),
                ),
                rows,
            )
        ],
    )


def compare_pixels(ground: Ground) -> Section:
    """The images of 256 pixels that both make, side by side."""
    difference = largest_difference(ground, _TO_256)
    return Section(
        title="The same pixels",
        text="Images resized to 256 pixels by both, decoded and compared; 255 is the whole range.",
        tables=[Table(("images", "mean difference, median image", "mean difference, worst image"), [difference])],
    )


def far_origin(ground: Ground, rounds: int) -> Section:
    """As above, each answer late."""
    rows = [
        (depth, _whole(median(run.images_per_second for run in runs)), f"≥ {goal}", *_usage(runs), _right(runs))
        for depth, goal in _LATE
        if (runs := [run_ours(ground, ("--depth", depth), is_late=True) for _ in range(rounds)])
    ]
    return Section(
        title="A far origin",
        text=f"Each answer comes {LATE_MS} ms late, on {len(NAMES)} hosts. Medians of {rounds}.",
        tables=[Table(("depth", "images/s", "goal", "CPU-s/1000", "most connections", "lost / kept"), rows)],
    )


def anatomy(ground: Ground) -> Section:
    """Who used memory and CPU in one run."""
    _warm_up(ground)
    return Section(
        title="Memory and CPU by program",
        text=(
            "One run each, looked at ten times a second. Memory is PSS, its peaks; packs that lie in the page cache "
            "and are mapped are included. CPU is in seconds for the whole run, starts included."
        ),
        tables=[
            _programs(f"{run.contender}, {choice}", run)
            for choice, run in (
                ("structure", run_ours(ground, ("--depth", "structure"), is_watched=True)),
                ("standard", run_ours(ground, ("--depth", "standard"), is_watched=True)),
            )
        ],
    )


def _warm_up(ground: Ground) -> None:
    """Makes the database, and reads the corpus into the page cache."""
    run_ours(ground, ("--depth", "structure"))


def _programs(name: str, run: Run) -> Table:
    assert run.watched is not None, "asked for"
    seen = run.watched
    busiest = sorted(seen.cpu_seconds, key=lambda program: -seen.cpu_seconds[program])
    rows: list[Sequence[str]] = [
        (
            *(program, f"{seen.cpu_seconds[program]:.1f}"),
            *(f"{seen.largest_mb.get(program, 0):.0f}", f"{seen.total_mb.get(program, 0):.0f}"),
        )
        for program in busiest
    ]
    rows.append(("together", f"{sum(seen.cpu_seconds.values()):.1f}", "", f"{seen.peak_mb:.0f}"))
    return Table((name, "CPU, s", "largest process, MB", "all its processes, MB"), rows)


def _compared(ground: Ground, pair: Pair, rounds: int) -> Sequence[str]:
    ours: list[Run] = []
    peers: list[Run] = []
    for _ in range(rounds):
        ours.append(run_ours(ground, pair.ours))
        peers.append(run_peer(ground, pair.peer))
    speeds = [median(run.images_per_second for run in runs) for runs in (ours, peers)]
    costs = [median(run.cpu_per_thousand for run in runs) for runs in (ours, peers)]
    return (
        *(pair.name, _whole(speeds[0]), _whole(speeds[1]), f"{speeds[0] / speeds[1]:.1f}", f"≥ {pair.speed:g}"),
        *(f"{costs[0]:.2f}", f"{costs[1]:.2f}", f"{costs[0] / costs[1]:.2f}", f"≤ {pair.cpu:g}" if pair.cpu else ""),
        f"{median(run.first_fetch_seconds for run in ours):.1f}",
        *(_right(ours), _right(peers)),
    )


def _usage(runs: Sequence[Run]) -> Iterator[str]:
    yield f"{median(run.cpu_per_thousand for run in runs):.2f}"
    yield str(max(run.most_connections for run in runs))


def _right(runs: Sequence[Run]) -> str:
    return f"{max(run.good_lost for run in runs)} / {max(run.broken_kept for run in runs)}"


def _whole(number: float) -> str:
    return f"{number:,.0f}"
