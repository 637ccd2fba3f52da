"""`pixcrawler list check`: what is in a list, told before anything is fetched for good."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixcrawler.client import Client
from pixcrawler.commands.exits import Exit, Failure
from pixcrawler.commands.gateway import open_client
from pixcrawler.commands.interrupts import Interrupts
from pixcrawler.commands.lists import check_name, checked_list
from pixcrawler.commands.options import Choices
from pixcrawler.commands.report import Reporter
from pixcrawler.commands.running import joined
from pixcrawler.models import BadRow, CheckRequest, ListReport
from pixcrawler.words import Trial

#: Bad rows and hosts that a person is shown; JSON has all.
_SHOWN = 10


def check(
    gateway: str | None,
    api_key: str | None,
    path: Path,
    columns: Choices,
    reporter: Reporter,
    interrupts: Interrupts,
    *,
    is_json: bool,
) -> None:
    """Prints what was found. Raises Failure for a list that cannot be read."""
    name = columns.upload_name(checked_list(path))
    check_name(name)
    asked = CheckRequest(**columns.list_options().model_dump(exclude_unset=True))
    with _client(gateway, api_key, reporter, interrupts) as client:
        manifest = client.upload(path, filename=name)
        reporter.note("The list is being read …")
        found = client.check(manifest, asked)
    if found.report is None:
        why = found.error.detail if found.error is not None else "it was not read"
        raise Failure(f"{path} cannot be used: {why}", Exit.USAGE)
    sys.stdout.write(f"{found.model_dump_json()}\n" if is_json else rendered(found.report))


def rendered(report: ListReport) -> str:
    """The report for people."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: ListReport) -> Iterator[str]:
    columns = report.columns
    yield f"rows        {report.rows:,}"
    yield f"bad         {report.bad_rows:,}{_by_reason(report)}"
    yield f"duplicates  {report.duplicates:,}{'' if report.duplicates_are_exact else ' at least'}, by URL"
    yield f"hosts       {report.hosts:,}{'' if report.hosts_are_exact else ' at least'}"
    yield f"columns     URL {_column(columns.url, is_guessed=columns.url_is_guessed)}, " + (
        f"caption {_column(columns.caption, is_guessed=columns.caption_is_guessed)}"
        if columns.caption is not None
        else "no captions"
    )
    yield from _sample(report)
    yield from ("", *(f"{each.rows:>12,}  {each.host}" for each in report.top_hosts[:_SHOWN]))
    if report.bad:
        yield from ("", *(_bad(each) for each in report.bad[:_SHOWN]))
    if report.bad_rows > _SHOWN:
        yield f"… and {report.bad_rows - _SHOWN:,} more bad rows; --json names the first hundred"


def _sample(report: ListReport) -> Iterator[str]:
    tried = [each for each in report.sample if each.trial is not Trial.NOT_TRIED]
    if not tried:
        yield "sample      no row could be tried"
        return
    images = sum(each.trial is Trial.IMAGE for each in tried)
    yield f"sample      {images:,} of {len(tried):,} rows tried are images"
    if report.estimate is not None:
        about = report.estimate
        yield f"all of it   about {about.images:,} images, {about.size_bytes / 1e9:,.2f} GB, {_span(about.seconds)}"


def _span(seconds: int) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60)):,} min"


def _by_reason(report: ListReport) -> str:
    reasons = sorted(report.rejected.items(), key=lambda each: -each[1])
    return f" ({', '.join(f'{reason} {rows:,}' for reason, rows in reasons)})" if reasons else ""


def _column(name: str, *, is_guessed: bool) -> str:
    return f"'{name}' (guessed)" if is_guessed else f"'{name}'"


def _bad(bad: BadRow) -> str:
    where = f"row {bad.row:,}" if bad.line is None else f"line {bad.line:,}"
    return f"{where}: {bad.reason} ({bad.detail})"


@contextmanager
def _client(gateway: str | None, api_key: str | None, reporter: Reporter, interrupts: Interrupts) -> Iterator[Client]:
    """Of the gateway that is named, else of a stack on this machine."""
    if gateway:
        with open_client(gateway, api_key) as client:
            yield client
        return
    with joined({}, reporter, interrupts) as local, Client(local.url, local.api_key) as client:
        yield client
