"""`pixcrawler list …`: what is in a list of URLs. Names and options; imports as in `cli.py`."""

from typing import Annotated

import typer
from typer import Option

from pixcrawler.commands.options import Asked, Choices, ListPath, spread
from pixcrawler.words import ListFormat

lists = typer.Typer(help="Lists of URLs.", no_args_is_help=True)


@lists.command()
@spread
def check(
    asked: Asked,
    path: ListPath,
    input_format: Annotated[ListFormat | None, Option(help="The list's format; by default as its name tells.")] = None,
    url_col: Annotated[str | None, Option(help="Column with the URLs; by default guessed.")] = None,
    caption_col: Annotated[str | None, Option(help="Column with the captions; by default guessed.")] = None,
) -> None:
    """Read a list of URLs whole and say what is in it; without a gateway, on this machine."""
    from pixcrawler.commands import checking
    from pixcrawler.commands.interrupts import Interrupts
    from pixcrawler.commands.report import reporter

    columns = Choices(input_format=input_format, url_col=url_col, caption_col=caption_col)
    with Interrupts() as interrupts, reporter(is_json=asked.as_json) as shown:
        checking.check(asked.gateway, asked.api_key, path, columns, shown, interrupts, is_json=asked.as_json)
