"""A local folder as object store: keys are paths below it.

    write .pixcrawler-uploading/<random>  ──▶  fsync  ──▶  link to the key's name  ──▶  unlink the temporary

The link fails when the name exists, which makes a creation create-only; the fsync before it keeps a power cut
from leaving an empty file under a name that later attempts would adopt as stored. Creations that wait at the same
time are carried out together: all are written, then synced one by one, and the first sync brings most of what the
others need to the disk. The folder's own entries are not synced on creation, so a power cut may take back the newest
objects, each as a whole.

A finished file on the same volume is not copied: it is synced and linked to the key's name itself.

Temporaries belong to the call that made them. What a crash left is swept when the job has ended, else when a store
on the folder is opened an hour after it was last written to. Symbolic links below the folder are never followed.
"""

import ctypes
import errno
import fcntl
import math
import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from shared.errors import StoreRefused, StoreUnavailable
from shared.storage.base import StoredObject
from shared.storage.destination import Destination
from shared.storage.keys import checked
from shared.storage.parts import Body, FinishedFile
from shared.storage.threads import Threads
from shared.storage.together import Steps, Together, in_step

#: Where bodies are written before they get their names; in the destination, because links do not cross volumes.
STAGING = ".pixcrawler-uploading"
#: No write pauses for so long; a temporary that did is an orphan.
ORPHAN_AGE = timedelta(hours=1)

_COPY_BYTES = 1024 * 1024
#: Creations written before the first of them is synced, and threads that do so at once: where each call to the file
#: system takes long, as over a network, they wait beside each other.
_TOGETHER, _LANES = 8, 4
_LIST_PAGE = 1000
_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_EXISTING_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_MAY_PASS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EBUSY, errno.EAGAIN}
    | {errno.ENOENT, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN}
)
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_LINKS = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV})


