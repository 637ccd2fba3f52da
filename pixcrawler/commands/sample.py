"""The list of `run --sample N`: made-up pictures that the command serves itself, on loopback."""

import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pixcrawler.commands.exits import Exit, Failure
from pixcrawler.commands.options import Choices

if TYPE_CHECKING:
    from pixcrawler.sample import Origin

#: Below the ports that systems give out by themselves.
_LOWEST_PORT = 20_000
_PORTS = 12_000


@dataclass(frozen=True)
class Sample:
    """A served sample."""

    path: Path
    choices: Choices
    #: Settings by which the stack may fetch from loopback.
    environment: Mapping[str, str]


def port_for(destination: str) -> int:
    """The same for the same destination: the URLs are part of the list, by which a run is found again."""
    return _LOWEST_PORT + zlib.crc32(destination.encode()) % _PORTS


@contextmanager
def served(rows: int, port: int, choices: Choices) -> Iterator[Sample]:
    """Serves a sample until the block ends. Raises Failure when that cannot be had."""
    with tempfile.TemporaryDirectory(prefix="pixcrawler-sample-") as folder, _origin(rows, port) as origin:
        path = Path(folder) / f"sample-{rows}.csv"
        origin.write_list(path)
        yield Sample(path, _suited(choices), origin.extra_environment)


@contextmanager
def _origin(rows: int, port: int) -> "Iterator[Origin]":
    try:
        from pixcrawler.sample import sample_origin
    except ImportError as error:
        raise Failure(
            f"the sample needs: pip install 'pixcrawler[local]' ({error.name} is missing)", Exit.STACK
        ) from error
    try:
        context = sample_origin(rows=rows, port=port)
        origin = context.__enter__()
    except OSError as error:
        raise Failure(
            f"the sample cannot be served on port {port} ({error.strerror}); choose another by --sample-port",
            Exit.STACK,
        ) from error
    try:
        yield origin
    finally:
        context.__exit__(None, None, None)


def _suited(choices: Choices) -> Choices:
    """What the sample's list has, where nothing else was chosen."""
    from pixcrawler.sample import SAMPLE_RECIPE

    return replace(
        choices,
        caption_col=choices.caption_col or "caption",
        save_columns=choices.save_columns or ["id", "licence"],
        min_image_size=SAMPLE_RECIPE["min_image_size"] if choices.min_image_size is None else choices.min_image_size,
    )
