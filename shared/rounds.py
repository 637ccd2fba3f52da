"""Redriven chunks: each round of a chunk writes an index of its own, and one of them is the truth.

    round 0 failed   index/r000-000012.parquet      every row `chunk_failed`
    redriven         _SUCCESS goes ─▶ index/r000-000012-1.parquet is created ─▶ the older index goes
    job ends again   card and dataset.json are replaced, `_SUCCESS` is written

An index stays create-only in every round, so that a late worker of any round can replace nothing. Objects below
`data/` have the same keys in all rounds: what an earlier round stored there is adopted.
"""

from shared.chunk import Claim
from shared.index import index_key
from shared.papers import SUCCESS_KEY
from shared.storage.base import ObjectStore


async def announce_change(store: ObjectStore, claim: Claim) -> None:
    """Before a redriven chunk changes anything: the dataset is not whole any more. Can be repeated."""
    if claim.round:
        await store.delete(SUCCESS_KEY)


async def retire_older_indexes(store: ObjectStore, claim: Claim) -> None:
    """Once the index of this round is stored: removes those of earlier ones. Can be repeated."""
    for earlier in range(claim.round):
        await store.delete(index_key(claim.revision, claim.ordinal, earlier))
