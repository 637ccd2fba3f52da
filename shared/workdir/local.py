"""The work area as folders on a volume that the stages share: `<root>/<job>/<chunk>/f<fence>/<name>`.

A draft is written as `f<fence>.part` and renamed when it is published. Nothing is fsynced: after a crash of
the machine a chunk is done again.
"""

import asyncio
import errno
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from shared.errors import WorkAreaFull, WorkAreaGone
from shared.workdir.base import WorkKey

#: No room, or a volume that the kernel has taken out of use: both are an operator's to mend, and no chunk's fault.
_MAY_PASS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN}
)
_UNPUBLISHED = ".part"


@contextmanager
def full_disk_is_transient() -> Iterator[None]:
    """Turns "no space left" and its kin into `WorkAreaFull`; for every write into a draft."""
    try:
        yield
    except OSError as error:
        if error.errno in _MAY_PASS:
            raise WorkAreaFull(f"the work volume takes nothing now ({error.strerror})") from error
        raise


class LocalDraft:
    """A folder being filled."""

    def __init__(self, unpublished: Path, published: Path) -> None:
        self._unpublished = unpublished
        self._published = published

    def path(self, name: str) -> Path:
        return self._unpublished / name

    async def publish(self) -> None:
        with full_disk_is_transient():
            self._unpublished.rename(self._published)


class LocalWorkArea:
    """A work area under `root`, which must lie on the volume all workers of the cell share."""

    def __init__(self, root: Path) -> None:
        self._root = root
        #: It is made by the first who writes, and by nobody who misses it later.
        self._was_there = False

    async def check(self) -> None:
        with full_disk_is_transient():
            is_there = await asyncio.to_thread(self._root.is_dir)
        if self._was_there and not is_there:
            raise WorkAreaFull(f"the work volume {self._root} is gone; is it mounted?")
        self._was_there = is_there

    async def draft(self, key: WorkKey) -> LocalDraft:
        await self.check()
        published = self._folder(key)
        unpublished = _unpublished(published)
        with full_disk_is_transient():
            await asyncio.to_thread(_make_empty, unpublished, published)
        self._was_there = True
        return LocalDraft(unpublished, published)

    async def open(self, key: WorkKey, name: str) -> Path:
        path = self._folder(key) / name
        await self.check()
        if not path.is_file():
            raise WorkAreaGone(f"chunk {key.chunk} has no {name} from fence {key.fence}")
        return path

    async def release(self, job: UUID, chunk: int) -> None:
        """Nothing: all of it lies on the shared volume."""

    async def discard(self, key: WorkKey) -> None:
        folder = self._folder(key)
        await asyncio.to_thread(self._remove_folders, folder, _unpublished(folder))

    async def remove(self, job: UUID, chunk: int) -> None:
        await asyncio.to_thread(self._remove_folders, self._chunk_folder(job, chunk))

    async def older_than(self, age: timedelta) -> AsyncIterator[WorkKey]:
        for key in await asyncio.to_thread(self._older_than, age):
            yield key

    def _folder(self, key: WorkKey) -> Path:
        return self._chunk_folder(key.job, key.chunk) / f"f{key.fence}"

    def _chunk_folder(self, job: UUID, chunk: int) -> Path:
        return self._root / str(job) / str(chunk)

    def _remove_folders(self, *folders: Path) -> None:
        """Removes sibling folders, and those above them as far as they are empty then, but never the root."""
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        for above in folders[0].parents:
            if above == self._root:
                return
            _remove_if_empty(above)

    def _older_than(self, age: timedelta) -> list[WorkKey]:
        latest = time.time() - age.total_seconds()
        return [key for key, changed in self._drafts() if changed <= latest]

    def _drafts(self) -> Iterator[tuple[WorkKey, float]]:
        for job in _entries(self._root):
            for chunk in _entries(job):
                for draft in _entries(chunk):
                    try:
                        yield (
                            WorkKey(job=UUID(job.name), chunk=int(chunk.name), fence=_fence_of(draft)),
                            _touched(draft),
                        )
                    except (ValueError, FileNotFoundError):
                        continue  # not ours, or removed meanwhile


def _unpublished(folder: Path) -> Path:
    return folder.with_name(folder.name + _UNPUBLISHED)


def _make_empty(unpublished: Path, published: Path) -> None:
    for leftover in (unpublished, published):
        shutil.rmtree(leftover, ignore_errors=True)
    unpublished.mkdir(parents=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _fence_of(draft: Path) -> int:
    return int(draft.name.removesuffix(_UNPUBLISHED).removeprefix("f"))


def _touched(draft: Path) -> float:
    """When the draft or a file in it last changed, seconds since the epoch."""
    return max(path.stat().st_mtime for path in (draft, *_entries(draft)))


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty, or gone
        folder.rmdir()
