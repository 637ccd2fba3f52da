"""Which rows of an index a purge names, and what it, or a refresh, leaves of rows. Values in, values out."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shared.blocklist import Blocklist
from shared.db.purges import Purge, Removal
from shared.index import Record, rejected
from shared.reasons import ELSEWHERE, Reason

#: What a purge is asked about.
_ASKED = ("row", "reason", "url", "final_url", "sha256", "stored_sha256", "phash")
#: What says where a row's image lies, and its thumbnail.
PATHS = ("path", "thumbnail_path")
#: What an emptied row still says: its place, so that counts go on adding up.
_KEPT = ("row", "key", "revision", "reason")


class Purges:
    """The open purges of one moment, ready to be asked."""

    def __init__(self, purges: Sequence[Purge]) -> None:
        self.orders = purges
        self._all = Blocklist((purge.kind, purge.value) for purge in purges)
        self._each: dict[int, Blocklist] = {}

    @property
    def newest(self) -> Purge:
        return self.orders[-1]

    def removals(self, index: pa.Table) -> list[Removal]:
        """The rows to be emptied, also those that were rejected: their words may name somebody."""
        records = index.select(list(_ASKED)).to_pylist()
        return [
            Removal(row=record["row"], purge=self._first(record), was_stored=record["reason"] is None)
            for record in records
            if self._all.holds_image(record)
        ]

    def _first(self, record: Mapping[str, Any]) -> Purge:
        return next(purge for purge in self.orders if self._alone(purge).holds_image(record))

    def _alone(self, purge: Purge) -> Blocklist:
        if purge.number not in self._each:
            self._each[purge.number] = Blocklist([(purge.kind, purge.value)])
        return self._each[purge.number]


def emptied(index: pa.Table, rows: Collection[int], reason: Reason = Reason.TAKEN_DOWN) -> pa.Table:
    """The index with tombstones for these rows, everything else as it was.

    One that stood in another index before goes on doing so: it counts there.
    """
    is_named = pc.is_in(index["row"], value_set=pa.array(sorted(rows), pa.int64()))
    tombstones = [_tombstone(record, reason) for record in index.filter(is_named).select(list(_KEPT)).to_pylist()]
    kept = index.filter(pc.invert(is_named))
    mixed = pa.concat_tables([kept, _table(tombstones, index.schema)])
    places = {row: place for place, row in enumerate(mixed["row"].to_pylist())}
    return mixed.take(pa.array([places[row] for row in index["row"].to_pylist()], pa.int64()))


def emptied_rows(index: pa.Table) -> list[int]:
    """The rows that were taken down."""
    rows: list[int] = index.filter(pc.equal(index["reason"], Reason.TAKEN_DOWN.value))["row"].to_pylist()
    return rows


def tombs(index: pa.Table) -> list[int]:
    """The rows of which nothing is left in this index: taken down, or replaced by a later revision."""
    reasons = pa.array([Reason.TAKEN_DOWN.value, Reason.REPLACED.value])
    rows: list[int] = index.filter(pc.is_in(index["reason"], value_set=reasons))["row"].to_pylist()
    return rows


def moved(index: pa.Table, paths: Mapping[str, str]) -> pa.Table:
    """The index with its images and thumbnails in other objects: old key -> new key."""
    for name in PATHS:
        changed = [paths.get(path, path) if path is not None else None for path in index[name].to_pylist()]
        place = index.column_names.index(name)
        index = index.set_column(place, index.schema.field(place), pa.array(changed, pa.string()))
    return index


def _tombstone(record: Record, reason: Reason) -> Record:
    stands_elsewhere = record["reason"] in ELSEWHERE
    return rejected({**record, "duplicate_of": None}, Reason.REPLACED if stands_elsewhere else reason)


def _table(records: Sequence[Record], schema: pa.Schema) -> pa.Table:
    """Records as a table; what a record does not name is null."""
    columns = [pa.array([record.get(field.name) for record in records], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)
