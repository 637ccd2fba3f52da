"""Deletes datasets that their clients wish gone: what lies at the destination first, then the rows.

    _SUCCESS ─▶ images, indexes, thumbnails ─▶ other papers ─▶ dataset.json ─▶ rows ─▶ (housekeeping: list and plans)

A slice of objects at a time, beside the loop. Only names that PixCrawler gives are deleted, whatever else lies there. A
crash leaves a dataset that is still wished gone and still bears its `dataset.json`; the work goes on where it stood.
"""

import asyncio
import re
from contextlib import aclosing

import structlog

from scheduler.patience import Patience
from shared.db import deletions, leader
from shared.db.deletions import Doomed
from shared.db.leader import Term
from shared.db.session import transaction
from shared.errors import PixCrawlerError
from shared.index import THUMBNAILS_FOLDER
from shared.papers import CARD_KEY, MANIFEST_KEY, STATISTICS_KEY, SUCCESS_KEY
from shared.resources import Resources
from shared.storage.base import ObjectStore

#: Objects deleted in one slice, and at once.
_A_SLICE, _AT_ONCE = 2000, 16
#: For one slice; a store that takes longer is put off.
_LONGEST_SECONDS = 300.0
_FOLDERS = ("data/", "index/", THUMBNAILS_FOLDER)
#: What a chunk names; see `uploader/naming.py` and `shared.index.index_key`.
_OURS = re.compile(r"(data/([a-z]+/)?|index/|thumbnails/)r\d{3,}-\d{6,}[-./].*")

log = structlog.get_logger(__name__)


class Remover:
    """Looks for datasets to delete."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._patience = Patience()

    async def remove(self, term: Term) -> bool:
        """The next slice of work. False: there is none for now."""
        async with transaction(self._resources.engine) as connection:
            doomed = await deletions.next_doomed(connection, without=self._patience.put_off_now)
        if doomed is None:
            return False
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                await self._remove_some(term, doomed)
        except Exception as error:  # one dataset's trouble, a bug too, must not stop the others
            log.warning(
                "deletion_hindered",
                dataset=str(doomed.dataset_id),
                tries=self._patience.put_off(doomed.dataset_id),
                error=str(error) or type(error).__name__,
                exc_info=None if isinstance(error, PixCrawlerError | OSError | TimeoutError) else error,
            )
        else:
            self._patience.forget(doomed.dataset_id)
        return True

    async def _remove_some(self, term: Term, doomed: Doomed) -> None:
        async with self._resources.stores.at(doomed.destination, doomed.endpoint) as store:
            await store.delete(SUCCESS_KEY)
            keys = await _some_keys(store)
            await _delete_all(store, keys)
            if len(keys) == _A_SLICE:
                return
            await store.delete(CARD_KEY)
            await store.delete(STATISTICS_KEY)
            await store.sweep()
            await store.delete(MANIFEST_KEY)
        async with leader.leading(self._resources.engine, term) as connection:
            await deletions.forget(connection, doomed.dataset_id)
        log.info("dataset_deleted", dataset=str(doomed.dataset_id))


async def _some_keys(store: ObjectStore) -> list[str]:
    found: list[str] = []
    for folder in _FOLDERS:
        async with aclosing(store.list(folder)) as objects:  # type: ignore[type-var]
            async for stored in objects:
                if _OURS.fullmatch(stored.key):
                    found.append(stored.key)
                if len(found) == _A_SLICE:
                    return found
    return found


async def _delete_all(store: ObjectStore, keys: list[str]) -> None:
    left = iter(keys)

    async def some() -> None:
        for key in left:
            await store.delete(key)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(some())
