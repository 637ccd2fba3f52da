"""Measures what the capacity guide says and writes docs/reference/capacity.md: `python -m tests.capacity [PART...]`.

What is drawn and stored lies in `.bench` beside the Makefile, or where BENCH_DIR says.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from shared.pipeline import CHUNK_ROWS, PIPELINE
from tests.bench import page
from tests.bench.corpus import corpus
from tests.bench.names import make_names_known
from tests.bench.page import Section
from tests.bench.runs import Ground, serving
from tests.capacity import line, simulated, steady, streams
from tests.capacity.simulation import BOOKKEEPING

_PICTURES = 2_000
PARTS = ("steady", "line", "streams", "simulation")
_COSTS = "capacity-costs.json"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.capacity", description="Measures for the capacity guide.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the steady run")
    parser.add_argument("--streams", type=int, default=1_000, help="clients with an open stream")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    folder = Path(os.environ.get("BENCH_DIR", ".bench")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "-m", "tests.capacity", *arguments])
    for part in chosen.parts or PARTS:
        print(f"capacity: {part} …", file=sys.stderr, flush=True)
        found = _measured(part, folder, chosen)
        page.keep(folder, part, found, command, page=page.CAPACITY)
        print(f"\n{found.title}\n{found.text}", flush=True)
        for table in found.tables:
            print(*("\t".join(row) for row in (table.head, *table.rows)), sep="\n", flush=True)


def _measured(part: str, folder: Path, chosen: argparse.Namespace) -> Section:
    if part == "simulation":
        return simulated.section(_known_costs(folder))
    make_names_known(folder)
    with serving(folder, corpus(folder, _PICTURES)) as ground:
        if part == "streams":
            return streams.section(streams.many_streams(ground, chosen.streams))
        if part == "line":
            return _line(ground, folder)
        return _steady(ground, folder, chosen.seconds)


def _steady(ground: Ground, folder: Path, seconds: float) -> Section:
    found = steady.steady_run(ground, seconds)
    _keep_costs(folder, {stage.name: found.cpu_ms(stage.service) for stage in PIPELINE})
    return steady.section(found)


def _line(ground: Ground, folder: Path) -> Section:
    seen, seconds = line.cpu_by_program(ground)
    _keep_costs(folder, {BOOKKEEPING: line.chunk_ms(seen) / CHUNK_ROWS})
    return line.section(seen, seconds)


def _keep_costs(folder: Path, found: dict[str, float]) -> None:
    (folder / _COSTS).write_text(json.dumps({**_known_costs(folder), **found}))


def _known_costs(folder: Path) -> dict[str, float]:
    """CPU an image as it was measured on this machine, else as it was when the guide was written."""
    kept = folder / _COSTS
    return {**simulated.USUAL_CPU_MS, **(json.loads(kept.read_text()) if kept.exists() else {})}


if __name__ == "__main__":
    main(sys.argv[1:])
