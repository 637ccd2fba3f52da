"""From cells of a list to columns of a plan: trimmed, valid UTF-8, bounded, never an error.

A cell that no dataset could hold (broken UTF-8, a lone surrogate, NUL, longer than the limit) becomes null.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

#: A line or a cell may have this many bytes; longer ones are unreadable.
MAX_CELL_BYTES = 64 * 1024
#: The longest URL seen among 10,000 in the wild had 3,487 bytes.
MAX_URL_BYTES = 8 * 1024


def text_column(cells: Sequence[str | None]) -> pa.Array:
    """Python strings as an Arrow column."""
    try:
        return bounded(pa.array(cells, pa.string()))
    except UnicodeEncodeError:
        return bounded(pa.array([_encodable(cell) for cell in cells], pa.string()))


def url_column(texts: pa.Array) -> pa.Array:
    """A text column without white space around its URLs; empty and endless ones are null."""
    trimmed = pc.utf8_trim_whitespace(texts)
    length = pc.binary_length(trimmed)
    usable = pc.and_(pc.greater(length, 0), pc.less_equal(length, MAX_URL_BYTES))
    return trimmed if pc.all(usable).as_py() else pc.if_else(usable, trimmed, None)


def bounded(texts: pa.Array) -> pa.Array:
    """A valid text column whose cells hold no NUL and are not too long."""
    unusable = pc.or_(
        pc.match_substring(texts, "\0"),
        pc.greater(pc.binary_length(texts), MAX_CELL_BYTES),
    )
    return pc.if_else(unusable, None, texts) if pc.any(unusable).as_py() else texts


def valid_text(column: pa.Array) -> pa.Array:
    """Strings or bytes from a file, which nobody checked yet, as a bounded text column."""
    raw = column.cast(pa.binary())
    try:
        return bounded(raw.cast(pa.string()))
    except pa.ArrowInvalid:
        return bounded(pa.array([_decodable(cell) for cell in raw.to_pylist()], pa.string()))


def _encodable(cell: str | None) -> str | None:
    try:
        return None if cell is None else cell.encode().decode()
    except UnicodeEncodeError:
        return None


def _decodable(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None
