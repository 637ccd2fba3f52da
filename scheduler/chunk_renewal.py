"""Brings a chunk's index up to date with what a refresh has found out about its rows.

    the refresh's index ─▶ rows that it replaces, and rows whose bytes it met again
        ─▶ the former become tombstones and their images go (`scheduler/chunk_edit.py`), the latter get newer words

A row that the refresh accepted, or rejected for good, stands in the refresh's index from here on. Until then it stands
in both, which is why the job, and the dataset's `_SUCCESS`, wait for this.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from scheduler.chunk_edit import Found, Lead, drop, read_index, remainder, replace_index, without
from scheduler.tombstones import tombs
from shared.db import leader, renewals
from shared.db.leader import Term
from shared.db.purges import Remainder
from shared.db.renewals import Renewal
from shared.failpoints import reach
from shared.index import OF_FETCH, Record
from shared.reasons import ELSEWHERE, Reason
from shared.resources import Resources
from shared.storage.base import ObjectStore

_NOT_MODIFIED = 304


async def renew_chunk(resources: Resources, term: Term, renewal: Renewal) -> int:
    """Carries one renewal out; how many rows it replaced.

    Raises NotLeader, StoreUnavailable, StoreRefused, and WorkAreaFull when there is no room for a shard.
    """
    async with resources.stores.at(renewal.of.destination, renewal.of.endpoint) as store:
        left, replaced = await _renew(resources, store, renewal, Lead(resources, term))
    async with leader.leading(resources.engine, term) as connection:
        await renewals.conclude(connection, renewal, left)
    return replaced


async def _renew(
    resources: Resources, store: ObjectStore, renewal: Renewal, lead: Lead
) -> tuple[Remainder | None, int]:
    fetched, found = await read_index(store, renewal.by), await read_index(store, renewal.of)
    if fetched is None or found is None:
        return None, 0  # a chunk whose index the destination never took has replaced nothing
    news = await asyncio.to_thread(_news_of, fetched.index, found.index)
    if news.replaced or news.seen:
        found = await _edit(store, found, news, lead)
    elif not news.may_be_known and not tombs(found.index):
        return None, 0
    await drop(store, renewal.of, found.index, lead)
    reach("renew.dropped")
    return await remainder(resources, store, renewal.of, found.index), len(news.replaced)


async def _edit(store: ObjectStore, found: Found, news: "_News", lead: Lead) -> Found:
    index = await asyncio.to_thread(_with_newer_words, found.index, news.seen)
    index = await without(store, index, news.replaced, Reason.REPLACED)
    reach("renew.cut")
    found = await replace_index(store, found, index, lead)
    reach("renew.indexed")
    return found


@dataclass(frozen=True)
class _News:
    """What an index does not know yet."""

    #: Rows that stand in the refresh's index now.
    replaced: list[int]
    #: What the newest fetch said of rows that go on standing here.
    seen: Mapping[int, Record]
    #: Whether it may know them since an attempt that did not get to count them.
    may_be_known: bool


def _news_of(fetched: pa.Table, index: pa.Table) -> _News:
    columns = ["row", "reason", *OF_FETCH]
    held = {row["row"]: row for row in index.select(columns).to_pylist() if row["reason"] is None}
    rows = [row for row in fetched.select(columns).to_pylist() if row["row"] in held]
    seen = {row["row"]: _words(row) for row in rows if _is_met_again(row) and _words(row) != _words(held[row["row"]])}
    replaced = [row["row"] for row in rows if row["reason"] not in ELSEWHERE]
    return _News(replaced, seen, may_be_known=any(map(_is_met_again, rows)))


def _words(row: Record) -> Record:
    return {name: row[name] for name in OF_FETCH}


def _is_met_again(row: Record) -> bool:
    """Whether the same bytes arrived once more. Who answers 304 says less than was known before."""
    return bool(row["reason"] == Reason.UNCHANGED and row["http_status"] != _NOT_MODIFIED)


def _with_newer_words(index: pa.Table, seen: Mapping[int, Record]) -> pa.Table:
    rows = index["row"].to_pylist()
    for name in OF_FETCH if seen else ():
        values = [
            seen[row][name] if row in seen else value for row, value in zip(rows, index[name].to_pylist(), strict=True)
        ]
        place = index.column_names.index(name)
        field = index.schema.field(place)
        index = index.set_column(place, field, pa.array(values, field.type))
    return index
