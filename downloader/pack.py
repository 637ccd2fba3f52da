"""The pack: one file with a chunk's bodies, one after the other.

A body is gathered beside the pack and appended when it is whole (in memory; a large one in an unlinked file, when
memory holds many), so that transfers which run at the same time do not mix and a failed one leaves nothing behind.
Written by the engine's thread, closed by the chunk's task: after `close` nothing is written any more.
"""

import os
import tempfile
import threading
import zlib
from pathlib import Path
from typing import IO

from shared.reasons import Reason
from shared.workdir.local import full_disk_is_transient

#: A body up to this size stays in memory: above the 95th percentile of web images, 36 of them are 36 MiB.
SPILL = 1024 * 1024
#: A larger one does while a chunk's bodies under way hold no more than this together, bytes: one image in forty is
#: larger, but they are a quarter of all bytes, and in a file of their own these would be copied three times.
MOST_HELD = 32 * 1024 * 1024
#: How far a compressed body may inflate; image bytes hardly compress at all.
MAX_INFLATION = 20
#: Small bodies may inflate further: a 1 kB drawing as text-like GIF is harmless.
_INFLATION_FLOOR = 64 * 1024
_COPY = 1024 * 1024
#: What follows so many pieces of one body is gathered in one; the kernel takes 1,024 in one call.
_MOST_PIECES = 512


class BodyRefused(Exception):
    """The body breaks a rule and the transfer is to be dropped."""

    def __init__(self, reason: Reason, detail: str = "body") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class BodySuffices(Exception):
    """All that was wanted has arrived."""


class PackClosed(Exception):
    """The chunk is over; what comes now is thrown away."""


class Pack:
    """An append-only file of bodies."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._lock = threading.Lock()
        self._size = 0
        #: Bytes of bodies under way that are in memory; the engine's thread alone counts them.
        self.held_bytes = 0
        with full_disk_is_transient():
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)

    @property
    def size_bytes(self) -> int:
        return self._size

    def body(self, max_bytes: int) -> "Body":
        """A new, empty body of at most that many bytes after decoding; it is appended when it is finished."""
        return Body(max_bytes, self)

    @property
    def folder(self) -> Path:
        return self._folder

    def append(self, body: "Body") -> int:
        """Adds a whole body and returns its offset. Raises WorkAreaFull or PackClosed."""
        with self._lock:
            if self._file is None:
                raise PackClosed
            offset = self._size
            with full_disk_is_transient():
                body.write_to(self._file, offset)
            self._size += body.size_bytes
            return offset

    def close(self) -> None:
        """Ends the pack; waits for an append that is under way. Closing twice is harmless."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None


