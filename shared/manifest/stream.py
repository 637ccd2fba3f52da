"""The bytes of a list, unpacked on the way, under limits.

Whether a file is gzipped is told by its first bytes, not by its name; a name that claims it must be right.
"""

import gzip
import os
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from shared.errors import BadSource, WorkAreaFull

GZIP_MAGIC = b"\x1f\x8b"
#: A list of URLs packs 5 to 20 times; a bomb packs 1,000 times.
MAX_RATIO = 200
#: Below this many bytes the ratio means nothing.
RATIO_FREE_BYTES = 16 * 1024**2
#: Ten million rows of 3 kB.
MAX_UNPACKED_BYTES = 32 * 1024**3


class ByteStream:
    """A list's bytes, unpacked. Positions count unpacked bytes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        magic = self._file.read(2)
        self._file.seek(0)
        self.is_packed = magic == GZIP_MAGIC
        if path.suffix.lower() == ".gz" and not self.is_packed:
            self._file.close()
            raise BadSource("the list is named .gz but is not gzip; unpack it or correct its name")
        self._bytes = cast(BinaryIO, gzip.GzipFile(fileobj=self._file, mode="rb")) if self.is_packed else self._file

    def read(self, size: int) -> bytes:
        """Up to that many bytes; nothing at the end. Raises BadSource for broken gzip and for a bomb."""
        try:
            block = self._bytes.read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadSource(f"the list's gzip data is damaged or cut after {self._bytes.tell():,} bytes") from error
        if self.is_packed:
            self._refuse_bomb()
        return block

    def seek(self, position: int) -> None:
        """Goes to a position; in a packed list by unpacking all that lies before it. Raises as `read` does."""
        if position < self._bytes.tell() or not self.is_packed:
            self._bytes.seek(0 if self.is_packed else position)
        while self.is_packed and (missing := position - self._bytes.tell()) > 0:
            if not self.read(min(missing, 1024**2)):
                break

    def close(self) -> None:
        """Closes the file. May be repeated."""
        self._bytes.close()
        self._file.close()

    def _refuse_bomb(self) -> None:
        unpacked = self._bytes.tell()
        is_bomb = unpacked > RATIO_FREE_BYTES and unpacked > MAX_RATIO * self._file.tell()
        if is_bomb or unpacked > MAX_UNPACKED_BYTES:
            raise BadSource(
                f"the list unpacks too far ({unpacked:,} bytes so far); "
                f"at most {MAX_RATIO} times and {MAX_UNPACKED_BYTES // 1024**3} GiB are accepted"
            )


def unpacked_copy(path: Path, folder: Path | None) -> Path | None:
    """The unpacked bytes of a gzipped file in a new temporary file, which the caller removes.

    None when the file is not packed. Raises BadSource for broken gzip and WorkAreaFull without room.
    """
    stream = ByteStream(path)
    try:
        if not stream.is_packed:
            return None
        return _unpack(stream, folder)
    finally:
        stream.close()


def _unpack(stream: ByteStream, folder: Path | None) -> Path:
    handle, name = tempfile.mkstemp(prefix="pixcrawler-list-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            while block := stream.read(1024**2):
                file.write(block)
    except OSError as error:
        os.unlink(name)
        raise WorkAreaFull("there is no room to unpack the list") from error
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)
