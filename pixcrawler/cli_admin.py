"""`pixcrawler admin tenant | key | stage | slots | calendar`: names and options of what operators see and steer."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from pixcrawler.commands.options import Asked, spread
from pixcrawler.words import Gone, JobKind

if TYPE_CHECKING:
    from pixcrawler.client import Client

tenant = typer.Typer(help="Who may submit jobs.", no_args_is_help=True)
key = typer.Typer(help="API keys: ways in for a tenant.", no_args_is_help=True)
stage = typer.Typer(help="The stages, their queues and workers.", no_args_is_help=True)
calendar = typer.Typer(help="What is done periodically.", no_args_is_help=True)

TenantName = Annotated[str, Argument(metavar="TENANT", help="The tenant's name.")]
KeyId = Annotated[str, Argument(metavar="ID", help="The eight characters behind pxc_.")]
TierName = Annotated[str | None, Option("--tier", metavar="TIER", help="enterprise or free.")]
Limits = Annotated[
    list[str] | None,
    Option(
        "--limit",
        metavar="QUOTA=N",
        help="open_jobs, rows_a_day or bytes_a_day; N or none; may be repeated, and replaces what was agreed before.",
    ),
]
StageName = Annotated[str, Argument(metavar="STAGE", help="download, validate or upload.")]
EntryName = Annotated[str, Argument(metavar="NAME", help="The entry's name, as the list has it.")]


def add_to(admin: typer.Typer) -> None:
    """Adds these commands to `pixcrawler admin`."""
    admin.add_typer(tenant, name="tenant")
    admin.add_typer(key, name="key")
    admin.add_typer(stage, name="stage")
    admin.add_typer(calendar, name="calendar")
    admin.command("slots")(list_slots)


@tenant.command("list")
@spread
def list_tenants(
    asked: Asked,
) -> None:
    """Show all tenants: tier that is agreed, tier that counts now, limits."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.list_tenants(client, is_json=asked.as_json))


@tenant.command("show")
@spread
def show_tenant(
    asked: Asked,
    name: TenantName,
) -> None:
    """Show a tenant, and what it has used today."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.show(client, name, is_json=asked.as_json))


@tenant.command("create")
@spread
def create_tenant(
    asked: Asked,
    name: TenantName,
    tier: TierName = None,
    limit: Limits = None,
) -> None:
    """Make a tenant; make a key for it next."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.create(client, name, tier, limit, is_json=asked.as_json))


@tenant.command("change")
@spread
def change_tenant(
    asked: Asked,
    name: TenantName,
    tier: TierName = None,
    limit: Limits = None,
) -> None:
    """Agree on another tier, for chunks planned from now on, or on other limits."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.change(client, name, tier, limit, is_json=asked.as_json))


@tenant.command("suspend")
@spread
def suspend_tenant(
    asked: Asked,
    name: TenantName,
) -> None:
    """Shut a tenant's keys out; its jobs go on."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.suspend(client, name, suspended=True, is_json=asked.as_json))


@tenant.command("readmit")
@spread
def readmit_tenant(
    asked: Asked,
    name: TenantName,
) -> None:
    """End a tenant's suspension."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.suspend(client, name, suspended=False, is_json=asked.as_json))


@key.command("list")
@spread
def list_keys(
    asked: Asked,
    of: Annotated[str | None, Option("--tenant", metavar="TENANT", help="Only those of this tenant.")] = None,
) -> None:
    """Show keys, without their secrets."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.list_keys(client, of, is_json=asked.as_json))


@key.command("create")
@spread
def create_key(
    asked: Asked,
    of: Annotated[str, Option("--tenant", metavar="TENANT", help="Whose key it is to be.")],
    name: Annotated[str, Option(metavar="TEXT", help="What it is for.")] = "",
    scope: Annotated[
        list[str] | None, Option(help="jobs:read, jobs:write or admin; may be repeated; by default the first two.")
    ] = None,
    days: Annotated[int | None, Option(min=1, max=3650, help="How long it works; by default until revoked.")] = None,
) -> None:
    """Make a key and print it; nobody can show it again."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.create_key(client, of, name, scope, days, is_json=asked.as_json))


@key.command("rotate")
@spread
def rotate_key(
    asked: Asked,
    key_id: KeyId,
    overlap_hours: Annotated[int, Option(min=0, max=2160, help="For so long both keys work.")] = 24,
) -> None:
    """Make a key that takes another's place, and print it."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.rotate_key(client, key_id, overlap_hours, is_json=asked.as_json))


