"""The interface of the work area.

A *draft* belongs to one claim of one chunk: its key carries the fence, so a worker that lost its chunk can
write only where nobody reads. PostgreSQL says which draft is valid (`chunks.work_fence`). Stages see names
and local paths, never folders.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, kw_only=True, order=True)
class WorkKey:
    """One claim's part of the work area."""

    job: UUID
    chunk: int
    fence: int


class Draft(Protocol):
    """What one claim writes. Nothing is visible to others before `publish`."""

    def path(self, name: str) -> Path:
        """Where to write the file of that name; the caller may append to it as it likes."""
        ...

    async def publish(self) -> None:
        """Makes the draft's files readable under its key, also on other hosts. Raises WorkAreaFull."""
        ...


class WorkArea(Protocol):
    """Where drafts live."""

    async def check(self) -> None:
        """Raises WorkAreaFull when the volume is gone that was there: what is missing then may come back with it."""
        ...

    async def draft(self, key: WorkKey) -> Draft:
        """An empty draft; what an earlier writer of the same key left is removed. Raises WorkAreaFull."""
        ...

    async def open(self, key: WorkKey, name: str) -> Path:
        """A published file as a local, read-only path until `release`. Raises WorkAreaGone when it is not there."""
        ...

    async def release(self, job: UUID, chunk: int) -> None:
        """Removes what only this process needed of a chunk: it has left its hands. Nothing there is no error."""
        ...

    async def discard(self, key: WorkKey) -> None:
        """Removes one claim's draft, published or not. Nothing there is no error."""
        ...

    async def remove(self, job: UUID, chunk: int) -> None:
        """Removes all drafts of a chunk. Nothing there is no error."""
        ...

    def older_than(self, age: timedelta) -> AsyncIterator[WorkKey]:
        """Drafts of others that were not touched for that long."""
        ...
