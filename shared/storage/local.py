"""A local folder as object store: keys are paths below it.

    write .pixcrawler-uploading/<random>  ──▶  fsync  ──▶  link to the key's name  ──▶  unlink the temporary

The link fails when the name exists, which makes a creation create-only; the fsync before it keeps a power cut
from leaving an empty file under a name that later attempts would adopt as stored. It costs a tenth of a
millisecond of waiting for a file of 200 kB when several threads write. The folder's own entries are not
synced on creation, so a power cut may take back the newest objects, each as a whole.

Temporaries belong to the call that made them. What a crash left is swept when the job has ended, else when a store
on the folder is opened an hour after it was last written to. Symbolic links below the folder are never followed.
"""

import errno
import fcntl
import math
import os
import secrets
import stat
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from io import BufferedIOBase, BytesIO
from itertools import islice
from pathlib import Path

from shared.errors import StoreRefused, StoreUnavailable
from shared.storage.base import StoredObject
from shared.storage.destination import Destination
from shared.storage.keys import checked
from shared.storage.parts import Body
from shared.storage.threads import Threads

#: Where bodies are written before they get their names; in the destination, because links do not cross volumes.
STAGING = ".pixcrawler-uploading"
#: No write pauses for so long; a temporary that did is an orphan.
ORPHAN_AGE = timedelta(hours=1)

_COPY_BYTES = 1024 * 1024
_LIST_PAGE = 1000
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

    @classmethod
    async def open(cls, destination: Destination) -> "LocalStore":
        """The store of a folder, which is made if it is missing."""
        store = cls(destination.folder)
        await store._threads.run(store._prepare)
        return store

    async def create(self, key: str, body: Body, *, content_type: str, sha256: str) -> bool:
        return await self._threads.run(self._create, checked(key), body)

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

    def _create(self, key: str, body: Body) -> bool:
        with _opened(body) as source, self._translated(), self._parent(key, make=True) as parent:
            name = _name(key)
            if _exists(name, parent):
                return False
            with self._staged(source) as (temporary, staging):
                try:
                    os.link(temporary, name, src_dir_fd=staging, dst_dir_fd=parent, follow_symlinks=False)
                except FileExistsError:
                    return False
                return True

    def _replace(self, key: str, body: bytes) -> None:
        with self._translated(), self._parent(key, make=True) as parent:
            with self._staged(BytesIO(body)) as (temporary, staging):
                os.rename(temporary, _name(key), src_dir_fd=staging, dst_dir_fd=parent)
            os.fsync(parent)

    def _exchange(self, key: str, body: bytes, version: str) -> bool:
        with self._translated(), self._parent(key, make=True) as parent:
            with self._staged(BytesIO(body)) as (temporary, staging), _alone(parent):
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
    def _staged(self, source: BufferedIOBase) -> Iterator[tuple[str, int]]:
        """A synced copy under a name of its own: (name, descriptor of its folder). Gone at the end."""
        with self._parent(f"{STAGING}/", make=True) as staging:
            name = secrets.token_hex(16)
            try:
                _write(name, staging, source)
                yield name, staging
            finally:
                with suppress(FileNotFoundError):  # renamed, or never made
                    os.unlink(name, dir_fd=staging)

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


def _opened(body: Body) -> BufferedIOBase:
    """The body as a file. Opened before anything is asked of the store: a missing body is not the store's fault."""
    return body.open("rb") if isinstance(body, Path) else BytesIO(body)


def _write(name: str, folder: int, source: BufferedIOBase) -> None:
    with os.fdopen(os.open(name, _NEW_FILE, 0o666, dir_fd=folder), "wb", buffering=0) as file:
        while piece := source.read(_COPY_BYTES):
            _write_all(file.fileno(), memoryview(piece))
        os.fsync(file.fileno())


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
