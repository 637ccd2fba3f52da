"""The `pixcrawler` command: its names and options. What a command needs is imported when it runs.

Every way out is a code of `commands/exits.py`, and every failure one sentence on stderr.
"""

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from pixcrawler import cli_admin
from pixcrawler.cli_config import config
from pixcrawler.cli_jobs import jobs, submit
from pixcrawler.cli_lists import lists
from pixcrawler.cli_webhooks import webhooks
from pixcrawler.commands.ending import guarded
from pixcrawler.commands.exits import Failure
from pixcrawler.commands.interrupts import Interrupts
from pixcrawler.commands.options import AsJson, Asked, Choices, To, spread
from pixcrawler.words import TakedownKind


class Shell(StrEnum):
    """Shells that can be told what may come next."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


app = typer.Typer(
    name="pixcrawler",
    help="Turns a list of image URLs into a clean, documented, training-ready dataset.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

admin = typer.Typer(help="For administrators of a gateway.", no_args_is_help=True)
app.add_typer(lists, name="list")
app.add_typer(jobs, name="job")
app.add_typer(webhooks, name="webhook")
app.add_typer(config, name="config")
app.add_typer(admin, name="admin")
cli_admin.add_to(admin)

#: Set by the shell when it asks what may come next.
COMPLETE = "_PIXCRAWLER_COMPLETE"
FailedChunkId = Annotated[int | None, Argument(metavar="CHUNK", min=1, help="The failed chunk's id.")]
OfJob = Annotated[str | None, Option("--job", metavar="JOB", help="Those of this job.")]
OfCode = Annotated[str | None, Option("--code", help="Those that failed with this error.")]


@app.command()
@spread
def run(
    choices: Choices,
    to: To,
    path: Annotated[
        Path | None,
        Argument(metavar="LIST", help="txt, csv, tsv, json, jsonl or parquet, each also .gz.", show_default=False),
    ] = None,
    sample: Annotated[
        int | None, Option(min=1, metavar="ROWS", help="Instead of LIST: made-up pictures, served on this machine.")
    ] = None,
    sample_port: Annotated[
        int | None, Option(min=1, max=65535, help="Where to serve them; by default as DEST decides.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build a dataset on this machine, and stop everything afterwards. The same command goes on after Ctrl-C."""
    from pixcrawler.commands.report import reporter
    from pixcrawler.commands.running import Asked
    from pixcrawler.commands.running import run as build

    if (path is None) == (sample is None):
        raise Failure("give either LIST or --sample ROWS")
    asked = Asked(path=path, sample_rows=sample, sample_port=sample_port, destination=to, choices=choices)
    with Interrupts() as interrupts, reporter(is_json=as_json) as shown:
        raise typer.Exit(build(asked, shown, interrupts))


