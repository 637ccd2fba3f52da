"""Follows a job to where it stops: ended, or halted until somebody resumes it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from pixcrawler.client import Client
from pixcrawler.commands.exits import Exit, Failure, exit_of_state
from pixcrawler.commands.report import Reporter
from pixcrawler.commands.summary import Summary
from pixcrawler.models import Job
from pixcrawler.words import JobState


class Pace:
    """Rows finished a second, from the last moment before the first row was fetched."""

    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first = job
        self._began = clock()
        self._has_begun = False
        self._last, self._ended = job, self._began

    def note(self, job: Job) -> None:
        now = self._clock()
        if not self._has_begun:
            self._has_begun = _fetched(job) > _fetched(self._first)
            if not self._has_begun:
                self._began = now
        if job.ended_rows != self._last.ended_rows:
            self._last, self._ended = job, now

    @property
    def images_per_second(self) -> float | None:
        rows, seconds = self._last.ended_rows - self._first.ended_rows, self._ended - self._began
        return rows / seconds if rows and seconds > 0 else None


@dataclass(frozen=True)
class Followed:
    """Where it stopped, and how fast it went while it was followed."""

    job: Job
    images_per_second: float | None


def follow(client: Client, job: Job, reporter: Reporter) -> Followed:
    """Shows the job until it has ended or is paused. Raises the client's errors."""
    pace = Pace(job)
    if job.state.is_final:
        return Followed(job, None)  # it has ended before; nothing was fast or slow now
    for event in client.events(job.id):
        pace.note(event)
        reporter.job(event)
        job = event
        if event.state is JobState.PAUSED:
            break
    return Followed(job, pace.images_per_second)


def conclude(followed: Followed, reporter: Reporter, *, start_seconds: float | None = None) -> Exit:
    """Shows the end. Raises Failure for a job that did not come to one of its own."""
    job = followed.job
    if job.state is JobState.PAUSED:
        raise _halted(job)
    if job.state is JobState.FAILED:
        raise _failed(job)
    code = exit_of_state(job.state)
    reporter.end(Summary(job, followed.images_per_second, code, start_seconds))
    if job.state is JobState.CANCELLED:
        raise Failure(f"job {job.id} was cancelled; what was stored before lies in {job.destination.url}", code)
    if job.state is JobState.COMPLETED_WITH_FAILURES:
        why = f" ({job.error.detail})" if job.error else ""
        reporter.note(f"Some rows could not be worked on{why}; the dataset holds the rest.")
    return code


def _halted(job: Job) -> Failure:
    if job.error is None:
        return Failure(f"job {job.id} was paused; resume it: pixcrawler job resume {job.id}", Exit.INTERRUPTED)
    return Failure(
        f"job {job.id} halted: {job.error.detail} ({job.error.code}); mend that, then run the same command again",
        Exit.FAILED,
    )


def _failed(job: Job) -> Failure:
    why = f"{job.error.detail} ({job.error.code})" if job.error else "none of its rows could be worked on"
    return Failure(
        f"job {job.id} failed: {why}; mend that, delete {job.destination.url} and run the same command again",
        Exit.FAILED,
    )


def _fetched(job: Job) -> int:
    return sum(stage.done for stage in job.progress.values())
