"""The validator at hand, without a queue: `python -m validator.check DIR [--out OUT]`.

Every file below DIR is judged as an image of a chunk is: by the same code, in the same killable child, under
the same limits. A JSON line for each file, in the order of names in each folder, as soon as it is judged:

    file     its path below DIR
    verdict  accept | reject
    reason   null, or the class of the rejection (`classify`)
    format   JPEG | PNG | WEBP | GIF: of the stored picture, or what a rejected one claims to be; else null
    size     [width, height] of the stored picture as a viewer shows it; null when rejected
    seconds  the judging took; starting a decoder is not counted
    code     the reason as datasets have it (`shared.reasons`); null when accepted or no file
    stored   the name in OUT: our number of the file and the extension of what the bytes are; null when rejected

Exit codes: 0 every file was judged, 1 that was not possible, 2 wrong usage.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from shared.errors import PixCrawlerError
from shared.reasons import Reason
from shared.recipe import Depth, ImageKind, Recipe
from validator.children import Columns, DecodeChildren, Limits
from validator.files import NotAFileError, TooLargeError, files_below, put_down, take_in
from validator.judge import Value
from validator.pixels import OUT_OF_MEMORY
from validator.settings import ValidatorSettings
from validator.validate import limits_of
from validator.walk.picture import CUT, NO_AREA, TOO_MANY_PARTS, TOO_MANY_SCANS
from validator.work import ChunkWork, WorkRow

#: The class of what is no regular file; datasets know no such row.
NOT_A_FILE = "not_a_file"
_CLASSES: Mapping[str, str] = {
    Reason.EMPTY_BODY: "empty",
    Reason.CORRUPT_IMAGE: "decode_error",
    Reason.DECODER_TIMEOUT: "timeout",
}
_CLASSES_BY_DETAIL: Mapping[str, str] = {
    CUT: "truncated",
    NO_AREA: "bad_dimensions",
    TOO_MANY_SCANS: "too_many_scans",
    TOO_MANY_PARTS: "metadata_bomb",
    OUT_OF_MEMORY: "memory_limit",
}
_NAMES = {ImageKind.JPEG: "JPEG", ImageKind.PNG: "PNG", ImageKind.WEBP: "WEBP", ImageKind.GIF: "GIF"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the answer; the module's docstring says what its fields mean."""

    file: str
    verdict: str = "reject"
    reason: str | None = None
    format: str | None = None
    size: tuple[int, int] | None = None
    seconds: float = 0.0
    code: str | None = None
    stored: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Judges the files of a folder and prints what it finds."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.directory.is_dir():
        parser.error(f"{options.directory} is not a folder")
    limits = limits_of(ValidatorSettings.load())
    recipe = _recipe(parser, options)
    try:
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
        asyncio.run(check_folder(options.directory, options.out, recipe, limits, _print))
    except (PixCrawlerError, OSError) as error:
        sys.stderr.write(f"validator.check: {error}\n")
        return 1
    return 0


async def check_folder(
    folder: Path, out: Path | None, recipe: Recipe, limits: Limits, tell: Callable[[Finding], None]
) -> None:
    """Judges every file below the folder. Raises OSError, ChunkError or WorkAreaFull when it cannot go on.

    `out` is a folder, or None when nothing is to be stored.
    """
    names = list(files_below(folder))  # before anything is stored, for `out` may lie inside
    async with DecodeChildren(limits) as children:
        bench = _Bench(recipe, children, out)
        for number, name in enumerate(names):
            tell(await bench.check(folder, name, number))


def classify(columns: Mapping[str, Value]) -> str | None:
    """The class of a verdict's rejection: finer than our reasons in places, and coarser in none. None: accepted."""
    reason = columns.get("reason")
    if reason is None:
        return None
    by_detail = _CLASSES_BY_DETAIL.get(str(columns.get("detail")))
    return by_detail or _CLASSES.get(str(reason), str(reason))


class _Bench:
    """Checks one file after another."""

    def __init__(self, recipe: Recipe, children: DecodeChildren, out: Path | None) -> None:
        self._recipe = recipe
        self._children = children
        self._out = out

    async def check(self, folder: Path, name: str, number: int) -> Finding:
        await self._children.start()
        with tempfile.TemporaryDirectory(prefix="pixcrawler-check-") as scratch:
            begun = time.monotonic()
            work = _work(Path(scratch), self._recipe)
            verdict = await self._verdict(folder / name, work)
            finding = _finding(name, number, verdict, time.monotonic() - begun)
            if self._out is not None and finding.stored is not None:
                source = work.derived if verdict["derived"] else work.pack
                offset, length = _number(verdict["offset"]), _number(verdict["length"])
                put_down(source, self._out / finding.stored, offset=offset, length=length)
        return finding

    async def _verdict(self, path: Path, work: ChunkWork) -> Columns:
        """What the decode child says of the file, or why it is not shown the file."""
        try:
            length = take_in(path, work.pack, max_bytes=self._recipe.max_bytes)
        except NotAFileError:
            return {"reason": NOT_A_FILE}
        except TooLargeError:
            return {"reason": Reason.BODY_TOO_LARGE.value}
        if not length:
            return {"reason": Reason.EMPTY_BODY.value}
        row = WorkRow(place=0, offset=0, length=length)
        return (await self._children.judge(work.model_copy(update={"rows": (row,)}), lambda at: None))[0]


def _work(scratch: Path, recipe: Recipe) -> ChunkWork:
    """A chunk without rows yet."""
    derived, journal = scratch / "derived", scratch / "journal"
    return ChunkWork(pack=scratch / "pack", derived=derived, journal=journal, recipe=recipe, rows=())


def _finding(name: str, number: int, verdict: Columns, seconds: float) -> Finding:
    code = verdict.get("reason")
    if code is None:
        kind = ImageKind(str(verdict["stored_format"]))
        size = (_number(verdict["width"]), _number(verdict["height"]))
        stored = f"{number:09d}.{kind.value}"
        return Finding(
            file=name, verdict="accept", format=_NAMES[kind], size=size, seconds=round(seconds, 4), stored=stored
        )
    claimed = verdict.get("format")
    return Finding(
        file=name,
        reason=classify(verdict),
        format=_NAMES[ImageKind(str(claimed))] if claimed else None,
        seconds=round(seconds, 4),
        code=None if code == NOT_A_FILE else str(code),
    )


def _number(value: Value) -> int:
    return int(str(value))


def _print(finding: Finding) -> None:
    print(json.dumps(asdict(finding)), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m validator.check", description="Judges the files of a folder as the validator judges images."
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder whose files are judged, with those below")
    parser.add_argument("--out", type=Path, help="folder for what would be stored; made when missing")
    parser.add_argument("--depth", choices=[depth.value for depth in Depth], help="how thoroughly; default: standard")
    parser.add_argument("--recipe", default="{}", metavar="JSON", help="choices of a job, as the API takes them")
    return parser


def _recipe(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Recipe:
    try:
        recipe = Recipe.model_validate_json(options.recipe)
    except ValidationError as error:
        parser.error(f"--recipe: {error}")
    return recipe if options.depth is None else recipe.model_copy(update={"depth": Depth(options.depth)})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
