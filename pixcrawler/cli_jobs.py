"""`pixcrawler job …`: what can be made of a job that is there. Names and options; imports as in `cli.py`."""

from typing import Annotated

import typer
from typer import Option

from pixcrawler.commands.options import ApiKey, AsJson, Choices, Gateway, JobId, ListPath, To, spread
from pixcrawler.words import ListFormat

jobs = typer.Typer(help="More of a job's dataset, and other datasets from its list.", no_args_is_help=True)


@jobs.command()
def append(
    job: JobId,
    path: ListPath,
    name: Annotated[str | None, Option(help="A name for people; by default the job's.", metavar="TEXT")] = None,
    input_format: Annotated[ListFormat | None, Option(help="The list's format; by default as its name tells.")] = None,
    url_col: Annotated[str | None, Option(help="Column with the URLs; by default the job's.")] = None,
    caption_col: Annotated[str | None, Option(help="Column with the captions; by default the job's.")] = None,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Add the rows of another list to a job's dataset; print the new job's id. Duplicates are found as ever."""
    from pixcrawler.commands import revisions
    from pixcrawler.commands.gateway import open_client
    from pixcrawler.commands.interrupts import Interrupts

    columns = Choices(input_format=input_format, url_col=url_col, caption_col=caption_col)
    with Interrupts() as interrupts, open_client(gateway, api_key) as client:
        revisions.append(client, job, path, name, columns, interrupts, is_json=as_json)


@jobs.command()
def retry(
    job: JobId,
    reason: Annotated[
        list[str] | None,
        Option(help="Rows rejected for this; may be repeated. By default all that may pass.", metavar="REASON"),
    ] = None,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Fetch rejected rows of a job's dataset again, and nothing else; print the new job's id."""
    from pixcrawler.commands import revisions
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        revisions.retry(client, job, reason, is_json=as_json)


@jobs.command()
@spread
def clone(
    choices: Choices,
    job: JobId,
    to: To,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Build another dataset from a job's list; print the new job's id. Any option of the recipe replaces all of it."""
    from pixcrawler.commands import revisions
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        revisions.clone(client, job, to, choices, is_json=as_json)


@jobs.command()
def delete(
    job: JobId,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Delete a job's dataset, for good: its images and indexes at the destination, and all its jobs."""
    from pixcrawler.commands import revisions
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        revisions.delete(client, job, is_sure=yes, is_json=as_json)
