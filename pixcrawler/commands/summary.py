"""The end of a job as a table: counts that add up, where the dataset lies, how to load it."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from pixcrawler.models import Job
from pixcrawler.reasons import advice_for
from pixcrawler.words import JobState

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True)
class Summary:
    """An ended job. `images_per_second` counts rows finished, from the first fetch on; None: nothing was done."""

    job: Job
    images_per_second: float | None
    exit_code: int
    #: From the command's start until the stack was ready; None without a stack.
    start_seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "exit_code": self.exit_code,
            "images_per_second": self.images_per_second,
            "start_seconds": self.start_seconds,
            "job": self.job.model_dump(mode="json"),
        }


def rendered(summary: Summary, *, width: int, is_coloured: bool = False) -> str:
    """The summary as text."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=is_coloured, highlight=False)
    console.print(_counts(summary))
    for line in _lines(summary):
        console.print(line, markup=False, soft_wrap=True)
    return text.getvalue()


def size(count: int) -> str:
    """Bytes for people: `12.3 MB`."""
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{count} bytes" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def loading(job: Job) -> str:
    """How to load the dataset; the card in it says more."""
    url = job.destination.url
    if "://" in url:
        return f"see README.md in {url}"
    return f"from datasets import load_dataset; load_dataset({url!r}, split='train')"


def _counts(summary: Summary) -> Table:
    job = summary.job
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("rows", justify="right")
    table.add_column("advice", overflow="fold")
    table.add_row("rows", f"{job.rows:,}", "")
    if (seen := job.refreshed) is not None:
        table.add_row("unchanged", f"{seen.unchanged:,}", "")
        table.add_row("changed", f"{seen.changed:,}", "")
        table.add_row("gone", f"{seen.gone:,}", "")
    table.add_row("accepted", f"{job.accepted:,}", "")
    table.add_row("rejected", f"{job.rejected_rows:,}", "")
    for reason, count in sorted(job.rejected.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(f"  {reason}", f"{count:,}", advice_for(reason))
    return table


def _lines(summary: Summary) -> Iterator[str]:
    job = summary.job
    if summary.images_per_second is not None:
        yield f"speed     {summary.images_per_second:,.1f} images/s"
    yield f"size      {size(job.stored_bytes)}"
    yield f"dataset   {job.destination.url}"
    if job.state in (JobState.COMPLETED, JobState.COMPLETED_WITH_FAILURES) and job.accepted:
        yield f"load it   {loading(job)}"
