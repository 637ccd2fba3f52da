"""A page of a job's images, read from the dataset's own index, one chunk at a time, in input order."""

import asyncio
import base64
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from shared.db import jobs
from shared.db.jobs import EndedChunk, JobRow
from shared.db.session import transaction
from shared.index import from_parquet, index_key
from shared.reasons import Reason, Status
from shared.resources import Resources

#: Chunks looked into for one page; a filter that matches little gives a short page and a cursor.
_CHUNKS_A_PAGE = 20
#: Indexes kept decoded; 500 rows take about half a megabyte.
_INDEXES_KEPT = 16


class ImageStatus(StrEnum):
    """What to show: img2dataset's words as they stand in the index, or ours for all accepted or all rejected rows."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SUCCESS = Status.SUCCESS.value
    FAILED_TO_DOWNLOAD = Status.FAILED_TO_DOWNLOAD.value
    FAILED_TO_RESIZE = Status.FAILED_TO_RESIZE.value

    @property
    def is_accepted(self) -> bool:
        return self in (ImageStatus.ACCEPTED, ImageStatus.SUCCESS)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a page is to show, and from where on."""

    status: ImageStatus | None
    reason: Reason | None
    limit: int
    ordinal: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Page:
    """Rows, and the place behind them; None when there is no more for now."""

    rows: list[dict[str, Any]]
    behind: tuple[int, int] | None


class IndexCache:
    """Decoded indexes, the ones used longest ago dropped first. A purge or a refresh changes one; its chunk tells."""

    def __init__(self, size: int = _INDEXES_KEPT) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[UUID, str, int, int], pa.Table] = OrderedDict()

    async def index(self, resources: Resources, job: JobRow, chunk: EndedChunk) -> pa.Table | None:
        """A chunk's index; None when it is not in the destination. Raises StoreUnavailable, StoreRefused."""
        name = job.dataset_id, index_key(job.revision, chunk.ordinal, chunk.round), chunk.purged_to, chunk.edits
        table = self._kept.pop(name, None)
        if table is None:
            try:
                async with resources.stores.at(job.destination, job.endpoint) as store:
                    body = await store.get(name[1])
            except KeyError:
                return None
            table = await asyncio.to_thread(from_parquet, body)
        self._kept[name] = table
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return table


async def read_page(resources: Resources, indexes: IndexCache, job: JobRow, wanted: Wanted) -> Page:
    """The next rows that match. Raises StoreUnavailable, StoreRefused."""
    chunks = await _chunks(resources, job, wanted)
    rows: list[dict[str, Any]] = []
    for chunk in chunks[:_CHUNKS_A_PAGE]:
        table = await indexes.index(resources, job, chunk)
        if table is None:
            continue
        start = wanted.offset if chunk.ordinal == wanted.ordinal else 0
        places = matching(table, wanted, start)
        taken = places[: wanted.limit - len(rows)]
        rows += [_as_json(row) for row in table.take(pa.array(taken, pa.int64())).to_pylist()]
        if len(taken) < len(places):
            return Page(rows=rows, behind=(chunk.ordinal, taken[-1] + 1))
        if len(rows) == wanted.limit:
            is_last = chunk is chunks[-1]
            return Page(rows=rows, behind=None if is_last else (chunk.ordinal + 1, 0))
    if len(chunks) > _CHUNKS_A_PAGE:
        return Page(rows=rows, behind=(chunks[_CHUNKS_A_PAGE].ordinal, 0))
    return Page(rows=rows, behind=None)


def matching(table: pa.Table, wanted: Wanted, start: int) -> list[int]:
    """Places of the rows to show, from `start` on."""
    keep = pa.array([True] * len(table))
    if wanted.status is not None:
        keep = pc.and_(keep, _has_status(table, wanted.status))
    if wanted.reason is not None:
        keep = pc.and_(keep, pc.fill_null(pc.equal(table["reason"], wanted.reason.value), False))
    return [place for place in pc.indices_nonzero(keep).to_pylist() if place >= start]


def _has_status(table: pa.Table, status: ImageStatus) -> Any:
    if status is ImageStatus.REJECTED:
        return pc.is_valid(table["reason"])
    if status.is_accepted:
        return pc.is_null(table["reason"])
    return pc.equal(table["status"], status.value)


async def _chunks(resources: Resources, job: JobRow, wanted: Wanted) -> Sequence[EndedChunk]:
    async with transaction(resources.engine) as connection:
        return await jobs.ended_chunks(
            connection,
            job.id,
            start=wanted.ordinal,
            limit=_CHUNKS_A_PAGE + 1,
            accepted=None if wanted.status is None else wanted.status.is_accepted,
            reason=wanted.reason,
        )


_JSON: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((bool, int, str), lambda value: value),
    ((float,), lambda value: value if math.isfinite(value) else None),
    ((datetime, date, time), lambda value: value.isoformat()),
    ((bytes,), lambda value: base64.b64encode(value).decode()),
    ((Decimal,), str),
)


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _json_value(value) for name, value in row.items()}


def _json_value(value: Any) -> Any:
    if value is None:
        return None
    for kinds, convert in _JSON:
        if isinstance(value, kinds):
            return convert(value)
    return str(value)