@key.command("revoke")
@spread
def revoke_key(
    asked: Asked,
    key_id: KeyId,
) -> None:
    """Make a key useless."""
    from pixcrawler.commands import tenants

    _with(asked, lambda client: tenants.revoke_key(client, key_id, is_json=asked.as_json))


@stage.command("list")
@spread
def list_stages(asked: Asked) -> None:
    """Show each stage: paused or open, bells in its queue, chunks ready and running, workers."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.list_stages(client, is_json=asked.as_json))


@stage.command("workers")
@spread
def list_workers(asked: Asked) -> None:
    """Show the workers that report, by stage."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.list_workers(client, is_json=asked.as_json))


@stage.command("pause")
@spread
def pause_stage(asked: Asked, name: StageName) -> None:
    """Let no worker take another chunk of a stage; chunks in hand come to their end."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.pause_stage(client, name, is_json=asked.as_json))


@stage.command("resume")
@spread
def resume_stage(asked: Asked, name: StageName) -> None:
    """Let a paused stage go on."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.resume_stage(client, name, is_json=asked.as_json))


@stage.command("drain")
@spread
def drain_stage(
    asked: Asked,
    name: StageName,
    timeout: Annotated[float, Option(min=0, metavar="SECONDS", help="Give up waiting after this.")] = 900.0,
) -> None:
    """Pause a stage and wait until no worker has a chunk of it; it stays paused."""
    from pixcrawler.commands import operating

    _with(
        asked,
        lambda client: operating.drain_stage(client, name, timeout_seconds=timeout, is_json=asked.as_json),
    )


@spread
def list_slots(asked: Asked) -> None:
    """Show who holds which slot, for how long, and why nothing more is let in."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.list_slots(client, is_json=asked.as_json))


@calendar.command("list")
@spread
def list_calendar(asked: Asked) -> None:
    """Show the entries with their last and next run."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.list_calendar(client, is_json=asked.as_json))


@calendar.command("add")
@spread
def add_entry(
    asked: Asked,
    job: Annotated[str, Argument(metavar="JOB", help="Any job of the dataset.")],
    every_hours: Annotated[float | None, Option(help="How often.", metavar="N", min=1 / 60)] = None,
    cron: Annotated[
        str | None, Option(help="Or when: minute, hour, day of month, month, day of week, in UTC.", metavar="FIELDS")
    ] = None,
    reason: Annotated[
        list[str] | None,
        Option(
            help="Of a retry: rows rejected for this; may be repeated. By default all that may pass.", metavar="REASON"
        ),
    ] = None,
    kind: Annotated[
        JobKind, Option(help="retry takes rejected rows again, refresh asks whether accepted ones have changed.")
    ] = JobKind.RETRY,
    gone: Annotated[
        Gone | None, Option(help="Of a refresh: keep pictures that are not there any more, or drop them.")
    ] = None,
) -> None:
    """Have a job's dataset retried or refreshed periodically."""
    from pixcrawler.commands import operating

    seconds = None if every_hours is None else round(every_hours * 3600)
    _with(
        asked,
        lambda client: operating.add_entry(client, job, seconds, cron, reason, kind, gone, is_json=asked.as_json),
    )


@calendar.command("remove")
@spread
def remove_entry(asked: Asked, name: EntryName) -> None:
    """Remove an entry that was added; the house's own can only rest."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.remove_entry(client, name))


@calendar.command("pause")
@spread
def pause_entry(asked: Asked, name: EntryName) -> None:
    """Let an entry rest until it is resumed."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.pause_entry(client, name, is_json=asked.as_json))


@calendar.command("resume")
@spread
def resume_entry(asked: Asked, name: EntryName) -> None:
    """Let an entry go on; what it missed is made up for by one run."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.resume_entry(client, name, is_json=asked.as_json))


@calendar.command("run")
@spread
def run_entry(asked: Asked, name: EntryName) -> None:
    """Have an entry run now, paused or not."""
    from pixcrawler.commands import operating

    _with(asked, lambda client: operating.run_entry(client, name, is_json=asked.as_json))


def _with(asked: Asked, use: "Callable[[Client], None]") -> None:
    with asked.client() as client:
        use(client)
