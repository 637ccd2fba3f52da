"""The work area for hosts that share no volume: what one stage leaves for the next lies in an object store.

    <store>/<job>/<chunk>/f<fence>/<name>     published files
    <root>/pixcrawler-<user>/<random>/…       drafts being written, and copies of published files being read

Local files belong to this process and to one chunk: `release` removes them when the chunk leaves its hands, and what a
killed process left goes when the next one starts (`shared.scratch`).
"""

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from shared.errors import StoreRefused, StoreUnavailable, WorkAreaGone
from shared.scratch import own_folder
from shared.storage.base import ObjectStore
from shared.workdir.base import WorkKey
from shared.workdir.local import full_disk_is_transient

_CONTENT_TYPE = "application/octet-stream"
#: Bytes asked of the store at once, so that a pack of any size needs no more memory.
_BLOCK = 8 * 1024 * 1024
_DRAFT, _COPY = "draft", "copy"


class StoreDraft:
    """A local folder being filled; published by storing its files."""

    def __init__(self, store: ObjectStore, folder: Path, prefix: str) -> None:
        self._store = store
        self._folder = folder
        self._prefix = prefix

    def path(self, name: str) -> Path:
        return self._folder / name

    async def publish(self) -> None:
        """Also raises StoreUnavailable. Half of it may be stored then; nobody was told of it."""
        with _refusal_is_transient():
            for path in await asyncio.to_thread(lambda: sorted(self._folder.iterdir())):
                digest = await asyncio.to_thread(_sha256, path)
                # What exists under this fence came from here: an answer was lost.
                await self._store.create(self._prefix + path.name, path, content_type=_CONTENT_TYPE, sha256=digest)
        await asyncio.to_thread(_remove, self._folder)


class StoreWorkArea:
    """A work area in `store`, with local files below `root`, which need not be shared with anybody.

    All methods also raise StoreUnavailable, also for a store that refuses: that is the operator's to mend, and no
    fault of the job's. The store stays the caller's.
    """

    def __init__(self, store: ObjectStore, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._root = root
        self._clock = clock
        self._seen: dict[WorkKey, float] = {}
        #: Made by the first who writes: a process that forks must not hand its folder down.
        self._folder: Path | None = None

    async def check(self) -> None:
        """Nothing: the store says so itself."""

    async def draft(self, key: WorkKey) -> StoreDraft:
        await self.discard(key)
        with full_disk_is_transient():
            folder = await asyncio.to_thread(self._made, key, _DRAFT)
        return StoreDraft(self._store, folder, _prefix(key))

    async def open(self, key: WorkKey, name: str) -> Path:
        with _refusal_is_transient(), full_disk_is_transient():
            copy = await asyncio.to_thread(self._made, key, _COPY) / name
            if not copy.is_file():
                await self._fetch(key, name, copy)
            return copy

    async def release(self, job: UUID, chunk: int) -> None:
        if self._folder is not None:
            await asyncio.to_thread(_remove, self._folder / _local(job, chunk))

    async def discard(self, key: WorkKey) -> None:
        if self._folder is not None:
            await asyncio.to_thread(_remove, *(self._folder / _place(key, kind) for kind in (_DRAFT, _COPY)))
        await self._delete(_prefix(key))

    async def remove(self, job: UUID, chunk: int) -> None:
        await self.release(job, chunk)
        await self._delete(_chunk_prefix(job, chunk))

    async def older_than(self, age: timedelta) -> AsyncIterator[WorkKey]:
        """As old as this object has known them; stores tell times of their own clocks, if at all."""
        now = self._clock()
        with _refusal_is_transient():
            there = {key async for found in self._store.list("") if (key := _key_of(found.key))}
        self._seen = {key: self._seen.get(key, now) for key in there}
        for key in sorted(there):
            if now - self._seen[key] >= age.total_seconds():
                yield key

    async def _fetch(self, key: WorkKey, name: str, copy: Path) -> None:
        found = await self._store.stat(_prefix(key) + name)
        if found is None:
            raise _gone(key, name)
        unfinished = copy.with_name(f"{name}.part")
        with unfinished.open("wb") as file:
            for offset in range(0, found.size_bytes, _BLOCK):
                length = min(_BLOCK, found.size_bytes - offset)
                try:
                    piece = await self._store.get(found.key, offset=offset, length=length)
                except KeyError as error:
                    raise _gone(key, name) from error
                await asyncio.to_thread(file.write, piece)
        unfinished.rename(copy)

    async def _delete(self, prefix: str) -> None:
        with _refusal_is_transient():
            for key in [found.key async for found in self._store.list(prefix)]:  # some five
                await self._store.delete(key)

    def _made(self, key: WorkKey, kind: str) -> Path:
        """A local folder, which exists from now on."""
        if self._folder is None:
            self._root.mkdir(parents=True, exist_ok=True)
            self._folder = own_folder(self._root)
        folder = self._folder / _place(key, kind)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@contextmanager
def _refusal_is_transient() -> Iterator[None]:
    try:
        yield
    except StoreRefused as error:
        raise StoreUnavailable(f"the work area's store refuses: {error}") from error


def _gone(key: WorkKey, name: str) -> WorkAreaGone:
    return WorkAreaGone(f"chunk {key.chunk} has no {name} from fence {key.fence}")


def _local(job: UUID, chunk: int) -> str:
    """The folder of a chunk; one level, so that removing it leaves nothing of a job behind."""
    return f"{job}-{chunk}"


def _place(key: WorkKey, kind: str) -> str:
    return f"{_local(key.job, key.chunk)}/f{key.fence}.{kind}"


def _chunk_prefix(job: UUID, chunk: int) -> str:
    return f"{job}/{chunk}/"


def _prefix(key: WorkKey) -> str:
    return f"{_chunk_prefix(key.job, key.chunk)}f{key.fence}/"


def _key_of(place: str) -> WorkKey | None:
    try:
        job, chunk, fence, _ = place.split("/")
        return WorkKey(job=UUID(job), chunk=int(chunk), fence=int(fence.removeprefix("f")))
    except ValueError:
        return None  # not ours


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
