"""The web server that is crawled: one process, HTTP/1.1 on loopback, bodies by sendfile.

    python -m tests.bench.origin ROOT PORT LATE_MS

Both contenders ask the same one, on the same cores, so it does little: about 40 us of computing a request.
`/late/…` is the same file after LATE_MS. `POST /-/begin` forgets, `GET /-/seen` tells what was asked since.
It ends when its stdin does.
"""

import heapq
import json
import os
import resource
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

_TYPES = {"jpg": b"image/jpeg", "png": b"image/png", "webp": b"image/webp"}
_LATE = "/late/"
_PIECE = 1 << 20


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    asked: bytearray = field(default_factory=bytearray)
    head: bytes = b""
    #: An open file, where to go on in it, and where it ends; -1: none.
    file: int = -1
    offset: int = 0
    size: int = 0

    @property
    def is_answering(self) -> bool:
        return bool(self.head) or self.file >= 0


@dataclass
class _Seen:
    """What was asked since the last beginning. Times are on the monotonic clock, in seconds."""

    images: int = 0
    first_at: float | None = None
    last_at: float | None = None
    connections: int = 0
    most_open: int = 0
    cpu_before: float = 0.0


class Origin:
    """Serves until stdin ends."""

    def __init__(self, root: Path, port: int, late_seconds: float) -> None:
        self._root = str(root)
        self._late_seconds = late_seconds
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._late: list[tuple[float, int, _Connection]] = []
        self._order = 0
        self._open = 0
        self._seen = _Seen(cpu_before=_cpu())

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, ready in self._selector.select(self._patience()):
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._attend(key.data, ready)
            while self._late and self._late[0][0] <= time.monotonic():
                self._send(heapq.heappop(self._late)[2])

    def _patience(self) -> float | None:
        return max(0.0, self._late[0][0] - time.monotonic()) if self._late else None

    def _accept(self) -> None:
        for _ in range(64):
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(client, selectors.EVENT_READ, _Connection(client))
            self._open += 1
            self._seen.connections += 1
            self._seen.most_open = max(self._seen.most_open, self._open)

    def _attend(self, connection: _Connection, ready: int) -> None:
        try:
            if ready & selectors.EVENT_READ:
                piece = connection.socket.recv(65536)
                if not piece:
                    self._close(connection)
                    return
                connection.asked += piece
                if not connection.is_answering and b"\r\n\r\n" in connection.asked:
                    self._begin(connection)
            if ready & selectors.EVENT_WRITE:
                self._send(connection)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)

    def _begin(self, connection: _Connection) -> None:
        """Answers the first request that was asked; more wait, as HTTP/1.1 has it."""
        head, _, rest = bytes(connection.asked).partition(b"\r\n\r\n")
        connection.asked = bytearray(rest)
        path = head.split(b" ", 2)[1].decode("latin-1")
        if path.startswith("/-/"):
            connection.head = self._told(path)
            self._send(connection)
            return
        is_late = path.startswith(_LATE)
        self._note(path)
        self._prepare(connection, path.removeprefix("/late"))
        if is_late:
            self._order += 1
            heapq.heappush(self._late, (time.monotonic() + self._late_seconds, self._order, connection))
        else:
            self._send(connection)

    def _note(self, path: str) -> None:
        if path.endswith("robots.txt"):
            return
        self._seen.last_at = time.monotonic()
        self._seen.first_at = self._seen.first_at or self._seen.last_at
        self._seen.images += 1

    def _prepare(self, connection: _Connection, path: str) -> None:
        try:
            connection.file = os.open(self._root + path, os.O_RDONLY)
        except OSError:
            connection.head = _head(HTTPStatus.NOT_FOUND, b"text/plain", 0)
            return
        connection.offset, connection.size = 0, os.fstat(connection.file).st_size
        kind = _TYPES.get(path.rpartition(".")[2], b"application/octet-stream")
        connection.head = _head(HTTPStatus.OK, kind, connection.size)

    def _told(self, path: str) -> bytes:
        if path == "/-/begin":
            self._seen = _Seen(cpu_before=_cpu())
        seen = self._seen
        body = json.dumps(
            {
                "images": seen.images,
                "first_at": seen.first_at,
                "last_at": seen.last_at,
                "connections": seen.connections,
                "most_open": seen.most_open,
                "cpu_seconds": _cpu() - seen.cpu_before,
            }
        ).encode()
        return _head(HTTPStatus.OK, b"application/json", len(body)) + body

    def _send(self, connection: _Connection) -> None:
        """Sends what the socket takes; goes on when it takes more."""
        try:
            if connection.head:
                more = socket.MSG_MORE if connection.file >= 0 and connection.size else 0
                connection.head = connection.head[connection.socket.send(connection.head, more) :]
            while connection.file >= 0 and connection.offset < connection.size:
                sent = os.sendfile(connection.socket.fileno(), connection.file, connection.offset, _PIECE)
                connection.offset += sent
        except BlockingIOError:
            self._selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
            return
        except OSError:
            self._close(connection)
            return
        self._finish(connection)

    def _finish(self, connection: _Connection) -> None:
        if connection.file >= 0:
            os.close(connection.file)
            connection.file = -1
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
        if b"\r\n\r\n" in connection.asked:
            self._begin(connection)

    def _close(self, connection: _Connection) -> None:
        if connection.socket.fileno() < 0:
            return
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._open -= 1
        if connection.file >= 0:
            os.close(connection.file)
            connection.file = -1


def _head(status: HTTPStatus, content_type: bytes, size: int) -> bytes:
    line = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: {size}\r\nContent-Type: ".encode()
    return line + content_type + b"\r\n\r\n"


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    root, port, late_ms = sys.argv[1:]
    origin = Origin(Path(root), int(port), int(late_ms) / 1000)
    print(origin.port, flush=True)
    origin.run()


if __name__ == "__main__":
    main()
