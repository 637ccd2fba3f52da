"""The folder for what is of no use once this process and its children are gone: temporary files, metric files.

    <the system's temporary folder>/pixcrawler-<user>/<random>/     locked while a process of its owner lives

Who is killed cannot tidy up, so whoever starts next does: a folder that nobody holds locked is nobody's. Forked
children inherit the lock, programs that they run do not.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

#: multiprocessing removes a folder of its own inside ours with priority -100; ours goes after that.
_LAST = -200


@cache
def own_folder(parent: Path | None = None) -> Path:
    """This process's folder. It goes when the process ends or, if that was killed, when the next one asks for its own.

    `parent` is None for the system's temporary folder. Raises OSError where nothing can be written.
    """
    root = _root(parent or Path(tempfile.gettempdir()))
    _sweep(root)
    while True:
        folder = Path(tempfile.mkdtemp(dir=root))
        if _lock(folder) is not None and folder.exists():  # else somebody who sweeps was faster
            Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=_LAST)
            return folder


def keep_temporary_files_in(folder: Path) -> None:
    """From now on this process and those it starts put their temporary files there."""
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)


def _root(parent: Path) -> Path:
    root = parent / f"pixcrawler-{os.geteuid()}"
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
    found = root.lstat()
    is_ours = root.is_dir() and not root.is_symlink() and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return root if is_ours else Path(tempfile.mkdtemp(prefix=f"{root.name}-", dir=parent))


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        held = _lock(folder)
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def _lock(folder: Path) -> int | None:
    """A descriptor that locks the folder until every copy of it is closed; None when it is another's, or gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
