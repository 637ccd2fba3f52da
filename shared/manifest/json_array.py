"""The elements of one JSON array of any length, in bounded memory.

The text is scanned as Latin-1, so that a place in the text is a place in the file and broken UTF-8 spoils one
element only; the standard library's C scanner finds where an element ends.
"""

import json
import re
from collections.abc import Iterator

from shared.errors import BadSource
from shared.manifest.cells import MAX_CELL_BYTES
from shared.manifest.stream import ByteStream

BLOCK_BYTES = 1024**2
#: An element longer than this cannot even be skipped; one longer than a cell may be is skipped.
MAX_ELEMENT_BYTES = 1024**2

_SPACE = re.compile(r"[ \t\r\n]*")
_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False)


def elements(stream: ByteStream, offset: int, *, is_first: bool) -> Iterator[tuple[int, bytes | None]]:
    """Elements as written, with the place behind each; None for one that is too long.

    Begins before the array (`is_first`) or behind an element. Raises BadSource where the array is broken.
    """
    text = _Window(stream, offset)
    if is_first:
        text.expect("[", "a json list is an array of URLs or objects; this one does not begin with [")
    while text.next_mark() != "]":
        if not is_first:
            text.expect(",", "the JSON array is broken")
        is_first = False
        text.next_mark()
        written = text.element()
        yield text.position, written if len(written) <= MAX_CELL_BYTES else None
    text.expect("]", "the JSON array is broken")
    if text.next_mark(at_end=""):
        raise BadSource(f"something follows the end of the JSON array, at byte {text.position:,}")


class _Window:
    """The part of the stream that is looked at."""

    def __init__(self, stream: ByteStream, offset: int) -> None:
        stream.seek(offset)
        self._stream = stream
        self._text = ""
        self._at = 0
        self._base = offset
        self._is_complete = False

    @property
    def position(self) -> int:
        return self._base + self._at

    def next_mark(self, at_end: str | None = None) -> str:
        """Skips white space; the character that follows. At the end raises BadSource unless told what to return."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                break
        if at_end is None:
            raise BadSource(f"the JSON array is cut: it ends without ] at byte {self.position:,}")
        return at_end

    def expect(self, mark: str, complaint: str) -> None:
        if self.next_mark() != mark:
            raise BadSource(f"{complaint}, at byte {self.position:,}")
        self._at += 1

    def element(self) -> bytes:
        """The element that begins here; goes behind it."""
        # A number at the end of the window might go on behind it.
        while len(self._text) - self._at < MAX_CELL_BYTES and self._read_more():
            pass
        while (end := self._end_of_element()) is None:
            if len(self._text) - self._at >= MAX_ELEMENT_BYTES or not self._read_more():
                raise BadSource(
                    f"the JSON array is broken at byte {self.position:,}, or an element is longer than "
                    f"{MAX_ELEMENT_BYTES // 1024**2} MiB"
                )
        written = self._text[self._at : end].encode("latin-1")
        self._at = end
        return written

    def _end_of_element(self) -> int | None:
        try:
            return _SCANNER.raw_decode(self._text, self._at)[1]
        except (ValueError, RecursionError):
            return None

    def _read_more(self) -> bool:
        """Forgets what lies behind and reads a block; whether there was one."""
        if self._is_complete:
            return False
        block = self._stream.read(BLOCK_BYTES)
        self._is_complete = not block
        self._base += self._at
        self._text = self._text[self._at :] + block.decode("latin-1")
        self._at = 0
        return bool(block)
