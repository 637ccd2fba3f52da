"""Rows whose URL stands further up in the list, counted on disk: memory stays flat however long the list is."""

import os
import tempfile
from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

#: Ten million URLs make 64 parts of 156,000, a dozen megabytes while one is counted.
_PARTS = 64
#: Eight bytes each on disk; URLs behind so many are not compared.
MOST_COMPARED = 50_000_000


class Repeats:
    """Counts what it is given more than once, by a keyed hash of 64 bits: ten million differ by all likelihood."""

    def __init__(self, folder: Path) -> None:
        self._files = ExitStack()
        self._parts: list[BinaryIO] = []
        for _ in range(_PARTS):
            handle, name = tempfile.mkstemp(dir=folder)
            self._parts.append(self._files.enter_context(os.fdopen(handle, "w+b")))
            os.unlink(name)
        self._given = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    @property
    def is_exact(self) -> bool:
        """Whether all that was given was compared."""
        return self._given <= MOST_COMPARED

    def add(self, texts: Iterable[str]) -> None:
        """Raises OSError when the disk is full."""
        hashes = [hash(text) for text in texts]  # keyed by this process: nobody can aim at it
        self._given += len(hashes)
        if not self.is_exact:
            return
        sorted_out = [array("q") for _ in range(_PARTS)]
        for each in hashes:
            sorted_out[each % _PARTS].append(each)
        for part, found in zip(self._parts, sorted_out, strict=True):
            part.write(found.tobytes())

    def count(self) -> int:
        return sum(map(_repeated, self._parts))


def _repeated(part: BinaryIO) -> int:
    part.seek(0)
    hashes = array("q", part.read())
    return len(hashes) - len(set(hashes))
