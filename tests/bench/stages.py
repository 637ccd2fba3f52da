"""Each stage alone, with one process and with two: what an image costs in it, and whether a second worker helps."""

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.page import Section, Table
from tests.bench.runs import Ground
from tests.bench.stage import ROWS

_LIMIT_SECONDS = 900.0
#: Stage and depth; the depth changes the validator's work only.
_STAGES = (
    ("download", "standard"),
    ("validate", "structure"),
    ("validate", "standard"),
    ("validate", "full"),
    ("upload", "standard"),
)


@dataclass(frozen=True)
class Alone:
    """Workers of one stage together."""

    images_per_second: float
    cpu_microseconds: float


def alone(ground: Ground, images: int) -> Section:
    """`images`: how many each worker works through, a first chunk apart."""
    if ground.corpus.good < 2 * ROWS:
        raise ValueError(f"a first chunk and another one need {2 * ROWS:,} good images; choose more --urls")
    rows = []
    for stage, depth in _STAGES:
        one, two = (_run(ground, stage, depth, workers, images) for workers in (1, 2))
        rows.append(
            (
                *(f"{stage}, {depth}" if stage == "validate" else stage, f"{one.images_per_second:,.0f}"),
                *(f"{two.images_per_second:,.0f}", f"{two.images_per_second / one.images_per_second:.2f}"),
                f"{one.cpu_microseconds:,.0f}",
            )
        )
    return Section(
        title="Each stage alone",
        text=(
            f"In processes of their own without queue and database, after a first chunk, {images:,} good images each. "
            "The origin of the download runs on the same cores, and the validator's decoder is a process beside its "
            "parent, so that a second worker cannot double either on two cores."
        ),
        tables=[Table(("stage", "images/s, 1 worker", "2 workers", "times", "CPU-µs/image, 1 worker"), rows)],
    )


def _run(ground: Ground, stage: str, depth: str, workers: int, images: int) -> Alone:
    with ExitStack() as stack:
        started = [stack.enter_context(_started(ground, stage, depth, number, images)) for number in range(workers)]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", f"{stage} did not get ready"
        told = [json.loads(said) for said in _go(started)]
    share = sum(each["own_cpu"] / each["images"] + each["children_cpu"] / each["all_images"] for each in told)
    return Alone(sum(each["images"] / each["seconds"] for each in told), 1e6 * share / workers)


def _started(ground: Ground, stage: str, depth: str, number: int, images: int) -> "subprocess.Popen[str]":
    span = min(images, ground.corpus.good - ROWS) // ROWS * ROWS + ROWS
    first = number * span % (ground.corpus.good - span + 1)
    places = [ground.url_list(is_late=False), ground.folder, len(ground.corpus.entries), first, first + span]
    command = [sys.executable, "-m", "tests.bench.stage", stage, *map(str, places), depth]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _go(started: "list[subprocess.Popen[str]]") -> list[str]:
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=_LIMIT_SECONDS)[0] for process in started]
