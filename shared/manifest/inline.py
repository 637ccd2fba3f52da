"""Rows that came in a request instead of a file: written as JSON lines, so that there is one way to read."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from shared.errors import BadSource


def write_rows(rows: Iterable[str | Mapping[str, object]], path: Path) -> int:
    """Writes URLs or objects as JSON lines for `open_list(..., list_format=ListFormat.JSONL)`.

    Returns how many rows were written. Raises BadSource when there are none.
    """
    count = 0
    with path.open("w", encoding="ascii", newline="\n") as file:
        for row in rows:
            json.dump(row if isinstance(row, str) else dict(row), file, ensure_ascii=True)
            file.write("\n")
            count += 1
    if not count:
        raise BadSource("the list has no rows")
    return count
