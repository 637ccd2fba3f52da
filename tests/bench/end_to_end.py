"""Whole commands against img2dataset on the same list, in alternating pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.names import NAMES
from tests.bench.page import Section, Table, at_least, at_most
from tests.bench.pixels import largest_difference
from tests.bench.runs import LATE_MS, Ground, Run, run_ours, run_peer

_NO = "--resize_mode=no"
_ORIGINAL = ("--output-format", "webdataset", "--image-format", "original")
_TO_256 = ("--resize-mode", "border", "--image-size", "256", "--image-format", "jpeg")


@dataclass(frozen=True)
class Ours:
    """Our choices beside a peer's, and what is to be reached: times its images a second, and times its CPU."""

    name: str
    choices: Sequence[str]
    speed: float
    cpu: float | None = None


@dataclass(frozen=True)
class Match:
    """A peer's choices and those of ours that are measured against them, in turn."""

    peer: Sequence[str]
    ours: Sequence[Ours]
    #: Long matches are run on this many times fewer URLs: what an image takes does not depend on their number.
    shorter: int = 1


_UNCHECKED = (_NO, "--disable_all_reencoding=True")
_MATCHES = (
    Match(
        (_NO,),
        (
            Ours("standard, files; resize_mode=no", ("--depth", "standard"), 5, 0.22),
            Ours("structure, files; resize_mode=no", ("--depth", "structure"), 10, 0.09),
        ),
    ),
    Match(_UNCHECKED, (Ours("structure, files; disable_all_reencoding", ("--depth", "structure"), 2.5, 0.42),)),
    Match(
        (_NO, "--output_format=webdataset"),
        (Ours("standard, webdataset; resize_mode=no", ("--depth", "standard", *_ORIGINAL), 5, 0.22),),
        shorter=2,
    ),
    Match((_NO, "--skip_reencode=True"), (Ours("full, files; skip_reencode", ("--depth", "full"), 1.8),), shorter=2),
    Match((), (Ours("to 256 pixels; the same", _TO_256, 2.5),), shorter=2),
)
#: URLs whose pixels are compared.
_MOST_PIXELS = 2_000
#: Seconds to the first fetch on a kept data folder.
_FIRST_FETCH = 4
#: Images a second wanted with a far origin.
_LATE = (("structure", 900), ("standard", 450))


def compare(ground: Ground, rounds: int) -> Section:
    """Every match as often as asked, ours and the peer's in turn; medians of each."""
    _warm_up(ground)
    rows = [row for match in _MATCHES for row in _compared(ground, match, rounds)]
    return Section(
        title="End to end",
        text=(
            f"Whole processes on {ground.corpus.describe()}, under {len(NAMES)} host names, {rounds} rounds in turn, "
            "medians; the last three lines on half of the URLs. Time is from the command to the finished dataset (for "
            "PixCrawler to `_SUCCESS`, five services, PostgreSQL and Valkey started from a kept data folder); CPU is "
            "that of all of the contender's processes, without the origin's. *Lost* are good images that are not in "
            "the dataset, *kept* are broken ones that are. img2dataset ran with 2 processes of 64 threads."
        ),
        tables=[
            Table(
                (
                    *("ours; img2dataset", "images/s", "its", "times", "goal", "CPU-s/1000", "its", "times", "goal"),
                    *("first fetch, s", "goal", "lost / kept", "its"),
                ),
                rows,
            )
        ],
    )


def compare_pixels(ground: Ground) -> Section:
    """The images of 256 pixels that both make, side by side."""
    difference = largest_difference(ground.with_fewer(ground.urls // _MOST_PIXELS or 1), _TO_256)
    return Section(
        title="The same pixels",
        text="Images resized to 256 pixels by both, decoded and compared; 255 is the whole range.",
        tables=[Table(("images", "mean difference, median image", "mean difference, worst image"), [difference])],
    )


def far_origin(ground: Ground, rounds: int) -> Section:
    """As above, each answer late."""
    rows = [
        (depth, *at_least(median(run.images_per_second for run in runs), goal, "{:,.0f}"), *_usage(runs), _right(runs))
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


def _compared(ground: Ground, match: Match, rounds: int) -> Iterator[Sequence[str]]:
    ground = ground.with_fewer(match.shorter)
    runs: dict[str, list[Run]] = {contender.name: [] for contender in match.ours}
    peers: list[Run] = []
    for _ in range(rounds):
        for contender in match.ours:
            runs[contender.name].append(run_ours(ground, contender.choices))
        peers.append(run_peer(ground, match.peer))
    for contender in match.ours:
        yield _against(contender, runs[contender.name], peers)


def _against(contender: Ours, ours: Sequence[Run], peers: Sequence[Run]) -> Sequence[str]:
    speeds = [median(run.images_per_second for run in runs) for runs in (ours, peers)]
    costs = [median(run.cpu_per_thousand for run in runs) for runs in (ours, peers)]
    times = costs[0] / costs[1]
    return (
        *(contender.name, f"{speeds[0]:,.0f}", f"{speeds[1]:,.0f}"),
        *at_least(speeds[0] / speeds[1], contender.speed, "{:.1f}"),
        *(f"{costs[0]:.2f}", f"{costs[1]:.2f}"),
        *(at_most(times, contender.cpu, "{:.2f}") if contender.cpu else (f"{times:.2f}", "")),
        *at_most(median(run.first_fetch_seconds for run in ours), _FIRST_FETCH, "{:.1f}"),
        *(_right(ours), _right(peers)),
    )


def _usage(runs: Sequence[Run]) -> Iterator[str]:
    yield f"{median(run.cpu_per_thousand for run in runs):.2f}"
    yield str(max(run.most_connections for run in runs))


def _right(runs: Sequence[Run]) -> str:
    return f"{max(run.good_lost for run in runs)} / {max(run.broken_kept for run in runs)}"
