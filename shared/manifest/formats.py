"""Which formats a list may have, and how its name tells them."""

from enum import StrEnum
from pathlib import PurePath

from shared.errors import BadSource


class ListFormat(StrEnum):
    """The value is the file extension; `.gz` may follow each of them."""

    TXT = "txt"  #: one URL a line
    CSV = "csv"
    TSV = "tsv"
    JSON = "json"  #: an array of URLs or objects; one object a line is understood too
    JSONL = "jsonl"  #: one object or URL a line
    PARQUET = "parquet"


_ALIASES = {"ndjson": ListFormat.JSONL, "text": ListFormat.TXT, "pq": ListFormat.PARQUET}

#: Endings of a name that tell a format, `.gz` aside.
ENDINGS = frozenset({*ListFormat, *_ALIASES})


def format_of(name: str) -> ListFormat:
    """The format that a file's name tells. Raises BadSource for a name that tells none."""
    suffixes = [suffix[1:].lower() for suffix in PurePath(name).suffixes]
    if suffixes and suffixes[-1] == "gz":
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    if last in _ALIASES:
        return _ALIASES[last]
    try:
        return ListFormat(last)
    except ValueError:
        known = ", ".join(ListFormat)
        raise BadSource(f"the format of '{PurePath(name).name}' is unknown; known are {known}, each also .gz") from None
