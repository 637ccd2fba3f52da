"""What a command shows while it works: bars on a terminal, plain lines elsewhere, JSON lines for programs.

Progress goes to stderr; stdout carries results only, so that it can be piped.
"""

import json
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from pixcrawler.commands.summary import Summary, rendered
from pixcrawler.models import Job

#: Between two plain lines, so that a log of a long job stays readable.
_PLAIN_SECONDS = 2.0
_STAGES = ("download", "validate", "upload")


class Reporter(Protocol):
    """Shows a command's work. Entered once; what it left on the terminal is tidied up at the end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, text: str) -> None:
        """A sentence for the user."""

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        """A fact for programs."""

    def job(self, job: Job) -> None:
        """Where the job stands."""

    def end(self, summary: Summary) -> None:
        """The result."""


class PlainReporter:
    """Lines on stderr, the table on stdout."""

    def __init__(self) -> None:
        self._shown = ""
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def note(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        return

    def job(self, job: Job) -> None:
        line = progress_line(job)
        is_due = time.monotonic() - self._shown_at >= _PLAIN_SECONDS or job.state.is_final
        if line != self._shown and is_due:
            self._shown, self._shown_at = line, time.monotonic()
            self.note(line)

    def end(self, summary: Summary) -> None:
        sys.stdout.write(rendered(summary, width=110))
        sys.stdout.flush()


class TerminalReporter:
    """One bar for each stage, and the counts below."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<9}"), BarColumn(bar_width=40), MofNCompleteColumn(), console=self._console
        )
        self._tasks: dict[str, TaskID] = {}
        self._counts = Text()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        return

    def job(self, job: Job) -> None:
        if self._live is None:
            # The command's thread alone draws; a thread of Live's own would draw over a dying program.
            self._live = Live(Group(self._bars, self._counts), console=self._console, auto_refresh=False)
            self._live.start()
        for name in _STAGES:
            stage = job.progress[name]
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=None)
            self._bars.update(self._tasks[name], completed=stage.done, total=stage.total if job.planned else None)
        self._counts.plain = counts_line(job)
        self._live.refresh()

    def end(self, summary: Summary) -> None:
        self._stop()
        console = Console()
        sys.stdout.write(rendered(summary, width=min(console.width, 120), is_coloured=console.is_terminal))
        sys.stdout.flush()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class JsonReporter:
    """One JSON object a line on stdout; sentences still go to stderr."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def note(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps({"event": name, **fields}) + "\n")
        sys.stdout.flush()

    def job(self, job: Job) -> None:
        self.event("job", {"job": job.model_dump(mode="json")})

    def end(self, summary: Summary) -> None:
        self.event("end", summary.as_json())


def reporter(*, is_json: bool) -> Reporter:
    """The one that suits where the output goes."""
    if is_json:
        return JsonReporter()
    return TerminalReporter() if sys.stderr.isatty() else PlainReporter()


def counts_line(job: Job) -> str:
    """State, what it found, and what it waits for."""
    line = f"{job.state}: {found(job)}"
    return f"{line}; waiting: {job.waiting_for}" if job.waiting_for else line


def found(job: Job) -> str:
    """How many rows became what."""
    if (seen := job.refreshed) is not None:
        return f"{seen.changed:,} changed, {seen.unchanged:,} unchanged, {seen.gone:,} gone"
    return f"{job.accepted:,} accepted, {job.rejected_rows:,} rejected"


def progress_line(job: Job) -> str:
    """Everything in one line."""
    of = f"{job.rows:,}" if job.planned else "?"
    stages = ", ".join(f"{name} {job.progress[name].done:,}/{of}" for name in _STAGES)
    return f"{stages}; {counts_line(job)}"