class LocalStore:
    """Objects as files below a folder. It keeps no metadata: `sha256` is None in every `StoredObject`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = Threads("local-store")
        self._creations = Together(self._threads, self._create_all, largest=_TOGETHER, lanes=_LANES)

    @classmethod
    async def open(cls, destination: Destination) -> "LocalStore":
        """The store of a folder, which is made if it is missing."""
        store = cls(destination.folder)
        await store._threads.run(store._prepare)
        return store

    async def create(self, key: str, body: Body, *, content_type: str, sha256: str) -> bool:
        return await self._creations.run((checked(key), body))

    async def replace(self, key: str, body: bytes, *, content_type: str, sha256: str) -> None:
        await self._threads.run(self._replace, checked(key), body)

    async def exchange(self, key: str, body: bytes, *, version: str, content_type: str, sha256: str) -> bool:
        return await self._threads.run(self._exchange, checked(key), body, version)

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return await self._threads.run(self._get, checked(key), offset, length)

    async def stat(self, key: str) -> StoredObject | None:
        return await self._threads.run(self._stat, checked(key))

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        objects = self._walk("", prefix)
        while page := await self._threads.run(self._page, objects):
            for found in page:
                yield found

    async def delete(self, key: str) -> None:
        await self._threads.run(self._delete, checked(key))

    async def link(self, key: str, *, valid: timedelta) -> str | None:
        """A folder has no addresses, and nobody who would heed a signature."""
        checked(key)
        return None

    async def sweep(self) -> None:
        await self._threads.run(self._sweep_all)

    async def close(self) -> None:
        self._threads.close()

    def _prepare(self) -> None:
        with self._translated():
            try:
                self._root.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # of a folder just made: a place like /proc, which takes none
                raise StoreRefused(f"no folder can be made at {self._root}; choose another place") from error
            self._sweep(latest=time.time() - ORPHAN_AGE.total_seconds())

    def _sweep_all(self) -> None:
        with self._translated():
            self._sweep(latest=math.inf)

    def _sweep(self, *, latest: float) -> None:
        """Removes temporaries that were last written to before that time."""
        with suppress(FileNotFoundError), self._parent(f"{STAGING}/", make=False) as staging:
            with os.scandir(staging) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False).st_mtime) for entry in entries]
            for name, written_at in found:
                if written_at < latest:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=staging)

    def _create_all(self, wanted: Sequence[tuple[str, Body]]) -> Sequence[bool | Exception]:
        with ExitStack() as opened:
            folder = cache(lambda key: opened.enter_context(self._parent(key, make=True)))
            return in_step([self._create(key, body, folder) for key, body in wanted])

    def _create(self, key: str, body: Body, folder: Callable[[str], int]) -> Steps[bool]:
        with _opened(body) as source, self._translated():
            name, parent, staging = _name(key), folder(_folder(key)), folder(f"{STAGING}/")
            if _exists(name, parent):
                return False
            with _temporary(staging) as (temporary, file):
                if isinstance(body, FinishedFile) and _took_over(body, file, name, parent):
                    return True
                _write(file, source)
                _begin_sync(file)
                yield
                _sync(file)
                try:
                    os.link(temporary, name, src_dir_fd=staging, dst_dir_fd=parent, follow_symlinks=False)
                except FileExistsError:
                    return False
                return True

    def _replace(self, key: str, body: bytes) -> None:
        with self._translated(), self._parent(key, make=True) as parent:
            with self._synced(body) as (temporary, staging):
                os.rename(temporary, _name(key), src_dir_fd=staging, dst_dir_fd=parent)
            os.fsync(parent)

    def _exchange(self, key: str, body: bytes, version: str) -> bool:
        with self._translated(), self._parent(key, make=True) as parent:
            with self._synced(body) as (temporary, staging), _alone(parent):
                held = self._stat(key)
                if held is None or held.version != version:
                    return False
                os.rename(temporary, _name(key), src_dir_fd=staging, dst_dir_fd=parent)
            os.fsync(parent)
        return True

    def _get(self, key: str, offset: int, length: int | None) -> bytes:
        with self._translated(), self._file(key) as file:
            if file is None:
                raise KeyError(key)
            wanted = max(0, os.fstat(file).st_size - offset) if length is None else length
            return _read(file, offset, wanted)

    def _stat(self, key: str) -> StoredObject | None:
        with self._translated(), self._file(key) as file:
            if file is None:
                return None
            found = os.fstat(file)
        version = f"{found.st_ino}-{found.st_mtime_ns}"
        return StoredObject(key=key, size_bytes=found.st_size, sha256=None, version=version)

    def _walk(self, folder: str, prefix: str) -> Iterator[StoredObject]:
        """Objects below the folder ("" or with a slash at its end) in key order."""
        for path, size_bytes in sorted(self._entries(folder)):
            if size_bytes is not None:
                if path.startswith(prefix):
                    yield StoredObject(key=path, size_bytes=size_bytes, sha256=None)
            elif path.startswith(prefix) or prefix.startswith(path):
                yield from self._walk(path, prefix)

    def _entries(self, folder: str) -> Iterator[tuple[str, int | None]]:
        """Files with sizes, and folders with a slash at the end, which sorts them where their keys belong."""
        with suppress(FileNotFoundError), self._parent(folder, make=False) as opened, os.scandir(opened) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if folder or entry.name != STAGING:
                        yield f"{folder}{entry.name}/", None
                elif entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        yield folder + entry.name, entry.stat(follow_symlinks=False).st_size

    def _page(self, objects: Iterator[StoredObject]) -> Sequence[StoredObject]:
        with self._translated():
            return list(islice(objects, _LIST_PAGE))

    def _delete(self, key: str) -> None:
        with self._translated(), suppress(FileNotFoundError), self._parent(key, make=False) as parent:
            os.unlink(_name(key), dir_fd=parent)
        with self._translated():
            self._remove_emptied_folders(key)

    def _remove_emptied_folders(self, key: str) -> None:
        """Below the root, from the key's own upwards. Who creates a key there at this moment has to try again."""
        *folders, _ = key.split("/")
        with suppress(OSError):  # not empty, or gone
            while folders:
                with self._parent("/".join(folders), make=False) as above:
                    os.rmdir(folders.pop(), dir_fd=above)

    @contextmanager
    def _parent(self, key: str, *, make: bool) -> Iterator[int]:
        """The descriptor of the folder a key lies in; its folders are made if wanted, else FileNotFoundError."""
        folder = self._open_root()
        try:
            for name in key.split("/")[:-1]:
                inner = _open_inner(name, folder, make=make)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _open_root(self) -> int:
        try:
            return os.open(self._root, _DIRECTORY)
        except FileNotFoundError as error:
            # Made when the store was opened: a volume that was unmounted since must not be written around.
            raise StoreUnavailable(f"the folder {self._root} is gone; is its volume mounted?") from error

    @contextmanager
    def _file(self, key: str) -> Iterator[int | None]:
        """The descriptor of the object's file; None when there is none."""
        try:
            with self._parent(key, make=False) as parent:
                file = os.open(_name(key), _EXISTING_FILE, dir_fd=parent)
        except FileNotFoundError:
            yield None
            return
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise StoreRefused(f"{key} in {self._root} is not a file; move it away")
            yield file
        finally:
            os.close(file)

    @contextmanager
    def _synced(self, body: bytes) -> Iterator[tuple[str, int]]:
        """A synced copy under a name of its own: (name, descriptor of its folder). Gone at the end."""
        with self._parent(f"{STAGING}/", make=True) as staging, _temporary(staging) as (name, file):
            _write(file, memoryview(body))
            _sync(file)
            yield name, staging

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if error.errno in _MAY_PASS:
                raise StoreUnavailable(f"the folder {self._root} cannot be used now: {reason}") from error
            if error.errno in _NO_LINKS:
                raise StoreRefused(
                    f"the folder {self._root} lies on a file system without hard links, which creating objects"
                    " safely needs; choose another volume"
                ) from error
            raise StoreRefused(
                f"the folder {self._root} cannot be used: {reason}; check its owner, its mode and its links"
            ) from error


