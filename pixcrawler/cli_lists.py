"""`pixcrawler list …`: your jobs; and what is in a list of URLs. Names and options; imports as in `cli.py`."""

from datetime import datetime
from typing import Annotated

import typer
from typer import Option

from pixcrawler.commands.options import ApiKey, AsJson, Choices, Gateway, ListPath
from pixcrawler.words import JobKind, JobState, ListFormat

lists = typer.Typer(invoke_without_command=True)


@lists.callback()
def list_jobs(
    context: typer.Context,
    state: Annotated[JobState | None, Option(help="Only jobs in this state.")] = None,
    kind: Annotated[JobKind | None, Option(help="Only jobs of this kind.")] = None,
    dataset: Annotated[str | None, Option(help="Only jobs of this dataset.", metavar="ID")] = None,
    since: Annotated[datetime | None, Option(help="Only jobs made then or later, your time.")] = None,
    until: Annotated[datetime | None, Option(help="Only jobs made before then.")] = None,
    limit: Annotated[int, Option(min=1, help="How many at most.")] = 20,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show your jobs, newest first; or check a list of URLs."""
    if context.invoked_subcommand is not None:
        return
    from pixcrawler.commands import remote
    from pixcrawler.commands.gateway import open_client
    from pixcrawler.models import JobFilter

    with open_client(gateway, api_key) as client:
        times = {
            "created_from": since and since.astimezone(),
            "created_before": until and until.astimezone(),
        }
        remote.list_jobs(client, JobFilter(state=state, kind=kind, dataset=dataset, **times), limit, is_json=as_json)


@lists.command()
def check(
    path: ListPath,
    input_format: Annotated[ListFormat | None, Option(help="The list's format; by default as its name tells.")] = None,
    url_col: Annotated[str | None, Option(help="Column with the URLs; by default guessed.")] = None,
    caption_col: Annotated[str | None, Option(help="Column with the captions; by default guessed.")] = None,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Read a list of URLs whole and say what is in it; without a gateway, on this machine."""
    from pixcrawler.commands import checking
    from pixcrawler.commands.interrupts import Interrupts
    from pixcrawler.commands.report import reporter

    columns = Choices(input_format=input_format, url_col=url_col, caption_col=caption_col)
    with Interrupts() as interrupts, reporter(is_json=as_json) as shown:
        checking.check(gateway, api_key, path, columns, shown, interrupts, is_json=as_json)
