"""`pixcrawler job …`: requests for datasets, and what can be made of them. Imports as in `cli.py`."""

from datetime import datetime
from typing import Annotated

import typer
from typer import Option

from pixcrawler.commands.options import Asked, Choices, JobId, ListPath, To, spread
from pixcrawler.words import Gone, JobKind, JobState, ListFormat

jobs = typer.Typer(help="Your jobs: requests for datasets, and what can be made of them.", no_args_is_help=True)


@jobs.command()
@spread
def submit(
    asked: Asked,
    choices: Choices,
    path: ListPath,
    to: To,
) -> None:
    """Upload a list and ask a gateway for the dataset; print the job's id."""
    from pixcrawler.commands.interrupts import Interrupts
    from pixcrawler.commands.remote import submit_job

    with Interrupts() as interrupts, asked.client() as client:
        submit_job(client, path, to, choices, interrupts, is_json=asked.as_json)


@jobs.command("list")
@spread
def list_jobs(
    asked: Asked,
    state: Annotated[JobState | None, Option(help="Only jobs in this state.")] = None,
    kind: Annotated[JobKind | None, Option(help="Only jobs of this kind.")] = None,
    dataset: Annotated[str | None, Option(help="Only jobs of this dataset.", metavar="ID")] = None,
    since: Annotated[datetime | None, Option(help="Only jobs made then or later, your time.")] = None,
    until: Annotated[datetime | None, Option(help="Only jobs made before then.")] = None,
    limit: Annotated[int, Option(min=1, help="How many at most.")] = 20,
) -> None:
    """Show your jobs, newest first."""
    from pixcrawler.commands import remote
    from pixcrawler.models import JobFilter

    with asked.client() as client:
        times = {
            "created_from": since and since.astimezone(),
            "created_before": until and until.astimezone(),
        }
        remote.list_jobs(
            client, JobFilter(state=state, kind=kind, dataset=dataset, **times), limit, is_json=asked.as_json
        )


@jobs.command()
@spread
def show(asked: Asked, job: JobId) -> None:
    """Show where a job stands."""
    from pixcrawler.commands.remote import show_status

    with asked.client() as client:
        show_status(client, job, is_json=asked.as_json)


@jobs.command()
@spread
def watch(asked: Asked, job: JobId) -> None:
    """Follow a job until it has ended; leaving by Ctrl-C does nothing to it."""
    from pixcrawler.commands.interrupts import Interrupts
    from pixcrawler.commands.remote import watch_job
    from pixcrawler.commands.report import reporter

    with Interrupts(), asked.client() as client:
        raise typer.Exit(watch_job(client, job, reporter(is_json=asked.as_json)))


@jobs.command()
@spread
def cancel(asked: Asked, job: JobId) -> None:
    """Withdraw a job for good; what is stored stays."""
    _move(asked, job, "cancel")


@jobs.command()
@spread
def pause(asked: Asked, job: JobId) -> None:
    """Halt a job until it is resumed."""
    _move(asked, job, "pause")


@jobs.command()
@spread
def resume(asked: Asked, job: JobId) -> None:
    """Let a paused job go on where it stood."""
    _move(asked, job, "resume")


@jobs.command()
@spread
def rejects(
    asked: Asked,
    job: JobId,
    reason: Annotated[str | None, Option(help="Only rows rejected for this reason.")] = None,
    limit: Annotated[int | None, Option(min=1, help="How many at most; by default all.")] = None,
) -> None:
    """Show rejected rows: number, reason, URL."""
    from pixcrawler.commands import remote

    with asked.client() as client:
        remote.list_rejects(client, job, reason, limit, is_json=asked.as_json)


@jobs.command()
@spread
def append(
    asked: Asked,
    job: JobId,
    path: ListPath,
    name: Annotated[str | None, Option(help="A name for people; by default the job's.", metavar="TEXT")] = None,
    input_format: Annotated[ListFormat | None, Option(help="The list's format; by default as its name tells.")] = None,
    url_col: Annotated[str | None, Option(help="Column with the URLs; by default the job's.")] = None,
    caption_col: Annotated[str | None, Option(help="Column with the captions; by default the job's.")] = None,
) -> None:
    """Add the rows of another list to a job's dataset; print the new job's id. Duplicates are found as ever."""
    from pixcrawler.commands import revisions
    from pixcrawler.commands.interrupts import Interrupts

    columns = Choices(input_format=input_format, url_col=url_col, caption_col=caption_col)
    with Interrupts() as interrupts, asked.client() as client:
        revisions.append(client, job, path, name, columns, interrupts, is_json=asked.as_json)


@jobs.command()
@spread
def retry(
    asked: Asked,
    job: JobId,
    reason: Annotated[
        list[str] | None,
        Option(help="Rows rejected for this; may be repeated. By default all that may pass.", metavar="REASON"),
    ] = None,
) -> None:
    """Fetch rejected rows of a job's dataset again, and nothing else; print the new job's id."""
    from pixcrawler.commands import revisions

    with asked.client() as client:
        revisions.retry(client, job, reason, is_json=asked.as_json)


@jobs.command()
@spread
def refresh(
    asked: Asked,
    job: JobId,
    gone: Annotated[
        Gone, Option(help="Of pictures that are not there any more: keep them, or drop them from the dataset.")
    ] = Gone.KEEP,
) -> None:
    """Ask hosts whether the pictures of a job's dataset have changed, and replace those; print the new job's id."""
    from pixcrawler.commands import revisions

    with asked.client() as client:
        revisions.refresh(client, job, gone, is_json=asked.as_json)


@jobs.command()
@spread
def clone(
    asked: Asked,
    choices: Choices,
    job: JobId,
    to: To,
) -> None:
    """Build another dataset from a job's list; print the new job's id. Any option of the recipe replaces all of it."""
    from pixcrawler.commands import revisions

    with asked.client() as client:
        revisions.clone(client, job, to, choices, is_json=asked.as_json)


@jobs.command("stats")
@spread
def statistics(asked: Asked, job: JobId) -> None:
    """Show a job's dataset in figures: formats, sizes, hosts, captions, time by stage; once a job of it has ended."""
    from pixcrawler.commands.statistics import show_statistics

    with asked.client() as client:
        show_statistics(client, job, is_json=asked.as_json)


@jobs.command()
@spread
def files(
    asked: Asked,
    job: JobId,
    link_seconds: Annotated[int, Option(min=60, max=86_400, help="How long the links are good for.")] = 3600,
) -> None:
    """Show what a job has stored, shards and indexes, with links that anybody may read; a folder has none."""
    from pixcrawler.commands import revisions

    with asked.client() as client:
        revisions.files(client, job, link_seconds, is_json=asked.as_json)


@jobs.command()
@spread
def delete(
    asked: Asked,
    job: JobId,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a job's dataset, for good: its images and indexes at the destination, and all its jobs."""
    from pixcrawler.commands import revisions

    with asked.client() as client:
        revisions.delete(client, job, is_sure=yes, is_json=asked.as_json)


def _move(asked: Asked, job: str, verb: str) -> None:
    from pixcrawler.commands.remote import move_job

    with asked.client() as client:
        move_job(client, job, verb, is_json=asked.as_json)
