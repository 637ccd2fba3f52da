"""How `validator/check.py` takes files in and puts them down; neither they nor their names are trusted."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PIECE = 1 << 20


class NotAFileError(Exception):
    """A link, a pipe, a device, or what cannot be opened."""


class TooLargeError(Exception):
    """The file is larger than a body may be."""


def files_below(folder: Path) -> Iterator[str]:
    """Paths of everything but folders, relative, in the order of names. Links are named, not followed."""
    for place, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        folders.sort()
        for name in sorted(files + links):
            yield os.path.relpath(os.path.join(place, name), folder)


def take_in(path: Path, copy: Path, *, max_bytes: int) -> int:
    """Copies a regular file, for what is mapped must not shrink under the decoder. Gives its length in bytes.

    Raises NotAFileError and TooLargeError.
    """
    with _opened(path) as source, copy.open("wb") as sink:
        size = os.fstat(source.fileno()).st_size
        if size > max_bytes:
            raise TooLargeError
        return _copy(source, sink, size)


def put_down(source: Path, target: Path, *, offset: int, length: int) -> None:
    """Writes a part of the source beside the target and renames it, so that no link at the target is followed."""
    descriptor, beside = tempfile.mkstemp(dir=target.parent)
    try:
        with source.open("rb") as file, os.fdopen(descriptor, "wb") as sink:
            file.seek(offset)
            _copy(file, sink, length)
        os.replace(beside, target)
    except BaseException:
        os.unlink(beside)
        raise


def _opened(path: Path) -> BinaryIO:
    """The file, without following a link or waiting for a writer."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # opening a device may already do something
            raise NotAFileError
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotAFileError from error
    file = os.fdopen(descriptor, "rb")
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return file
    file.close()
    raise NotAFileError


def _copy(source: BinaryIO, sink: BinaryIO, length: int) -> int:
    """Copies so many bytes, or what there is of them."""
    copied = 0
    while copied < length and (piece := source.read(min(_PIECE, length - copied))):
        copied += sink.write(piece)
    return copied


def _raise(error: OSError) -> None:
    raise error
