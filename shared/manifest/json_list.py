"""Lists as JSON lines and as one JSON array, both read value by value.

A value is a URL or an object. Saved columns hold text: strings as they are, other scalars exactly as they are
written in the list, arrays and objects as compact JSON. So no number is rounded and no row is lost to a column
that changes its type half way.
"""

import json
from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Final

from shared.errors import BadSource
from shared.manifest.columns import Columns
from shared.manifest.json_array import elements
from shared.manifest.lines import lines
from shared.manifest.stream import ByteStream
from shared.manifest.text import Row, TextReader, decoded

#: Rows that are looked at before anything is planned, to find a wrong option early.
PROBED_ROWS = 1000
#: Stands for a value that cannot be read; JSON itself has no such thing.
UNREADABLE: Final = object()


class _Number(str):
    """A number (or NaN) as it is written."""


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number, strict=False)


class JsonReader(TextReader):
    """Rows from JSON values."""

    def __init__(self, stream: ByteStream, columns: Columns) -> None:
        super().__init__(stream, columns)
        self._probe()

    @abstractmethod
    def _values(self, offset: int) -> Iterator[tuple[int, object]]:
        """Values with the place where each ends."""

    def _rows(self, offset: int) -> Iterator[Row]:
        names = self.columns.wanted
        others = self._unreadable[1:]
        for end, value in self._values(offset):
            if isinstance(value, dict):
                yield end, [_text(value.get(name)) for name in names]
            else:
                yield end, (value if isinstance(value, str) else None, *others)

    def _probe(self) -> None:
        """Raises BadSource when no row is readable, or none of the first has a wanted column."""
        values = [value for _, value in islice(self._values(self._start), PROBED_ROWS)]
        readable = [value for value in values if isinstance(value, (dict, str))]
        if values and not readable:
            raise BadSource("no row of the list can be read; a row is a JSON object or a URL in quotes")
        objects = [value for value in readable if isinstance(value, dict)]
        names = list(dict.fromkeys(name for value in objects for name in value))
        if objects or len(self.columns.wanted) > 1:
            self.columns.check(names, f"the first {len(values):,} rows have" if values else "the list has")


class JsonLinesReader(JsonReader):
    """One value a line; blank lines are no rows."""

    def _values(self, offset: int) -> Iterator[tuple[int, object]]:
        for end, line in lines(self._stream, offset):
            if line is None:
                yield end, UNREADABLE
            elif stripped := line.strip():
                yield end, _parsed(stripped)


class JsonArrayReader(JsonReader):
    """One array of values."""

    def _values(self, offset: int) -> Iterator[tuple[int, object]]:
        for end, written in elements(self._stream, offset, is_first=offset == self._start):
            yield end, UNREADABLE if written is None else _parsed(written)


def json_reader(stream: ByteStream, columns: Columns) -> JsonReader:
    """A `.json` file is an array by right; many tools write one object a line under that name, so that is read too."""
    stream.seek(0)
    head = stream.read(PEEK_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"{"):
        if not isinstance(_parsed(head.split(b"\n", 1)[0].strip()), dict):
            raise BadSource("a json list is an array of URLs or objects; this one is a single object")
        return JsonLinesReader(stream, columns)
    return JsonArrayReader(stream, columns)


#: Enough to hold the longest line that could be read.
PEEK_BYTES = 128 * 1024


def _parsed(written: bytes) -> object:
    """The value of some text without white space around it."""
    text = decoded(written)
    if text is None:
        return UNREADABLE
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return UNREADABLE
    return value if end == len(text) else UNREADABLE


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return _compact(value)
    except RecursionError:
        return None


def _compact(value: object) -> str:
    match value:
        case _Number():
            return value
        case list():
            return "[" + ",".join(map(_compact, value)) + "]"
        case dict():
            return "{" + ",".join(f"{_compact(name)}:{_compact(item)}" for name, item in value.items()) + "}"
        case _:
            return json.dumps(value, ensure_ascii=False)