@app.command()
def up(
    port: Annotated[int | None, Option(min=1, max=65535, help="The gateway's; by default a free one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start the whole system on this machine and stay until Ctrl-C."""
    from pixcrawler.commands.report import reporter
    from pixcrawler.commands.serving import serve

    with Interrupts(), reporter(is_json=as_json) as shown:
        serve(port, shown)


app.command()(submit)  # as `pixcrawler job submit`: the one that everybody needs


@admin.command()
@spread
def takedown(
    asked: Asked,
    kind: Annotated[TakedownKind, Argument(metavar="KIND", help="url, host, sha256 or phash.")],
    value: Annotated[str, Argument(metavar="VALUE", help="The address, the name, or the hash as the index has it.")],
    note: Annotated[str, Option(help="Who asked, and where that is written down.", metavar="TEXT")] = "",
    purge: Annotated[bool, Option("--purge", help="Delete what is stored already, too; it cannot be undone.")] = False,
) -> None:
    """Forbid to fetch or to store something, in any dataset."""
    from pixcrawler.commands import takedowns as commands

    with asked.client() as client:
        commands.take_down(client, kind, value, note, purge=purge, is_json=asked.as_json)


@admin.command("takedowns")
@spread
def list_takedowns(
    asked: Asked,
    kind: Annotated[TakedownKind | None, Option(help="Only those of this kind.")] = None,
    limit: Annotated[int | None, Option(min=1, help="How many at most; by default all.")] = None,
) -> None:
    """Show what was taken down, newest first."""
    from pixcrawler.commands import takedowns as commands

    with asked.client() as client:
        commands.list_takedowns(client, kind, limit, is_json=asked.as_json)


@admin.command()
@spread
def lift(
    asked: Asked,
    takedown_id: Annotated[int, Argument(metavar="ID", min=1, help="The takedown's id.")],
) -> None:
    """Allow again what a takedown forbade."""
    from pixcrawler.commands import takedowns as commands

    with asked.client() as client:
        commands.lift(client, takedown_id, is_json=asked.as_json)


@admin.command("failed")
@spread
def list_failed(
    asked: Asked,
    chunk: Annotated[
        int | None, Argument(metavar="CHUNK", min=1, help="Instead of a list: this one, with its history.")
    ] = None,
    job: OfJob = None,
    code: OfCode = None,
    limit: Annotated[int | None, Option(min=1, help="How many at most; by default all.")] = None,
) -> None:
    """Show failed chunks nobody has decided about, newest first; without a choice, unreadable messages too."""
    from pixcrawler.commands import failed as commands

    with asked.client() as client:
        if chunk is not None:
            commands.show(client, chunk, is_json=asked.as_json)
        else:
            commands.list_failed(client, job, code, limit, is_json=asked.as_json)


@admin.command()
@spread
def redrive(
    asked: Asked,
    chunk: FailedChunkId = None,
    job: OfJob = None,
    code: OfCode = None,
    force: Annotated[bool, Option("--force", help="Also what failed again after three redrives.")] = False,
) -> None:
    """Try failed chunks again; their job and its dataset are completed with them."""
    from pixcrawler.commands import failed as commands

    with asked.client() as client:
        commands.redrive(client, chunk, job, code, force=force, is_json=asked.as_json)


@admin.command()
@spread
def drop(
    asked: Asked,
    chunk: FailedChunkId = None,
    job: OfJob = None,
    code: OfCode = None,
    poison: Annotated[int | None, Option(min=1, metavar="ID", help="Instead: this unreadable message.")] = None,
) -> None:
    """Accept the loss of failed chunks for good: they stay failed, and nobody is alerted to them any more."""
    from pixcrawler.commands import failed as commands

    with asked.client() as client:
        if poison is not None:
            commands.drop_poison(client, poison, is_json=asked.as_json)
        else:
            commands.drop(client, chunk, job, code, is_json=asked.as_json)


#: The end of typer's script for zsh. Loaded by name from fpath it would only register, and the first Tab find nothing.
_ZSH_REGISTERS = "compdef _pixcrawler_completion pixcrawler"
_ZSH_COMPLETES = f"""if [[ $funcstack[1] == _pixcrawler ]]; then
  _pixcrawler_completion "$@"
else
  {_ZSH_REGISTERS}
fi"""


@app.command()
def completion(
    shell: Annotated[Shell, Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print what makes a shell complete this command; see docs/how-to/use-the-command.md."""
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="pixcrawler", complete_var=COMPLETE, shell=shell.value)
    sys.stdout.write(f"{script.replace(_ZSH_REGISTERS, _ZSH_COMPLETES)}\n")


@app.command()
def version() -> None:
    """Show the version."""
    from importlib import metadata

    sys.stdout.write(f"{metadata.version('pixcrawler')}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point; ends the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    raise SystemExit(guarded(lambda: _dispatch(given), "--json" in given))


def _dispatch(given: Sequence[str]) -> object:
    from pixcrawler.commands import config_file, foreign

    if COMPLETE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
        return app([], prog_name="pixcrawler", standalone_mode=False)
    found = {} if given[:1] == ["config"] else config_file.read()
    defaults = config_file.defaults_for(typer.main.get_command(app), found) if found else {}
    return app(foreign.translated(given), prog_name="pixcrawler", standalone_mode=False, default_map=defaults)


if __name__ == "__main__":
    main()
