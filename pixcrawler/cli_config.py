"""`pixcrawler config …`: a user's own defaults. Imports as in `cli.py`."""

import sys

import typer

from pixcrawler.commands.options import AsJson

config = typer.Typer(help="Your own defaults for options, in a file.", no_args_is_help=True)


@config.command()
def show(as_json: AsJson = False) -> None:
    """Show each default that a file may change: its value, and where that comes from."""
    import json
    from dataclasses import asdict

    from pixcrawler.commands import config_file

    for setting in config_file.settings(config_file.read()):
        if as_json:
            sys.stdout.write(json.dumps(asdict(setting)) + "\n")
        else:
            value = "-" if setting.value is None else json.dumps(setting.value, ensure_ascii=False)
            sys.stdout.write(f"{setting.name}\t{value}\t{setting.source}\n")


@config.command("path")
def show_path() -> None:
    """Show where the file lies, or would lie."""
    from pixcrawler.commands import config_file

    sys.stdout.write(f"{config_file.path()}\n")
