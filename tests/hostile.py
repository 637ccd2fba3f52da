"""A web server that means harm: each route breaks HTTP, wastes time or wastes memory in its own way.

    async with Origin(handlers=hostile_handlers()) as origin: ...

`ATTACKS` says for each route what must become of a row that meets it. Parts that `tests/origin.py` has already
(a lying status, a redirect into the inside) are not repeated.
"""

import asyncio
import gzip
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from tests.origin import Handler, Request, Wire, picture

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_ZEROES = bytes(65536)
_FORGED = _OK + b"Content-Length: 6\r\n\r\nforged"


@dataclass(frozen=True)
class Attack:
    """A route and its end: the reason (None: the row is accepted) and the status in its record."""

    path: str
    reason: str | None
    status: int | None
    handler: Handler


def hostile_handlers() -> dict[str, Handler]:
    return {attack.path: attack.handler for attack in ATTACKS}


def _says(*pieces: bytes, then: str = "close") -> Handler:
    """Sends the pieces, and then closes, resets or keeps silent."""

    async def handler(request: Request, wire: Wire) -> None:
        for piece in pieces:
            await wire.send(piece)
        if then == "silence":
            await asyncio.Event().wait()
        elif then == "reset":
            wire.reset()
        elif then == "close":
            await wire.close()

    return handler


def _repeats(first: bytes, piece: bytes, *, pause_seconds: float = 0.0) -> Handler:
    """Sends the first bytes and then the same piece without end."""

    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(first)
        while True:
            await wire.send(piece)
            await asyncio.sleep(pause_seconds)

    return handler


def _drips(first: bytes, rest: bytes) -> Handler:
    """Sends the rest a byte at a time."""

    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(first)
        for byte in rest:
            await wire.send(bytes([byte]))
            await asyncio.sleep(0.05)

    return handler


def _answer(*fields: str, body: bytes = b"", status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _packed(body: bytes, *fields: str) -> bytes:
    return _answer(f"Content-Length: {len(body)}", *fields, body=body)


def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(50)), packer.flush()])


def _slow_loop() -> Handler:
    async def handler(request: Request, wire: Wire) -> None:
        await asyncio.sleep(0.4)
        await wire.reply(status=302, headers={"Location": request.target})

    return handler


def _growing_loop() -> Handler:
    """Every hop leads to a place never seen before, so that no list of visited places would end it."""

    async def handler(request: Request, wire: Wire) -> None:
        await wire.reply(status=302, headers={"Location": f"/growing_loop?{request.options.get('n', '')}x"})

    return handler


