"""The gateway with many clients at once, measured by plain sockets, so that the client costs little."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.bench.page import Section, Table, at_most
from tests.bench.rows import stack
from tests.bench.runs import Ground

_CLIENTS = 100
_SECONDS = 30.0
#: Everybody's first job comes in the first second, which is another question; until then they are done.
_SETTLED_AFTER = 10.0
#: Each client asks once a second; one request in ten submits a job.
_PAUSE, _POST_EVERY = 1.0, 10


@dataclass
class _Heard:
    """Seconds by kind of request, and answers that were no success."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"POST": [], "GET": []})
    errors: int = 0


def gateway_under_load(ground: Ground) -> Section:
    """Submissions of small jobs and looks at them."""
    with stack(ground, does_nothing=True) as local:
        heard = asyncio.run(_load(local.url, local.api_key, ground))
    rows = [
        (
            *(kind, f"{len(seconds):,}", f"{1000 * _share(seconds, 0.5):.0f}"),
            *at_most(1000 * _share(seconds, 0.99), goal, "{:.0f}"),
        )
        for (kind, seconds), goal in zip(heard.seconds.items(), (100, 30), strict=True)
    ]
    return Section(
        title="The gateway under load",
        text=(
            f"{_CLIENTS} clients on connections of their own, each with a request a second for {_SECONDS:.0f} s: one "
            f"in ten submits a job of two rows, the others look at it. The first {_SETTLED_AFTER:.0f} s, in which all "
            f"submit their first one, do not count. {heard.errors} errors. The stages do nothing; the client runs on "
            "the same cores."
        ),
        tables=[Table(("request", "requests", "median, ms", "p99, ms", "goal"), rows)],
    )


async def _load(url: str, key: str, ground: Ground) -> _Heard:
    heard, place = _Heard(), str(ground.fresh())
    await asyncio.gather(*(_client(number, url, key, place, heard) for number in range(_CLIENTS)))
    return heard


async def _client(number: int, url: str, key: str, place: str, heard: _Heard) -> None:
    """Asks once a second, beginning at a moment of its own."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
    began, asked, job = time.monotonic() + number / _CLIENTS * _PAUSE, 0, ""
    while (next_at := max(time.monotonic(), began + asked * _PAUSE)) < began + _SECONDS:
        await asyncio.sleep(next_at - time.monotonic())
        is_post = not job or (asked + number) % _POST_EVERY == 0
        body = _job(f"{place}/{number}-{asked}") if is_post else b""
        kind, path = ("POST", "/v1/jobs") if is_post else ("GET", f"/v1/jobs/{job}")
        sent_at = time.monotonic()
        line = f"{kind} {path} HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(line.encode() + body)
        try:
            status, answer = await _answer(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            heard.errors += 1
            break
        if sent_at > began + _SETTLED_AFTER:
            heard.seconds[kind].append(time.monotonic() - sent_at)
        heard.errors += status not in (200, 201, 202)
        job = answer["id"] if is_post and "id" in answer else job
        asked += 1
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if not lengths:
        raise ConnectionError("the gateway broke off")
    return int(head.split(b" ", 2)[1]), json.loads(await reader.readexactly(lengths[0]))


def _job(place: str) -> bytes:
    rows = [{"url": f"http://host00.origin.test/{place}/{number}.jpg"} for number in range(2)]
    return json.dumps({"source": {"rows": rows}, "destination": {"url": place}}).encode()


def _share(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]
