"""What hostile servers can do to a worker: nothing but end their own rows, in time, in little memory, without a trace.

Fetched by a process of its own, so that its memory can be measured.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.download_process import Worker, start_worker
from tests.hostile import ATTACKS, hostile_handlers
from tests.origin import Origin, Request, Wire, picture

_MEBI = 1024 * 1024
#: For starting, resolving and writing beside what is waited for, on a busy machine.
_SLACK_SECONDS = 4.0
#: The deadline is not met by any attack that should end otherwise, and fails the test of one that does not.
_LIMITS = {"max_bytes": 200_000, "url_deadline_seconds": 20}
_SLOW = tuple(attack for attack in ATTACKS if attack.reason == "deadline")
_SWIFT = tuple(attack for attack in ATTACKS if attack.reason != "deadline")
#: No host is left alone here: each attack is to be met.
_PATIENT = {"breaker_failures": 1_000_000}


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin(handlers=hostile_handlers()) as origin:
        yield origin


@pytest.fixture
async def worker(redis_url: str, tmp_path: Path) -> AsyncIterator[Worker]:
    async with start_worker(redis_url, tmp_path, transfers=256, **_PATIENT) as worker:
        yield worker


async def test_each_attack_ends_in_its_reason(worker: Worker, origin: Origin) -> None:
    rows = await worker.run([origin.url(attack.path) for attack in _SWIFT], **_LIMITS)

    assert _ends(rows) == [(attack.path, attack.reason, attack.status) for attack in _SWIFT]


async def test_each_attack_on_our_time_ends_at_the_deadline(worker: Worker, origin: Origin) -> None:
    started = time.monotonic()
    rows = await worker.run([origin.url(attack.path) for attack in _SLOW], **_LIMITS | {"url_deadline_seconds": 1})
    spent = time.monotonic() - started

    assert _ends(rows) == [(attack.path, attack.reason, attack.status) for attack in _SLOW]
    assert spent < 1 + _SLACK_SECONDS


def _ends(rows: list[dict[str, Any]]) -> list[tuple[str, str | None, int | None]]:
    return [(urlsplit(row["final_url"]).path, row["reason"], row["http_status"]) for row in rows]


async def test_memory_does_not_grow_with_the_number_of_attacks(worker: Worker, origin: Origin) -> None:
    urls = [origin.url(f"{attack.path}?{number}") for attack in _SWIFT for number in range(2)]
    for _ in range(2):
        await worker.run(urls, **_LIMITS)
    before = worker.memory_bytes

    for _ in range(5):
        await worker.run(urls, **_LIMITS)

    assert worker.memory_bytes - before < 16 * _MEBI


#: As much of a header as is taken.
_SWOLLEN = (
    # a line that does not end, as long as libcurl waits for its end
    b"X-Long: " + b"x" * 95_000,
    # lines of the greatest length
    b"".join(b"X-%d: %s\r\n" % (number, b"x" * 8000) for number in range(8)),
    # the greatest number of lines
    b"".join(b"X-%d: %s\r\n" % (number, b"x" * 450) for number in range(126)),
)


async def test_large_headers_on_all_connections_at_once_take_little_memory(worker: Worker, origin: Origin) -> None:
    async def swell(request: Request, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\n" + _SWOLLEN[int(request.options["kind"])])
        await origin.released.wait()

    origin.handlers["/swell"] = swell
    await worker.run([origin.url(f"/image/{number}") for number in range(256)], **_LIMITS)
    before = worker.peak_bytes

    for kind in range(len(_SWOLLEN)):
        rows = await worker.run(
            [origin.url(f"/swell?kind={kind}&n={number}") for number in range(256)], url_deadline_seconds=2
        )
        assert {row["reason"] for row in rows} == {"deadline"}

    assert origin.busiest >= 256
    assert worker.peak_bytes - before < 64 * _MEBI


async def test_a_body_in_crumbs_takes_no_more_memory_than_one_in_pieces(worker: Worker, origin: Origin) -> None:
    async def crumble(request: Request, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\nxx\r\n" * 200_000)
        await origin.released.wait()

    origin.handlers["/crumbs"] = crumble
    await worker.run([origin.url("/image/a")])
    before = worker.peak_bytes

    rows = await worker.run([origin.url(f"/crumbs?{number}") for number in range(8)], url_deadline_seconds=2)

    assert {row["reason"] for row in rows} == {"deadline"}
    # Eight bodies of 400 kB; as pieces of two bytes they took ninety MiB.
    assert worker.peak_bytes - before < 24 * _MEBI


async def test_what_follows_an_answer_is_never_taken_for_the_next_one(worker: Worker, origin: Origin) -> None:
    for number in range(5):
        rows = await worker.run([origin.url("/length_short"), origin.url(f"/image/{number}?size=5000")])

        assert [(row["reason"], row["length"]) for row in rows] == [(None, 1000), (None, 5000)]


#: What a server that does not speak TLS says on port 443, and what becomes of its row.
_NO_TLS = {
    "silence": (b"", "connect_timeout"),
    "a record that is announced and never sent": (b"\x16\x03\x03\x40\x00", "connect_timeout"),
    "HTTP": (b"HTTP/1.1 400 Plain\r\n\r\n", "connect_failed"),
}


async def test_a_server_that_stalls_in_tls_ends_within_the_limit_for_connecting(redis_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ports = [await _start_no_tls(stack, first) for first, _ in _NO_TLS.values()]
        worker = await stack.enter_async_context(start_worker(redis_url, tmp_path, connect_timeout_seconds=0.5))
        started = time.monotonic()
        rows = await worker.run([f"https://127.0.0.1:{port}/x" for port in ports], url_deadline_seconds=30)
        spent = time.monotonic() - started

    assert [row["reason"] for row in rows] == [reason for _, reason in _NO_TLS.values()]
    assert {row["http_status"] for row in rows} == {None}
    assert spent < 0.5 + _SLACK_SECONDS


async def _start_no_tls(stack: AsyncExitStack, first: bytes) -> int:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await reader.read(-1)
        writer.close()

    server = await stack.enter_async_context(await asyncio.start_server(stall, "127.0.0.1", 0))
    port: int = server.sockets[0].getsockname()[1]
    return port


async def test_good_rows_among_attacks_are_none_the_worse(worker: Worker, origin: Origin) -> None:
    good = [origin.url(f"/image/{number}?size=20000") for number in range(100)]
    bad = [origin.url(f"{attack.path}?{number}") for attack in _SWIFT for number in range(2)]

    rows = await worker.run([*bad, *good], **_LIMITS)

    assert Counter(row["reason"] for row in rows[len(bad) :]) == {None: 100}
    assert sum(row["length"] for row in rows[len(bad) :]) == 100 * len(picture("x", 20_000))