def _attacks() -> Iterable[tuple[str, str | None, int | None, Handler]]:
    # bodies without end
    yield "endless_body", "body_too_large", 200, _repeats(_answer("Connection: close"), _ZEROES)
    yield "endless_chunks", "body_too_large", 200, _repeats(_CHUNKED, b"10000\r\n" + _ZEROES + b"\r\n")
    yield "endless_not_found", "http_not_found", 404, _repeats(_answer(status="404 Gone"), _ZEROES)
    yield (
        "endless_redirect",
        "redirect_limit",
        302,
        _repeats(_answer("Location: /endless_redirect", status="302 On"), _ZEROES),
    )
    # time
    yield "body_drip", "deadline", 200, _drips(_answer("Content-Length: 900"), bytes(900))
    yield "chunk_drip", "deadline", 200, _repeats(_CHUNKED, b"1\r\nx\r\n", pause_seconds=0.05)
    yield "header_drip", "deadline", 200, _drips(_OK, b"X-Slow: " + b"x" * 900)
    yield "header_line_drip", "deadline", 200, _repeats(_OK, b"X-Slow: x\r\n", pause_seconds=0.05)
    yield "status_drip", "deadline", 200, _drips(b"", _OK + bytes(900))
    yield "silence", "deadline", None, _says(then="silence")
    yield "silence_in_headers", "deadline", 200, _says(_OK, then="silence")
    yield "silence_in_body", "deadline", 200, _says(_answer("Content-Length: 900"), b"x", then="silence")
    yield "slow_loop", "deadline", None, _slow_loop()
    yield "growing_loop", "redirect_limit", 302, _growing_loop()
    # headers
    yield "megabyte_header", "bad_response", 200, _says(_answer("X-Long: " + "x" * 1_000_000))
    yield "endless_header", "bad_response", 200, _repeats(_OK + b"X-Long: ", b"x" * 65536)
    yield "many_headers", "bad_response", 200, _says(_answer(*(f"X-{number}: x" for number in range(10_000))))
    yield "endless_headers", "bad_response", 200, _repeats(_OK, b"X-More: x\r\n" * 1000)
    yield (
        "large_headers",
        "bad_response",
        200,
        _says(_packed(picture("large"), *(f"X-{number}: {'x' * 8000}" for number in range(13)))),
    )
    yield "endless_interim", "bad_response", 103, _repeats(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")
    yield "endless_continue", "bad_response", 100, _repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n")
    # compressed
    bomb = _gzip_bomb()
    yield "gzip_bomb", "bad_encoding", 200, _says(_packed(bomb, "Content-Encoding: gzip"))
    yield "gzip_bomb_twice", "bad_encoding", 200, _says(_packed(gzip.compress(bomb), "Content-Encoding: gzip, gzip"))
    yield (
        "gzip_bomb_lines",
        "bad_encoding",
        200,
        _says(_packed(gzip.compress(bomb), "Content-Encoding: gzip", "Content-Encoding: gzip")),
    )
    yield "transfer_bomb", "bad_encoding", 200, _says(_answer("Transfer-Encoding: gzip", body=bomb))
    yield (
        "gzip_hollow",
        "body_too_large",
        200,
        _repeats(
            _answer("Content-Encoding: gzip", "Connection: close") + b"\x1f\x8b\x08" + bytes(7),
            b"\x00\x00\x00\xff\xff" * 10_000,
        ),
    )
    yield (
        "gzip_and_more",
        "body_too_large",
        200,
        _repeats(_answer("Content-Encoding: gzip", "Connection: close") + gzip.compress(picture("more")), _ZEROES),
    )
    yield (
        "gzip_cut",
        "truncated_body",
        200,
        _says(_packed(gzip.compress(picture("cut"))[:-20], "Content-Encoding: gzip")),
    )
    for name in ("br", "zstd", "compress", "x-unknown"):
        yield f"encoding_{name}", "bad_encoding", 200, _says(_packed(picture(name), f"Content-Encoding: {name}"))
    # lengths that lie
    yield "length_short", None, 200, _says(_packed(picture("short"), "X: y") + _FORGED * 10, then="nothing")
    yield "length_long", "truncated_body", 200, _says(_answer("Content-Length: 5000", body=picture("long")))
    yield (
        "length_long_silence",
        "deadline",
        200,
        _says(_answer("Content-Length: 5000", body=picture("l")), then="silence"),
    )
    yield "length_negative", "bad_response", 200, _says(_answer("Content-Length: -5", body=picture("n")))
    yield "length_no_number", "bad_response", 200, _says(_answer("Content-Length: many", body=picture("n")))
    yield "length_astronomic", "body_too_large", 200, _says(_answer(f"Content-Length: {10**30}", body=picture("n")))
    yield (
        "length_twice",
        "bad_response",
        200,
        _says(_answer("Content-Length: 10", "Content-Length: 900", body=picture("n"))),
    )
    # chunks that are none
    yield "chunk_no_size", "bad_response", 200, _says(_CHUNKED, b"zz\r\nxx\r\n")
    yield "chunk_negative", "bad_response", 200, _says(_CHUNKED, b"-1\r\nxx\r\n")
    yield "chunk_astronomic", "bad_response", 200, _says(_CHUNKED, b"f" * 40 + b"\r\nxx\r\n")
    yield "chunk_too_long", "truncated_body", 200, _says(_CHUNKED, b"7fffffff\r\nxx\r\n")
    yield "chunk_too_short", "bad_response", 200, _says(_CHUNKED, b"1\r\nxxxxxxxx\r\n0\r\n\r\n")
    yield "chunk_extension", "deadline", 200, _repeats(_CHUNKED + b"5;a=", b"x" * 1000, pause_seconds=0.01)
    yield "chunk_pairs", "body_too_large", 200, _repeats(_CHUNKED, b"2\r\nxx\r\n" * 10_000)
    yield "chunk_trailers", "bad_response", 200, _repeats(_CHUNKED + b"1\r\nx\r\n0\r\n", b"X-More: x\r\n" * 100)
    yield (
        "chunk_new_head",
        "bad_response",
        200,
        _says(
            _CHUNKED,
            b"3e8\r\n" + picture("head") + b"\r\n0\r\n",
            b"HTTP/1.1 404 Changed my mind\r\nLocation: /x\r\n\r\n",
        ),
    )
    # statuses
    yield "status_101", "deadline", 101, _says(_answer("Upgrade: x", status="101 Switching"), then="silence")
    yield "status_204_body", "http_unexpected", 204, _repeats(_answer(status="204 None"), _ZEROES)
    yield (
        "status_206",
        "http_unexpected",
        206,
        _says(_answer("Content-Range: bytes 0-999/5000", "Content-Length: 1000", body=picture("p"), status="206 Part")),
    )
    yield "status_304_body", "http_unexpected", 304, _repeats(_answer(status="304 Same"), _ZEROES)
    yield "status_000", "bad_response", None, _says(_answer(body=picture("z"), status="000 Nothing"))
    yield "status_999", "bad_response", 999, _says(_answer(body=picture("z"), status="999 No"))
    yield "status_letters", "bad_response", None, _says(_answer(body=picture("z"), status="abc"))
    yield "version_9", "bad_response", None, _says(b"HTTP/9.9 200 OK\r\n\r\n" + picture("z"))
    yield "no_version", "bad_response", None, _says(picture("z"))
    yield "nothing_but_newlines", "bad_response", None, _says(b"\r\n" * 1000)
    # connections
    yield "reset_at_once", "connection_reset", None, _says(then="reset")
    yield "reset_in_headers", "connection_reset", 200, _says(_OK, then="reset")
    yield (
        "reset_in_body",
        "connection_reset",
        200,
        _says(_answer("Content-Length: 5000", body=picture("r")), then="reset"),
    )


ATTACKS = tuple(Attack(f"/{path}", reason, status, handler) for path, reason, status, handler in _attacks())
