"""What a refresh makes of a row: whether its picture is the one that the dataset holds, another one, or none.

    304, or the same bytes       unchanged: the row stands where it stood
    other bytes                  accepted: the row stands in this index from here on
    no picture, or an unfit one  kept: the row stands where it stood; or, if the client wants that, rejected for good

What its owner withdrew by now is never kept.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from shared.index import Record, is_accepted, rejected
from shared.pipeline import Gone
from shared.reasons import REASONS, Reason
from shared.records import HELD

_WITHDRAWN = frozenset({Reason.OPTED_OUT, Reason.TAKEN_DOWN})
#: A picture came, and the destination did not take it.
_NOT_STORED = frozenset({Reason.SUPERSEDED, Reason.DUPLICATE_OF_LOST})


def held_digests(source: pa.Table) -> dict[int, str]:
    """By row, the SHA-256 (hex) of the bytes that its picture was made of; of no row when this is no refresh."""
    if HELD.name not in source.column_names:
        return {}
    rows = source.select(["row", HELD.name]).to_pylist()
    return {row["row"]: row[HELD.name]["sha256"] for row in rows if row[HELD.name]["sha256"] is not None}


def refreshed(records: Sequence[Record], held: Mapping[int, str], gone: Gone) -> list[Record]:
    """The records as they are to be settled and stored."""
    return [_refreshed(record, held.get(record["row"]), gone) for record in records]


def kept_if_not_stored(records: Sequence[Record]) -> list[Record]:
    """The records once it is known what the destination took."""
    return [_kept(record) if record["reason"] in _NOT_STORED else record for record in records]


def _refreshed(record: Record, held: str | None, gone: Gone) -> Record:
    has_picture = is_accepted(record) or record["reason"] == Reason.DUPLICATE
    if has_picture and held is not None and record["sha256"] == held:
        return rejected({**record, "duplicate_of": None}, Reason.UNCHANGED)
    if has_picture or record["reason"] == Reason.UNCHANGED:
        return record
    reason = Reason(record["reason"])
    is_lost = gone is Gone.DROP and not REASONS[reason].is_retryable
    return record if is_lost or reason in _WITHDRAWN else _kept(record)


def _kept(record: Record) -> Record:
    return rejected({**record, "duplicate_of": None}, Reason.KEPT, detail=record["reason"])
