"""Whatever servers send, each row ends in exactly one outcome: bytes in the pack, or one reason.

The answers are good ones that a seeded hand has spoilt. To see a failure again, set PIXCRAWLER_TEST_SEED to the seed
that it printed.
"""

import asyncio
import gzip
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from shared.reasons import REASONS, Reason
from tests.download_process import start_worker
from tests.origin import Origin, Request, Wire, picture

_ROWS = 300
_HOSTS = 20
_SPICE = (b"\r\n", b"\n", b"\0", b":", b" ", b"-1", b"\xff" * 9, b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 9000)
_STATUSES = (200, 200, 200, 200, 203, 204, 206, 301, 302, 304, 404, 429, 500, 503)
_FIELDS = (
    "Content-Encoding: br",
    "Content-Type: multipart/x",
    "Content-Type: text/html; charset=\xff",
    "Connection: close",
    "Location: /again",
    "Location: http://169.254.169.254/",
    "Location: //[::1",
    "Retry-After: 0",
    "Retry-After: Fri, 31 Feb 2030 99:00:00",
    "X-Robots-Tag: noai",
    "X-Robots-Tag: unavailable_after: \xfe",
    "Transfer-Encoding: identity",
    "ETag: " + "e" * 600,
)


def _good_answer(chance: random.Random) -> bytes:
    """A proper answer, in one of the ways in which a body may be sent."""
    body = picture(str(chance.random()), chance.choice((0, 1, 1000, 70_000)))
    fields = chance.sample(_FIELDS, chance.choice((0, 0, 1, 2)))
    match chance.randrange(3):
        case 0:
            fields.append(f"Content-Length: {len(body)}")
        case 1:
            body = gzip.compress(body)
            fields += ["Content-Encoding: gzip", f"Content-Length: {len(body)}"]
        case _:
            fields.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    lines = [f"HTTP/1.1 {chance.choice(_STATUSES)} Whatever", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _flip(raw: bytearray, at: int, chance: random.Random) -> None:
    raw[at] ^= 1 << chance.randrange(8)


def _drop(raw: bytearray, at: int, chance: random.Random) -> None:
    del raw[at : at + chance.randrange(1, 50)]


def _repeat(raw: bytearray, at: int, chance: random.Random) -> None:
    raw[at:at] = raw[at : at + chance.randrange(1, 200)]


def _insert(raw: bytearray, at: int, chance: random.Random) -> None:
    raw[at:at] = chance.choice(_SPICE)


def _cut(raw: bytearray, at: int, chance: random.Random) -> None:
    del raw[at:]


_SPOILS: tuple[Callable[[bytearray, int, random.Random], None], ...] = (_flip, _drop, _repeat, _insert, _cut)


def _spoilt(chance: random.Random) -> bytes:
    raw = bytearray(_good_answer(chance))
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        if raw:
            # Most of what can go wrong stands at the start.
            chance.choice(_SPOILS)(raw, chance.randrange(min(len(raw), chance.choice((300, len(raw))))), chance)
    return bytes(raw)


async def _send_spoilt(request: Request, wire: Wire, seed: int) -> None:
    chance = random.Random(f"{seed} {request.target} {request.headers.get('host')}")
    raw = _spoilt(chance)
    at = chance.randrange(len(raw) + 1)
    for piece in (raw[:at], raw[at:]):
        await wire.send(piece)
        await asyncio.sleep(0)
    match chance.randrange(5):
        case 0:
            wire.reset()
        case 1 if request.path != "/robots.txt":
            await asyncio.Event().wait()
        case 2 | 3:
            await wire.close()


async def test_each_row_ends_once_whatever_is_sent(redis_url: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("PIXCRAWLER_TEST_SEED") or random.randrange(2**32))
    print(f"PIXCRAWLER_TEST_SEED={seed}")

    async def answer(request: Request, wire: Wire) -> None:
        await _send_spoilt(request, wire, seed)

    async with Origin(listens_on="0.0.0.0") as origin:
        origin.handlers.update(dict.fromkeys(("/x", "/again", "/robots.txt"), answer))
        urls = [origin.url(f"/x?{row}", host=f"127.0.0.{1 + row % _HOSTS}") for row in range(_ROWS)]
        async with start_worker(
            redis_url, tmp_path, transfers=128, breaker_seconds=0.5, chunk_deadline_seconds=2.5
        ) as worker:
            for robots in (False, True):
                started = time.monotonic()
                rows = await worker.run(urls, robots=robots, attempts=2, url_deadline_seconds=1)
                assert time.monotonic() - started < 10
                _check(rows)


def _check(rows: list[dict[str, object]]) -> None:
    assert [row["row"] for row in rows] == list(range(1500, 1500 + _ROWS))
    accepted = [row for row in rows if row["reason"] is None]
    rejected = [row for row in rows if row["reason"] is not None]
    assert accepted
    for row in rejected:
        assert Reason(str(row["reason"])) in REASONS
        assert (row["offset"], row["length"]) == (None, None), row
    # The bodies fill their pack without a gap: no row has another's bytes, and none that ended otherwise left any.
    places = sorted((int(str(row["offset"])), int(str(row["length"]))) for row in accepted)
    ends = [offset + length for offset, length in places]
    assert [offset for offset, _ in places] == [0, *ends[:-1]]
    assert all(row["http_status"] in (200, 203) and row["length"] for row in accepted)
