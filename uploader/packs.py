"""What the earlier stages left: the tables of a chunk and the packs that hold its bytes."""

import asyncio
import mmap
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from shared.chunk import Chunk
from shared.errors import ChunkError
from shared.index import Record, is_accepted
from shared.recipe import ImageKind
from shared.records import DERIVED_PACK, FETCHED_FILE, PACK, VERDICTS_FILE, from_stream
from uploader.formats import Picture

#: A write from pages that are not mapped yet goes wrong at each of them and is begun again where it stopped.
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)
#: Bytes; of a larger pack the first pages might be gone before the last have come.
_MOST_POPULATED = 512 * 1024 * 1024
#: The validator names the fence of the pack it judged, because a redone validation keeps the fetched one.
_PACK_FENCE = b"pack_fence"


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """A chunk's tables, and where its packs lie. A pack that no accepted row needs is None."""

    source: pa.Table
    fetched: pa.Table
    judged: pa.Table
    pack: Path | None
    derived: Path | None


async def open_verdicts(chunk: Chunk) -> Verdicts:
    """Raises WorkAreaGone, and ChunkError when the verdicts do not name their pack."""
    judged = await _table(await chunk.open(VERDICTS_FILE))
    fence = _pack_fence(judged)
    needed = {row["derived"] for row in judged.select(["derived", "reason"]).to_pylist() if row["reason"] is None}
    has_thumbnails = any(place["thumbnail_offset"] is not None for place in _thumbnail_places(judged))
    return Verdicts(
        source=await chunk.source(),
        fetched=await _table(await chunk.open(FETCHED_FILE, fence=fence)),
        judged=judged,
        pack=await chunk.open(PACK, fence=fence) if needed - {True} else None,
        derived=await chunk.open(DERIVED_PACK) if True in needed or has_thumbnails else None,
    )


@asynccontextmanager
async def pictures_in(verdicts: Verdicts, records: Sequence[Record]) -> AsyncIterator[list[Picture]]:
    """The accepted rows as pictures, in row order; their bytes are windows on the mapped packs."""
    with ExitStack() as stack:
        packs = {
            is_derived: await asyncio.to_thread(stack.enter_context, _mapped(path))
            for is_derived, path in ((False, verdicts.pack), (True, verdicts.derived))
        }
        places = verdicts.judged.select(["derived", "offset", "length", "stored_format"]).to_pylist()
        yield [
            Picture(
                record=record,
                kind=ImageKind(place["stored_format"]),
                body=_window(packs[bool(place["derived"])], place),
            )
            for record, place in zip(records, places, strict=True)
            if is_accepted(record)
        ]


@dataclass(frozen=True)
class Small:
    """A thumbnail as the validator made it, and the hash of the image that it shows."""

    stored_sha256: str
    body: bytes


@contextmanager
def thumbnails_in(verdicts: Verdicts) -> Iterator[dict[int, Small]]:
    """Thumbnails by row, each a copy of some kilobytes: pyarrow would never let go of a window."""
    with _mapped(verdicts.derived) as pack:
        yield {
            place["row"]: Small(
                place["stored_sha256"],
                bytes(_window(pack, {"offset": place["thumbnail_offset"], "length": place["thumbnail_length"]})),
            )
            for place in _thumbnail_places(verdicts.judged)
            if place["thumbnail_offset"] is not None
        }


def _thumbnail_places(judged: pa.Table) -> list[Record]:
    """Where thumbnails lie; nowhere in verdicts of a validator that knows none."""
    names = ["row", "stored_sha256", "thumbnail_offset", "thumbnail_length"]
    places: list[Record] = judged.select(names).to_pylist() if set(names) <= set(judged.column_names) else []
    return places


def _pack_fence(judged: pa.Table) -> int:
    try:
        return int((judged.schema.metadata or {})[_PACK_FENCE])
    except (KeyError, ValueError) as error:
        raise ChunkError("the verdicts do not say which pack they judge") from error


async def _table(path: Path) -> pa.Table:
    return from_stream(await asyncio.to_thread(path.read_bytes))


@contextmanager
def _mapped(path: Path | None) -> Iterator[memoryview]:
    if path is None or not (size_bytes := path.stat().st_size):
        yield memoryview(b"")
        return
    flags = mmap.MAP_SHARED | (_POPULATE if size_bytes <= _MOST_POPULATED else 0)
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ)
    view = memoryview(mapping)
    try:
        yield view
    finally:
        # A put that was cancelled in its thread may still look through a window; the mapping goes with the last one.
        with suppress(BufferError):
            view.release()
            mapping.close()


def _window(pack: memoryview, place: Record) -> memoryview:
    offset, length = place["offset"], place["length"]
    if offset is None or not length or offset < 0 or offset + length > len(pack):
        raise ChunkError("an accepted image does not lie in its pack")
    return pack[offset : offset + length]
