"""Measures and writes docs/reference/benchmarks.md: `python -m tests.bench [PART...] [--quick]`; `--help` has more.

What is drawn, installed and stored lies in `.bench` beside the Makefile, or where BENCH_DIR says.
"""

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import admission, end_to_end, load, rows, stages
from tests.bench.corpus import corpus
from tests.bench.names import make_names_known
from tests.bench.page import Section, keep
from tests.bench.runs import Ground, serving


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    urls: int
    rounds: int
    #: Of the list that is planned, and chunks through stages that do nothing.
    rows: int
    chunks: int


_WHOLE = Size(urls=12_000, rounds=3, rows=10_000_000, chunks=5_000)
_QUICK = Size(urls=2_000, rounds=1, rows=1_000_000, chunks=400)

PARTS: dict[str, Callable[[Ground, Size], Section]] = {
    "end-to-end": lambda ground, size: end_to_end.compare(ground, size.rounds),
    "pixels": lambda ground, _: end_to_end.compare_pixels(ground),
    "far-origin": lambda ground, size: end_to_end.far_origin(ground, size.rounds),
    "anatomy": lambda ground, _: end_to_end.anatomy(ground),
    "planning": lambda ground, size: rows.planning(ground, size.rows),
    "admission": lambda _, size: admission.admission(4 * size.chunks),
    "bookkeeping": lambda ground, size: rows.bookkeeping(ground, size.chunks),
    "gateway": lambda ground, _: load.gateway_under_load(ground),
    "stages": lambda ground, size: stages.alone(ground, min(size.urls // 4, 3_000)),
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures against img2dataset.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="2,000 URLs, one round: ten minutes")
    parser.add_argument("--urls", type=int, help="length of the list")
    parser.add_argument("--rounds", type=int, help="alternating pairs of each kind")
    parser.add_argument("--rows", type=int, help="rows of the list that is planned")
    parser.add_argument("--chunks", type=int, help="chunks through stages that do nothing")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    usual = _QUICK if chosen.quick else _WHOLE
    size = replace(usual, **{name: given for name in vars(usual) if (given := getattr(chosen, name)) is not None})
    # Whatever is started, and wherever, runs this code.
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    folder = Path(os.environ.get("BENCH_DIR", ".bench")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "-m", "tests.bench", *arguments])
    make_names_known(folder)
    pictures = corpus(folder, size.urls)
    missing = []
    with serving(folder, pictures) as ground:
        for part in chosen.parts or PARTS:
            print(f"bench: {part} …", file=sys.stderr, flush=True)
            try:
                section = PARTS[part](ground, size)
            except Exception as error:  # the other parts are worth having all the same
                traceback.print_exc()
                missing.append(part)
                section = Section(title=part.capitalize(), text=f"Not measured: {type(error).__name__}: {error}.")
            keep(folder, part, section, command)
            _show(section)
    if missing:
        raise SystemExit(f"bench: not measured: {', '.join(missing)}")


def _show(section: Section) -> None:
    print(f"\n{section.title}\n{section.text}", flush=True)
    for table in section.tables:
        print(*("\t".join(row) for row in (table.head, *table.rows)), sep="\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
