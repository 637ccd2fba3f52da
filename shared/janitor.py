"""Keeps a cell's house: closes chunks that nobody closed, and removes drafts that nobody owns.

One a cell, by a lock on the work volume; the lock is gone with the process that held it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import structlog

from shared.closing import close_all
from shared.db import chunks
from shared.db.session import transaction
from shared.resources import Resources

#: The worker that ended a chunk closes it at once; after this it is taken to have left it.
_LEFT_AFTER = timedelta(seconds=5)
_BLOCK = 500

log = structlog.get_logger(__name__)


@contextmanager
def lone_janitor(work_dir: Path) -> Iterator[bool]:
    """Whether this process may keep house now."""
    lock = os.open(work_dir / ".janitor", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)


async def close_what_was_left(resources: Resources) -> None:
    """Closes the cell's chunks that stand in `cleaning` and that nobody closes."""
    async with transaction(resources.engine) as connection:
        left = await chunks.ended(connection, cell=resources.settings.cell, for_at_least=_LEFT_AFTER)
    await close_all(resources, left, actor="janitor")


async def remove_ownerless_drafts(resources: Resources, *, age: timedelta) -> None:
    """Removes drafts of chunks that hold no slot: of ended ones, of those that began anew, of unknown ones.

    `age` is more than that of any draft whose owner lives.
    """
    old = [key async for key in resources.area.older_than(age)]
    for start in range(0, len(old), _BLOCK):
        block = old[start : start + _BLOCK]
        async with transaction(resources.engine) as connection:
            in_use = await chunks.active(connection, [key.chunk for key in block])
        for key in block:
            if key.chunk not in in_use:
                await resources.area.discard(key)
                log.info("draft_removed", chunk=key.chunk, fence=key.fence)
