"""`pixcrawler run`: a list in, a dataset out, on a stack that lives as long as the run.

    list looked at ─▶ stack started or joined ─▶ list uploaded ─▶ job submitted or found ─▶ followed ─▶ table

The gateway knows a run by destination, content of the list and recipe, so the same command finds its job
again: a paused one is resumed, one that runs is followed, one that has ended is shown.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixcrawler.client import Client
from pixcrawler.commands.exits import Exit, Failure
from pixcrawler.commands.following import Followed, conclude, follow
from pixcrawler.commands.interrupts import Interrupted, Interrupts
from pixcrawler.commands.lists import check_name, check_place, checked_list, whole_destination
from pixcrawler.commands.options import Choices
from pixcrawler.commands.report import Reporter
from pixcrawler.commands.sample import port_for, served
from pixcrawler.errors import ConnectionFailed, UnavailableError
from pixcrawler.local import Event, LocalStack
from pixcrawler.models import Destination, Job, JobRequest, ListOptions, Recipe, Source, Submission
from pixcrawler.words import JobState


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line asks for: exactly one of a list and a sample."""

    path: Path | None
    sample_rows: int | None
    sample_port: int | None
    destination: str
    choices: Choices


def run(asked: Asked, reporter: Reporter, interrupts: Interrupts) -> Exit:
    """Builds the dataset. Raises Failure, LocalStackError, the client's errors, Interrupted."""
    began = time.monotonic()
    destination = whole_destination(asked.destination)
    check_place(destination)
    understood(asked.choices)
    with ExitStack() as stack:
        path, choices, environment = _list_of(asked, destination, stack)
        local = stack.enter_context(joined(environment, reporter, interrupts))
        start_seconds = time.monotonic() - began
        reporter.event("ready", {"seconds": round(start_seconds, 3), "gateway": local.url})
        client = stack.enter_context(Client(local.url, local.api_key))
        try:
            job = _job(client, path, destination, choices, reporter, interrupts)
            followed = _followed(client, job, reporter, interrupts)
        except (ConnectionFailed, UnavailableError):
            # The stack knows better why its gateway is gone.
            local.check()
            raise
        return conclude(followed, reporter, start_seconds=start_seconds)


def submit(client: Client, path: Path, destination: str, choices: Choices, interrupts: Interrupts) -> Submission:
    """Uploads the list and asks for the job. A signal after the upload waits until the job is known."""
    recipe, options = understood(choices)
    manifest = client.upload(path, filename=choices.upload_name(path))
    request = JobRequest(
        name=(choices.name or path.stem)[:200],
        source=Source(manifest_id=manifest.id),
        list=options,
        destination=Destination(url=destination, endpoint=choices.endpoint),
        recipe=recipe,
    )
    with interrupts.held():
        return client.submit(request)


def understood(choices: Choices) -> tuple[Recipe, ListOptions]:
    """Raises Failure for an option whose value is none."""
    try:
        return choices.recipe(), choices.list_options()
    except ValueError as error:
        raise Failure(str(error)) from error


def _list_of(asked: Asked, destination: str, stack: ExitStack) -> tuple[Path, Choices, Mapping[str, str]]:
    if asked.sample_rows is not None:
        port = asked.sample_port if asked.sample_port is not None else port_for(destination)
        sample = stack.enter_context(served(asked.sample_rows, port, asked.choices))
        return sample.path, sample.choices, sample.environment
    assert asked.path is not None, "checked by the command"
    path = checked_list(asked.path)
    check_name(asked.choices.upload_name(path))
    return path, asked.choices, {}


@contextmanager
def joined(environment: Mapping[str, str], reporter: Reporter, interrupts: Interrupts) -> Iterator[LocalStack]:
    """This user's stack, started if it does not run, and stopped when its last user leaves."""

    def show(event: Event) -> None:
        reporter.note(event.text if event.is_notice else f"{event.text} …")

    with LocalStack(on_event=show, extra_environment=environment) as stack:
        try:
            yield stack
        finally:
            # Who presses Ctrl-C twice does not wait for the services' clean end.
            if interrupts.count > 1:
                stack.leave()


def _job(
    client: Client, path: Path, destination: str, choices: Choices, reporter: Reporter, interrupts: Interrupts
) -> Job:
    submission = submit(client, path, destination, choices, interrupts)
    job = submission.job
    reporter.event("submitted", {"is_new": submission.is_new, "job": job.model_dump(mode="json")})
    if submission.is_new:
        reporter.note(f"Job {job.id} builds {job.destination.url}.")
    elif job.state.is_final:
        reporter.note(f"This run has ended before ({job.state}); nothing is left to do.")
    elif job.state is JobState.PAUSED:
        job = client.resume(job.id)
        reporter.note(f"Job {job.id} goes on where it stopped: {job.ended_rows:,} rows are done.")
    else:
        reporter.note(f"Job {job.id} is under way; this command follows it.")
    return job


def _followed(client: Client, job: Job, reporter: Reporter, interrupts: Interrupts) -> Followed:
    try:
        return follow(client, job, reporter)
    except Interrupted:
        _pause(client, job, reporter)
        raise


def _pause(client: Client, job: Job, reporter: Reporter) -> None:
    """Leaves the job so that the same command goes on with it. A second signal cuts this short."""
    reporter.note("Pausing; press Ctrl-C again to stop at once.")
    shown = client.job(job.id)
    if not shown.state.is_final:
        shown = client.pause(job.id) if shown.state is not JobState.FINISHING else shown
    reporter.event("paused", {"job": shown.model_dump(mode="json")})
    reporter.note(f"Paused with {shown.ended_rows:,} of {shown.rows:,} rows done; run the same command again to go on.")
