"""Redriven chunks: each round of a chunk writes an index of its own, and one of them is the truth.

    round 0 failed   index/r000-000012.parquet      every row `chunk_failed`
    redriven         _SUCCESS goes ─▶ index/r000-000012-1.parquet is created ─▶ the older index goes
    job ends again   card and dataset.json are replaced, `_SUCCESS` is written

An index stays create-only in every round, so that a late worker of any round can replace nothing. Objects below
`data/` have the same keys in all rounds: what an earlier round stored there is adopted. Only a shard that a purge wrote
anew has a key of its own, and goes with the index that named it.
"""

import asyncio

import pyarrow as pa

from shared.chunk import Claim
from shared.index import from_parquet, index_key, object_keys
from shared.papers import SUCCESS_KEY
from shared.storage.base import ObjectStore


async def announce_change(store: ObjectStore, claim: Claim) -> None:
    """Before a redriven chunk, or one of a later revision, changes anything: the dataset is not whole any more.

    Can be repeated.
    """
    if claim.round or claim.revision:
        await store.delete(SUCCESS_KEY)


async def retire_older_indexes(store: ObjectStore, claim: Claim) -> None:
    """Once the index of this round is stored: removes those of earlier ones. Can be repeated."""
    for earlier in range(claim.round):
        await store.delete(index_key(claim.revision, claim.ordinal, earlier))


async def remove_superseded(store: ObjectStore, claim: Claim, index: pa.Table) -> None:
    """Once the index of this round is stored, and before the earlier ones go: removes what only those named.

    Can be repeated. Who comes late finds no earlier index, and removes nothing.
    """
    named = {*object_keys(index)}
    for earlier in range(claim.round):
        try:
            body = await store.get(index_key(claim.revision, claim.ordinal, earlier))
            before = object_keys(await asyncio.to_thread(from_parquet, body))
        except (KeyError, ValueError):
            continue
        for key in before:
            if key not in named:
                await store.delete(key)