@contextmanager
def _alone(folder: int) -> Iterator[None]:
    """No other exchange in this folder meanwhile, where the file system can lock. Raises BlockingIOError at once."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    yield  # the lock goes with the descriptor


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _folder(key: str) -> str:
    """The folder that the key lies in, with its slash; "" for the root."""
    return key[: -len(_name(key))]


def _open_inner(name: str, folder: int, *, make: bool) -> int:
    flags = _DIRECTORY | os.O_NOFOLLOW
    if make:
        with suppress(FileNotFoundError):
            return os.open(name, flags, dir_fd=folder)
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
    return os.open(name, flags, dir_fd=folder)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _opened(body: Body) -> Iterator[memoryview | BinaryIO]:
    """The body to read. Opened before anything is asked of the store: a missing body is not the store's fault."""
    if isinstance(body, Path):
        with body.open("rb", buffering=0) as file:
            yield file
    else:
        yield memoryview(body)


@contextmanager
def _temporary(folder: int) -> Iterator[tuple[str, int]]:
    """A new file in the folder: its name and its descriptor. Gone at the end, unless renamed."""
    name = secrets.token_hex(16)
    file = os.open(name, _NEW_FILE, 0o666, dir_fd=folder)
    try:
        yield name, file
    finally:
        os.close(file)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _took_over(body: FinishedFile, like: int, name: str, folder: int) -> bool:
    """Whether the body itself got that name, which needs one volume, and an owner and a mode `like` a new file's."""
    theirs, ours = body.lstat(), os.fstat(like)
    if any(getattr(theirs, name) != getattr(ours, name) for name in ("st_dev", "st_mode", "st_uid", "st_gid")):
        return False
    with suppress(OSError), body.open("rb", buffering=0) as file:  # one volume may be mounted at two places
        _sync(file.fileno())
        os.link(body, name, dst_dir_fd=folder, follow_symlinks=False)
        return True
    return False


def _write(file: int, source: memoryview | BinaryIO) -> None:
    if isinstance(source, memoryview):
        _write_all(file, source)
        return
    while piece := source.read(_COPY_BYTES):
        _write_all(file, memoryview(piece))


def _begin_sync(file: int) -> None:
    """Lets the kernel give the file its place on the disk and begin to write, where it can be asked to."""
    if _sync_file_range is not None:
        _sync_file_range(file, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def _sync(file: int) -> None:
    """Waits until the file lasts, and takes it out of memory: nobody reads it now.

    Else each picture takes memory that was never used, which costs more than to write it, and others lose theirs.
    """
    os.fsync(file)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def _write_all(file: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(file, piece) :]


def _read(file: int, offset: int, length: int) -> bytes:
    """Up to `length` bytes; fewer at the end of the file."""
    pieces = []
    while length > 0 and (piece := os.pread(file, length, offset)):
        pieces.append(piece)
        offset, length = offset + len(piece), length - len(piece)
    return b"".join(pieces)
