"""The sample's web server: HTTP/1.1, keep-alive, cheap, and bad where the corpus says so; on loopback by default."""

import asyncio
import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixcrawler.sample.corpus import DEFAULT_ROWS, DEFAULT_SEED, Corpus, Row

HOST = "127.0.0.1"
_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}
#: Pictures kept for requests that come again: bounded, since they can be drawn again.
_CACHE_BYTES = 32 * 1024 * 1024
_DRAWING_THREADS = 2
_HEAD_BYTES = 16 * 1024
_IDLE_SECONDS = 60.0
_SLOW_SECONDS = 0.5
_STOP_SECONDS = 10.0
_HTML = b"<!doctype html><title>Not here</title><p>This picture has moved.</p>"
_PHRASES = {200: "OK", 302: "Found", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 500: "Broken"}


class Origin:
    """A running origin. `requests` counts by path what was asked for; all that is no row under the empty path."""

    def __init__(self, corpus: Corpus, port: int, host: str = HOST) -> None:
        self.corpus = corpus
        self.host = host
        self.port = port
        self.requests: Counter[str] = Counter()
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._drawing = ThreadPoolExecutor(_DRAWING_THREADS, thread_name_prefix="sample-drawing")
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def extra_environment(self) -> dict[str, str]:
        """The settings by which services may fetch from here; such an address is refused otherwise."""
        return {
            "PIXCRAWLER_ALLOW_CIDRS": json.dumps([f"{self.host}/32"]),
            "PIXCRAWLER_ALLOW_PORTS": json.dumps([self.port]),
        }

    def write_list(self, path: Path) -> None:
        self.corpus.write_list(path, self.base_url)

    def write_truth(self, path: Path) -> None:
        self.corpus.write_truth(path, self.base_url)

    async def start(self) -> None:
        """Listens on the port, or on a free one for 0. Raises OSError when it is taken."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port, backlog=1024, limit=_HEAD_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._drawing.shutdown(wait=True, cancel_futures=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served in a task"
        self._connections.add(task)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            # The origin stops; the streams' own callback would report the cancelled task as an error.
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; False when the connection is to be closed."""
        async with asyncio.timeout(_IDLE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].decode("ascii", "replace").partition("?")[0]
        if method not in (b"GET", b"HEAD"):
            writer.write(_head(405, 0))
            return False
        row = self.corpus.by_path.get(path)
        self.requests[path if row else ""] += 1
        status, extra, body = await self._answer(path, row)
        announced = len(body)
        is_cut_off = row is not None and row.kind.name == "cut_off"
        writer.write(_head(status, announced, extra))
        if method == b"GET":
            writer.write(body[: announced // 2] if is_cut_off else body)
        async with asyncio.timeout(_IDLE_SECONDS):
            await writer.drain()
        return not is_cut_off and b"connection: close" not in head.lower()

    async def _answer(self, path: str, row: Row | None) -> tuple[int, str, bytes]:
        """Status, further header lines and body."""
        if row is None:
            return self._answer_others(path) if not path.startswith("/moved/") else await self._answer_moved(path)
        typed = f"Content-Type: {_TYPES[row.path.rpartition('.')[2]]}\r\n"
        match row.kind.name:
            case "missing":
                return 404, "", b"gone"
            case "forbidden":
                return 403, "", b"not for you"
            case "server_error":
                return 500, "", b"broken"
            case "flaky" if self.requests[path] % 2:
                return 500, "", b"broken for a moment"
            case "redirect":
                return 302, f"Location: /moved{row.path}\r\n", b""
            case "html":
                return 200, typed, _HTML
            case "empty":
                return 200, typed, b""
            case "opted_out":
                return 200, f"{typed}X-Robots-Tag: noai\r\n", await self._body(row)
            case "truncated":
                body = await self._body(row)
                return 200, typed, body[: len(body) * 3 // 5]
            case "slow":
                await asyncio.sleep(_SLOW_SECONDS)
        return 200, typed, await self._body(row)

    async def _answer_moved(self, path: str) -> tuple[int, str, bytes]:
        row = self.corpus.by_path.get(path.removeprefix("/moved"))
        if row is None or row.kind.name != "redirect":
            return self._answer_others(path)
        return 200, f"Content-Type: {_TYPES[row.picture.kind]}\r\n", await self._body(row)

    def _answer_others(self, path: str) -> tuple[int, str, bytes]:
        if path == "/robots.txt":
            return 200, "Content-Type: text/plain\r\n", b"User-agent: *\nAllow: /\n"
        return 404, "", b"no such picture"

    async def _body(self, row: Row) -> bytes:
        cached = self._cache.get(row.path)
        if cached is not None:
            self._cache.move_to_end(row.path)
            return cached
        body = await asyncio.get_running_loop().run_in_executor(self._drawing, self.corpus.body, row)
        self._keep(row.path, body)
        return body

    def _keep(self, path: str, body: bytes) -> None:
        if path in self._cache:
            return
        self._cache[path] = body
        self._cached_bytes += len(body)
        while self._cached_bytes > _CACHE_BYTES:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= len(oldest)


@contextmanager
def sample_origin(
    *, rows: int = DEFAULT_ROWS, seed: int = DEFAULT_SEED, port: int = 0, host: str = HOST
) -> Iterator[Origin]:
    """An origin that runs in a thread of its own until the block ends. `host` is one of this machine's IPv4 addresses.

    Raises OSError when it cannot listen there.
    """
    origin = Origin(Corpus(rows, seed), port, host)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sample-origin", daemon=True)
    thread.start()
    try:
        _run(origin.start(), loop)
        yield origin
    finally:
        _run(origin.stop(), loop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_SECONDS)
        loop.close()


def _run(work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
    waiting: Future[None] = asyncio.run_coroutine_threadsafe(work, loop)
    waiting.result(_STOP_SECONDS)


def _head(status: int, length: int, extra: str = "") -> bytes:
    return f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Length: {length}\r\n{extra}\r\n".encode("ascii")
