"""Puts a dataset's papers into its destination: the only objects that are ever replaced, `_SUCCESS` last."""

import hashlib

from shared.card import card
from shared.failpoints import reach
from shared.papers import (
    CARD_KEY,
    CARD_TYPE,
    MANIFEST_KEY,
    MANIFEST_TYPE,
    STATISTICS_KEY,
    STATISTICS_TYPE,
    SUCCESS_KEY,
    SUCCESS_TYPE,
    Dataset,
    manifest,
    success,
)
from shared.statistics import Statistics
from shared.storage.base import ObjectStore


async def publish_papers(
    store: ObjectStore, dataset: Dataset, statistics: Statistics | None, *, is_whole: bool
) -> None:
    """Writes card, figures and `dataset.json`, and `_SUCCESS` when the dataset is whole. Can be repeated.

    For when all chunks have ended: whatever killed workers left half written goes first, and a `_SUCCESS` that was
    written just before the job was withdrawn.
    """
    await store.sweep()
    if not is_whole:
        await store.delete(SUCCESS_KEY)
    await _replace(store, CARD_KEY, card(dataset), CARD_TYPE)
    if statistics is None:
        await store.delete(STATISTICS_KEY)
    else:
        body = (statistics.model_dump_json(indent=1) + "\n").encode()
        await _replace(store, STATISTICS_KEY, body, STATISTICS_TYPE)
    await _replace(store, MANIFEST_KEY, manifest(dataset), MANIFEST_TYPE)
    reach("finish.half")
    if is_whole:
        await _replace(store, SUCCESS_KEY, success(dataset), SUCCESS_TYPE)


async def _replace(store: ObjectStore, key: str, body: bytes, content_type: str) -> None:
    await store.replace(key, body, content_type=content_type, sha256=hashlib.sha256(body).hexdigest())
