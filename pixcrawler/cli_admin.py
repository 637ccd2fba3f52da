"""`pixcrawler admin stage | slots | workers | calendar`: names and options of what operators see and steer."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from pixcrawler.commands.options import ApiKey, AsJson, Gateway

if TYPE_CHECKING:
    from pixcrawler.client import Client

stage = typer.Typer(help="The stages, their queues and workers.", no_args_is_help=True)
calendar = typer.Typer(help="What is done periodically.", no_args_is_help=True)

StageName = Annotated[str, Argument(metavar="STAGE", help="download, validate or upload.")]
EntryName = Annotated[str, Argument(metavar="NAME", help="The entry's name, as the list has it.")]


def add_to(admin: typer.Typer) -> None:
    """Adds these commands to `pixcrawler admin`."""
    admin.add_typer(stage, name="stage")
    admin.add_typer(calendar, name="calendar")
    admin.command("slots")(list_slots)


@stage.command("list")
def list_stages(gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show each stage: paused or open, bells in its queue, chunks ready and running, workers."""
    from pixcrawler.commands import operating

    _with(gateway, api_key, lambda client: operating.list_stages(client, is_json=as_json))


@stage.command("workers")
def list_workers(gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the workers that report, by stage."""
    from pixcrawler.commands import operating

    _with(gateway, api_key, lambda client: operating.list_workers(client, is_json=as_json))


@stage.command("pause")
def pause_stage(name: StageName, gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Let no worker take another chunk of a stage; chunks in hand come to their end."""
    from pixcrawler.commands import operating

    _with(gateway, api_key, lambda client: operating.pause_stage(client, name, is_json=as_json))


@stage.command("resume")
def resume_stage(name: StageName, gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Let a paused stage go on."""
    from pixcrawler.commands import operating

    _with(gateway, api_key, lambda client: operating.resume_stage(client, name, is_json=as_json))


@stage.command("drain")
def drain_stage(
    name: StageName,
    timeout: Annotated[float, Option(min=0, metavar="SECONDS", help="Give up waiting after this.")] = 900.0,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Pause a stage and wait until no worker has a chunk of it; it stays paused."""
    from pixcrawler.commands import operating

    _with(
        gateway,
        api_key,
        lambda client: operating.drain_stage(client, name, timeout_seconds=timeout, is_json=as_json),
    )


def list_slots(gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show who holds which slot, for how long, and why nothing more is let in."""
    from pixcrawler.commands import operating

    _with(gateway, api_key, lambda client: operating.list_slots(client, is_json=as_json))


@calendar.command("list")
def list_calendar(gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the entries with their last and next run."""
    from pixcrawler.commands import operating

    _with(gateway, api_key, lambda client: operating.list_calendar(client, is_json=as_json))


@calendar.command("pause")
def pause_entry(name: EntryName, gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Let an entry rest until it is resumed."""
    from pixcrawler.commands import operating

    _with(gateway, api_key, lambda client: operating.pause_entry(client, name, is_json=as_json))


@calendar.command("resume")
def resume_entry(name: EntryName, gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Let an entry go on; what it missed is made up for by one run."""
    from pixcrawler.commands import operating

    _with(gateway, api_key, lambda client: operating.resume_entry(client, name, is_json=as_json))


@calendar.command("run")
def run_entry(name: EntryName, gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Have an entry run now, paused or not."""
    from pixcrawler.commands import operating

    _with(gateway, api_key, lambda client: operating.run_entry(client, name, is_json=as_json))


def _with(gateway: str | None, api_key: str | None, use: "Callable[[Client], None]") -> None:
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        use(client)
