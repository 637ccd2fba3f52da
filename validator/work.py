"""What the validator and its decode child say to each other.

    parent ──▶ stdin   one ChunkWork for each chunk, a JSON line
    parent ◀── stdout  one Reply for each line, and one when the child is ready
    parent ◀── memory  Position: which image is being judged, and since when (mapped by both)
    parent ◀── file    the journal: one verdict a line, written when the image is done

The journal is written by a plain append, so what a killed child had finished is not lost.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from shared.recipe import Recipe


class WorkRow(BaseModel):
    """One image to judge."""

    model_config = ConfigDict(frozen=True)

    place: int  #: in the chunk, from 0
    offset: int  #: in the pack, bytes
    length: int


class ChunkWork(BaseModel):
    """One chunk's images, or what is left of them after a child died."""

    model_config = ConfigDict(frozen=True)

    pack: Path
    derived: Path  #: stored bytes are appended here
    journal: Path  #: verdicts are appended here
    recipe: Recipe
    rows: tuple[WorkRow, ...]


class Reply(BaseModel):
    """What a child says when it is ready, and after each chunk."""

    images: int = 0  #: judged since it started
    resident_kb: int = 0  #: most memory it ever held
    is_disk_full: bool = False


@dataclass(frozen=True, slots=True)
class At:
    """Where a child is. `place` is None between images."""

    place: int | None
    done: int
    accepted: int
    stored_bytes: int


class Position:
    """A few numbers in a mapped file: writing them costs no system call, and they outlive the writer.

    Who reads while they are written may find zeros among them: nothing final may hang on a single look.
    """

    _LAYOUT = struct.Struct("<qqqq")
    SIZE = _LAYOUT.size

    def __init__(self, descriptor: int) -> None:
        """Maps a file of at least `SIZE` bytes; the descriptor may be closed afterwards."""
        self._map = mmap.mmap(descriptor, self.SIZE)

    def read(self) -> At:
        place, done, accepted, stored_bytes = self._LAYOUT.unpack(self._map[: self.SIZE])
        return At(None if place < 0 else place, done, accepted, stored_bytes)

    def write(self, place: int | None, *, done: int, accepted: int, stored_bytes: int) -> None:
        """Says that the image at `place` is begun now (None: no image)."""
        begun = -1 if place is None else place
        self._LAYOUT.pack_into(self._map, 0, begun, done, accepted, stored_bytes)

    def close(self) -> None:
        self._map.close()
