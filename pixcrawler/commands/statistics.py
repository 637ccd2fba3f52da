"""`pixcrawler job stats`: a dataset in figures, as its gateway tells them."""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from pixcrawler.client import Client
from pixcrawler.commands.summary import size
from pixcrawler.models import HostFigures, Spread, Statistics

#: Hosts that a person is shown; JSON has more.
_HOSTS_SHOWN = 5


def show_statistics(client: Client, job_id: str, *, is_json: bool) -> None:
    """Prints the figures. Raises NotFoundError when there are none yet."""
    told = client.statistics(job_id)
    sys.stdout.write(f"{told.model_dump_json()}\n" if is_json else rendered(told, width=110))


def rendered(told: Statistics, *, width: int) -> str:
    """The figures for people."""
    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False)
    for line in _lines(told):
        console.print(line, markup=False, soft_wrap=True)
    console.print(_spreads(told))
    for line in _hosts(told):
        console.print(line, markup=False, soft_wrap=True)
    return text.getvalue()


def _lines(told: Statistics) -> Iterator[str]:
    yield f"rows        {told.rows:,}, up to revision {told.revision}"
    if told.rows_without_index:
        yield f"not counted {told.rows_without_index:,} rows whose index could not be read"
    yield f"accepted    {told.accepted:,}{_listed(told.formats)}"
    yield f"rejected    {told.rejected:,}{_listed(told.rejected_by_reason)}"
    yield f"captions    {told.with_caption:,}"
    yield f"stored      {size(told.stored_bytes)} of images"
    yield f"fetched     {size(told.fetched_bytes)}"
    for name, stage in told.stages.items():
        yield f"{name:<11} chunks took {stage.working_seconds:,.0f} s, and waited {stage.waiting_seconds:,.0f} s"


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in counts.items())})" if counts else ""


def _spreads(told: Statistics) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("least", "5 %", "25 %", "median", "75 %", "95 %", "most", "mean"):
        table.add_column(name, justify="right")
    for name, spread in (
        ("width", told.width),
        ("height", told.height),
        ("width / height", told.aspect_ratio),
        ("bytes", told.image_bytes),
        ("fetch ms", told.fetch_ms),
        ("caption letters", told.caption_characters),
    ):
        if spread is not None:
            table.add_row(name, *_row(spread))
    return table


def _row(spread: Spread) -> list[str]:
    figures = (
        spread.smallest,
        spread.p5,
        spread.p25,
        spread.median,
        spread.p75,
        spread.p95,
        spread.largest,
        spread.mean,
    )
    return [f"{figure:,.0f}" if figure.is_integer() else f"{figure:,.2f}" for figure in figures]


def _hosts(told: Statistics) -> Iterator[str]:
    yield f"hosts       {told.hosts.distinct:,}{'' if told.hosts.is_exact else ' at least'}"
    yield from _most("accepted", told.hosts.accepted)
    yield from _most("rejected", told.hosts.rejected)


def _most(what: str, hosts: Sequence[HostFigures]) -> Iterator[str]:
    for each in hosts[:_HOSTS_SHOWN]:
        yield f"{each.rows:>12,}  {what}  {each.host}"
