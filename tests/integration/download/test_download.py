"""What the downloader gives for each row: the bytes, or the reason why not."""

from pathlib import Path

import pytest

from shared.blocklist import Kind, normalised
from shared.chunk import StageResult
from tests.integration.download.conftest import Desk, OpenDownloader, Takedowns
from tests.origin import Origin, picture


async def test_good_images_arrive_whole_and_in_input_order(desk: Desk, origin: Origin) -> None:
    paths = [f"/image/{number}?size={1 + number * 997}" for number in range(60)]
    chunk = desk.chunk(*(origin.url(path) for path in paths))

    result = await desk.verb(chunk)

    expected = [picture(path.split("?")[0], 1 + number * 997) for number, path in enumerate(paths)]
    assert await chunk.bodies() == expected
    assert result == StageResult(passed=60, rejected={}, size_bytes=sum(map(len, expected)))
    rows = await chunk.fetched()
    assert [row["row"] for row in rows] == list(range(1500, 1560))
    assert {(row["http_status"], row["content_type"], row["etag"], row["attempts"]) for row in rows} == {
        (200, "image/jpeg", '"1"', 1)
    }
    assert all(row["fetched_at"] is not None and row["fetch_ms"] is not None for row in rows)
    assert chunk.reports[-1] == {"done": 60, "passed": 60, "size_bytes": result.size_bytes}


#: What the origin does, and what becomes of it.
TROUBLE = [
    ("/status/404", "http_not_found", 404),
    ("/status/410", "http_not_found", 410),
    ("/status/401", "http_denied", 401),
    ("/status/403", "http_denied", 403),
    ("/status/451", "http_denied", 451),
    ("/status/429", "http_rate_limited", 429),
    ("/status/400", "http_client_error", 400),
    ("/status/500", "http_server_error", 500),
    ("/status/206", "http_unexpected", 206),
    ("/bodiless/204", "http_unexpected", 204),
    ("/bodiless/304", "http_unexpected", 304),
    ("/redirect", "http_unexpected", 302),
    ("/loop", "redirect_limit", 302),
    ("/hops/5", None, 200),
    ("/hops/6", "redirect_limit", 301),
    ("/redirect?to=http://169.254.169.254/latest", "redirect_blocked", 302),
    ("/redirect?to=http://10.0.0.1/", "redirect_blocked", 302),
    ("/redirect?to=file:///etc/passwd", "redirect_blocked", 302),
    ("/redirect?to=http://user@127.0.0.1/", "redirect_blocked", 302),
    ("/empty", "empty_body", 200),
    ("/truncated", "truncated_body", 200),
    ("/longer", None, 200),
    ("/reset", "connection_reset", 200),
    ("/hang_up", "connection_reset", None),
    ("/chunked?size=300000", None, 200),
    ("/chunked?cut=1", "truncated_body", 200),
    ("/image/large?size=20001", "body_too_large", 200),
    ("/chunked?size=20001&large=1", "body_too_large", 200),
    ("/endless", "body_too_large", 200),
    ("/encoded?as=gzip", None, 200),
    ("/encoded?as=deflate", None, 200),
    ("/encoded?as=raw", None, 200),
    ("/encoded?as=br", "bad_encoding", 200),
    ("/bomb", "bad_encoding", 200),
    ("/many_headers", "bad_response", 200),
    ("/long_header", "bad_response", 200),
    ("/garbage", "bad_response", None),
    ("/drip?pause=0.05", "deadline", 200),
    ("/late?seconds=30", "deadline", None),
    ("/headers?Content-Type=multipart/mixed", "http_unexpected", 200),
]


@pytest.mark.parametrize(("target", "reason", "status"), TROUBLE)
async def test_each_kind_of_trouble_has_its_reason(
    desk: Desk, origin: Origin, target: str, reason: str | None, status: int | None
) -> None:
    limit = 20_000 if "20001" in target else 1_000_000
    patience = 0.5 if reason == "deadline" else 20.0

    (row,) = await desk.run(origin.url(target), max_bytes=limit, url_deadline_seconds=patience)

    assert (row["reason"], row["http_status"]) == (reason, status)
    assert (row["offset"] is None) == (reason is not None)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (None, "bad_url"),
        ("", "bad_url"),
        (" ", "bad_url"),
        ("not a url", "bad_url"),
        ("file:///etc/passwd", "bad_scheme"),
        ("http://10.0.0.1/x", "blocked_address"),
        ("http://[::1]:8080/x", "blocked_address"),
        ("http://printer/x", "blocked_address"),
        ("http://example.com:22/x", "blocked_port"),
        ("http://127.0.0.1:1/x", "connect_failed"),
    ],
)
async def test_what_may_not_or_cannot_be_asked_has_its_reason(desk: Desk, url: str | None, reason: str) -> None:
    (row,) = await desk.run(url)

    assert row["reason"] == reason
    assert row["http_status"] is None


async def test_what_was_taken_down_is_not_asked_for(desk: Desk, origin: Origin, takedowns: Takedowns) -> None:
    taken, other = origin.url("/image/1"), origin.url("/image/2")
    takedowns.entries.append((Kind.URL, normalised(Kind.URL, taken)))

    refused, fetched, redirected = await desk.run(taken, other, origin.url(f"/redirect?to={taken}"))

    assert (refused["reason"], refused["detail"]) == ("blocked_host", "taken_down")
    assert fetched["reason"] is None
    assert (redirected["reason"], redirected["detail"]) == ("redirect_blocked", "taken_down")
    assert "/image/1" not in [request.path for request in origin.requests]


async def test_a_host_that_was_taken_down_is_left_alone(desk: Desk, origin: Origin, takedowns: Takedowns) -> None:
    takedowns.entries.append((Kind.HOST, "127.0.0.1"))

    (row,) = await desk.run(origin.url("/image/1"))

    assert row["reason"] == "blocked_host"
    assert not origin.requests


async def test_a_slow_drip_is_cut_before_its_deadline(
    downloader: OpenDownloader, origin: Origin, tmp_path: Path
) -> None:
    async with downloader(stall_seconds=1) as verb:
        (row,) = await Desk(verb, tmp_path).run(origin.url("/drip?pause=0.05"), url_deadline_seconds=30)

    assert row["reason"] == "too_slow"


async def test_a_url_that_stands_twice_is_fetched_once(desk: Desk, origin: Origin) -> None:
    chunk = desk.chunk(
        origin.url("/image/a"), origin.url("/status/404"), origin.url("/image/a"), origin.url("/status/404")
    )

    result = await desk.verb(chunk)

    assert await chunk.bodies() == [picture("/image/a"), None, picture("/image/a"), None]
    assert (result.passed, result.rejected, result.size_bytes) == (2, {"http_not_found": 2}, 1000)
    assert origin.hits["/image/a"] == origin.hits["/status/404"] == 1
    assert chunk.reports[-1]["done"] == 4