class Body:
    """One answer's body while it arrives. `close` it; once it is finished, `offset` says where it lies."""

    def __init__(self, max_bytes: int, pack: Pack | None = None) -> None:
        self.size_bytes = 0
        self.offset: int | None = None
        self._max_bytes = max_bytes
        self._pack = pack
        self._pieces: list[bytes | bytearray] = []
        self._held_bytes = 0
        self._spilled: IO[bytes] | None = None
        self._inflater: _Inflater | None = None

    def expect(self, length: int | None, encoding: str) -> None:
        """What the headers announce. Raises BodyRefused when it is too much or of no use."""
        if length is not None and length > self._max_bytes:
            self._overflow("announced")
        if encoding not in ("", "identity"):
            self._inflater = _Inflater(encoding)

    def write(self, piece: bytes) -> None:
        """Takes the next bytes off the wire. Raises BodyRefused, BodySuffices or WorkAreaFull."""
        if self._inflater is None:
            self._take(piece)
            return
        for inflated in self._inflater.inflate(piece):
            self._take(inflated)
        if self._inflater.taken > self._max_bytes:
            self._overflow("encoded")  # bytes that inflate to nothing are bytes too

    def finish(self) -> None:
        """No more bytes will come. Raises BodyRefused if it is not whole, WorkAreaFull and PackClosed."""
        if self._inflater is not None and not self._inflater.is_whole:
            raise BodyRefused(Reason.TRUNCATED_BODY, "compressed")
        if self.size_bytes == 0:
            raise BodyRefused(Reason.EMPTY_BODY)
        if self._pack is not None:
            self.offset = self._pack.append(self)
            self.close()

    def read(self) -> bytes:
        """The bytes of a body that goes to no pack."""
        return b"".join(self._pieces)

    def write_to(self, file: int, offset: int) -> None:
        if self._spilled is None:
            _write_pieces(file, self._pieces, offset)
            return
        self._spilled.seek(0)
        while piece := self._spilled.read(_COPY):
            _write_all(file, piece, offset)
            offset += len(piece)

    def close(self) -> None:
        self._let_go()
        if self._spilled is not None:
            self._spilled.close()
            self._spilled = None

    def _take(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        if self.size_bytes > self._max_bytes:
            self._overflow("received")
        if self._spilled is not None:
            with full_disk_is_transient():
                _write_all(self._spilled.fileno(), piece, self.size_bytes - len(piece))
        else:
            self._keep(piece)
            if self._pack is not None:
                self._hold(self._pack, len(piece))

    def _keep(self, piece: bytes) -> None:
        if len(self._pieces) < _MOST_PIECES:
            self._pieces.append(piece)
            return
        # Chunks of two bytes would otherwise take thirty times their size.
        last = self._pieces[-1]
        if not isinstance(last, bytearray):
            last = self._pieces[-1] = bytearray(last)
        last += piece

    def _hold(self, pack: Pack, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        pack.held_bytes += size_bytes
        if self.size_bytes > SPILL and pack.held_bytes > MOST_HELD:
            self._spill(pack.folder)

    def _let_go(self) -> None:
        self._pieces.clear()
        if self._pack is not None and self._held_bytes:
            self._pack.held_bytes -= self._held_bytes
            self._held_bytes = 0

    def _spill(self, folder: Path) -> None:
        with full_disk_is_transient():
            self._spilled = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
            _write_pieces(self._spilled.fileno(), self._pieces, 0)
        self._let_go()

    def _overflow(self, when: str) -> None:
        raise BodyRefused(Reason.BODY_TOO_LARGE, when)


class Opening(Body):
    """The first bytes of a body, in memory; what follows is not read."""

    def _take(self, piece: bytes) -> None:
        wanted = piece[: self._max_bytes - self.size_bytes]
        self._keep(wanted)
        self.size_bytes += len(wanted)
        if self.size_bytes >= self._max_bytes:
            raise BodySuffices

    def finish(self) -> None:
        """Whatever came is enough."""

    def _overflow(self, when: str) -> None:
        """Longer than what is read: no harm, and no reason to read on."""
        if when != "announced":
            raise BodySuffices


class _Inflater:
    """gzip or deflate, a bounded step at a time."""

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise BodyRefused(Reason.BAD_ENCODING, "unknown")
        self._encoding = encoding
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, whichever it is
        self.taken = 0
        self._given = 0

    @property
    def is_whole(self) -> bool:
        return self._decoder.eof

    def inflate(self, piece: bytes) -> "list[bytes]":
        if self.taken == 0 and self._encoding == "deflate" and not _is_zlib(piece):
            self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)  # many servers send deflate without its wrapper
        self.taken += len(piece)
        inflated = []
        while piece and not self._decoder.eof:
            inflated.append(self._step(piece))
            piece = self._decoder.unconsumed_tail
        return inflated

    def _step(self, piece: bytes) -> bytes:
        allowed = max(self.taken * MAX_INFLATION, _INFLATION_FLOOR)
        try:
            out = self._decoder.decompress(piece, allowed - self._given + 1)
        except zlib.error:
            raise BodyRefused(Reason.BAD_ENCODING, "damaged") from None
        self._given += len(out)
        if self._given > allowed:
            raise BodyRefused(Reason.BAD_ENCODING, "inflates_too_far")
        return out


def _is_zlib(start: bytes) -> bool:
    return len(start) >= 2 and start[0] & 0x0F == 8 and (start[0] << 8 | start[1]) % 31 == 0


def _write_pieces(file: int, pieces: list[bytes | bytearray], offset: int) -> None:
    written = os.pwritev(file, pieces, offset)
    if written < sum(map(len, pieces)):
        _write_all(file, b"".join(pieces)[written:], offset + written)


def _write_all(file: int, piece: bytes, offset: int) -> None:
    view = memoryview(piece)
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written
