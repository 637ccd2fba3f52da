"""The downloader's work against a misbehaving origin and a real Redis."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from downloader.download import open_downloader
from downloader.settings import DownloaderSettings
from shared.blocklist import Blocklist, Kind, LiveBlocklist, Version, normalised
from shared.cache import open_redis
from shared.chunk import StageResult, Verb
from shared.errors import WorkAreaFull
from shared.recipe import Recipe
from shared.records import PACK
from shared.workdir import Draft
from tests.download_chunk import DownloadChunk
from tests.origin import Origin, Request, Wire, picture

ALLOWANCES = {"allow_cidrs": ("127.0.0.0/8",), "allow_names": {"localhost"}, "allow_ports": {0}}
OpenDownloader = Callable[..., AbstractAsyncContextManager[Verb]]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin(listens_on="0.0.0.0") as origin:
        yield origin


@dataclass
class Takedowns:
    """The list as the downloader reads it."""

    entries: list[tuple[Kind, str]] = field(default_factory=list)

    async def read(self, _known: Version | None) -> tuple[Version, Blocklist]:
        return (len(self.entries),), Blocklist(self.entries)


@pytest.fixture
def takedowns() -> Takedowns:
    return Takedowns()


@pytest.fixture
def downloader(redis_url: str, takedowns: Takedowns) -> OpenDownloader:
    @asynccontextmanager
    async def opened(**settings: object) -> AsyncIterator[Verb]:
        redis = open_redis(SecretStr(redis_url))
        chosen = DownloaderSettings.model_validate({"concurrency": 1, "transfers": 32} | ALLOWANCES | settings)
        async with open_downloader(chosen, redis, LiveBlocklist(takedowns.read)) as verb:
            yield verb
        await redis.aclose()

    return opened


@dataclass
class Desk:
    """Downloads lists of URLs and returns the rows."""

    verb: Verb
    root: Path

    async def run(self, *urls: str | None, **recipe: object) -> list[dict[str, object]]:
        chunk = self.chunk(*urls, **recipe)
        await self.verb(chunk)
        return await chunk.fetched()

    def chunk(self, *urls: str | None, **recipe: object) -> DownloadChunk:
        return DownloadChunk(self.root, urls, Recipe.model_validate({"robots": False, "attempts": 1} | recipe))


@pytest.fixture
async def desk(downloader: OpenDownloader, tmp_path: Path) -> AsyncIterator[Desk]:
    async with downloader() as verb:
        yield Desk(verb, tmp_path)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS for `localhost`, and the file with the certificate that vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "cert.pem"


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

    (row,) = await desk.run(origin.url(target), max_bytes=limit, url_deadline_seconds=0.5)

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


class TestRetries:
    async def test_what_may_pass_is_tried_again(self, desk: Desk, origin: Origin) -> None:
        (row,) = await desk.run(origin.url("/flaky?fails=2"), attempts=3)

        assert (row["reason"], row["attempts"], row["http_status"]) == (None, 3, 200)

    async def test_attempts_end(self, desk: Desk, origin: Origin) -> None:
        (row,) = await desk.run(origin.url("/flaky?fails=2"), attempts=2)

        assert (row["reason"], row["attempts"]) == ("http_server_error", 2)

    @pytest.mark.parametrize(
        "target", ["/status/404", "/status/403", "/empty", "/hops/6", "/headers?X-Robots-Tag=noai"]
    )
    async def test_what_is_final_is_never_tried_again(self, desk: Desk, origin: Origin, target: str) -> None:
        (row,) = await desk.run(origin.url(target), attempts=5)

        assert row["attempts"] == 1
        assert origin.hits[target] == 1

    async def test_retry_after_is_obeyed(self, desk: Desk, origin: Origin) -> None:
        asked: list[float] = []

        async def busy_at_first(request: Request, wire: Wire) -> None:
            asked.append(asyncio.get_running_loop().time())
            headers = {"Retry-After": "1"} if len(asked) == 1 else {}
            await wire.reply(b"body", status=429 if len(asked) == 1 else 200, headers=headers)

        origin.handlers["/busy"] = busy_at_first

        (row,) = await desk.run(origin.url("/busy"), attempts=2)

        assert (row["reason"], row["attempts"]) == (None, 2)
        assert asked[1] - asked[0] >= 1

    async def test_a_pause_beyond_the_chunks_deadline_is_not_waited_for(
        self, downloader: OpenDownloader, origin: Origin, tmp_path: Path
    ) -> None:
        async with downloader(chunk_deadline_seconds=20) as verb:
            (row,) = await Desk(verb, tmp_path).run(origin.url("/flaky?status=503&after=50"), attempts=3)

        assert (row["reason"], row["attempts"]) == ("http_server_error", 1)


class TestOptOut:
    @pytest.mark.parametrize(
        ("query", "directive"),
        [
            ("X-Robots-Tag=noai", "noai"),
            ("X-Robots-Tag=nofollow&X-Robots-Tag=NoImageAI", "NoImageAI"),
            ("tdm-reservation=1", "tdm-reservation: 1"),
        ],
    )
    async def test_it_is_obeyed_and_recorded(self, desk: Desk, origin: Origin, query: str, directive: str) -> None:
        (row,) = await desk.run(origin.url(f"/headers?{query}"))

        assert (row["reason"], row["opt_out"], row["offset"]) == ("opted_out", directive, None)

    async def test_the_body_is_not_waited_for(self, desk: Desk, origin: Origin) -> None:
        async def opted_out(request: Request, wire: Wire) -> None:
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-Robots-Tag: noai\r\n\r\n")
            await origin.released.wait()

        origin.handlers["/x"] = opted_out

        (row,) = await desk.run(origin.url("/x"))

        assert row["reason"] == "opted_out"

    async def test_it_counts_on_a_redirect_too(self, desk: Desk, origin: Origin) -> None:
        async def moved(request: Request, wire: Wire) -> None:
            await wire.reply(status=302, headers={"Location": "/image/a", "X-Robots-Tag": "noai"})

        origin.handlers["/moved"] = moved

        (row,) = await desk.run(origin.url("/moved"))

        assert row["reason"] == "opted_out"
        assert origin.hits["/image/a"] == 0

    async def test_a_recipe_may_ignore_it(self, desk: Desk, origin: Origin) -> None:
        (row,) = await desk.run(origin.url("/headers?X-Robots-Tag=noai"), opt_out=False)

        assert row["reason"] is None


class TestRobots:
    async def test_it_is_read_once_and_obeyed(self, desk: Desk, origin: Origin) -> None:
        origin.robots = "User-agent: PixCrawlerBot\nDisallow: /image/secret\n"

        rows = await desk.run(*(origin.url(f"/image/{name}") for name in ("a", "secret", "b")), robots=True)

        assert [row["reason"] for row in rows] == [None, "robots_disallowed", None]
        assert origin.hits["/robots.txt"] == 1
        assert origin.hits["/image/secret"] == 0

    async def test_other_workers_learn_it_from_redis(
        self, downloader: OpenDownloader, desk: Desk, origin: Origin, tmp_path: Path
    ) -> None:
        origin.robots = "User-agent: *\nDisallow: /image/secret\n"
        await desk.run(origin.url("/image/a"), robots=True)

        async with downloader() as another:
            (row,) = await Desk(another, tmp_path).run(origin.url("/image/secret"), robots=True)

        assert row["reason"] == "robots_disallowed"
        assert origin.hits["/robots.txt"] == 1

    async def test_many_hosts_at_once_are_all_remembered(self, desk: Desk, origin: Origin, redis_url: str) -> None:
        urls = [f"http://127.0.{number // 100}.{number % 100 + 1}:{origin.port}/image/a" for number in range(200)]

        rows = await desk.run(*urls, robots=True)

        redis = open_redis(SecretStr(redis_url))
        remembered = [key async for key in redis.scan_iter("pixcrawler:robots:*", count=1000)]
        await redis.aclose()
        assert {row["reason"] for row in rows} == {None}
        assert len(remembered) == 200

    async def test_where_there_is_none_everything_is_allowed(self, desk: Desk, origin: Origin) -> None:
        (row,) = await desk.run(origin.url("/image/a"), robots=True)

        assert row["reason"] is None

    async def test_where_it_fails_nothing_is_allowed(self, desk: Desk, origin: Origin) -> None:
        async def broken(request: Request, wire: Wire) -> None:
            await wire.reply(b"oops", status=500)

        origin.handlers["/robots.txt"] = broken

        (row,) = await desk.run(origin.url("/image/a"), robots=True, attempts=3)

        assert (row["reason"], row["attempts"]) == ("robots_unreachable", 1)
        assert origin.hits["/image/a"] == 0

    async def test_a_redirect_into_a_forbidden_place_is_not_followed(self, desk: Desk, origin: Origin) -> None:
        origin.robots = "User-agent: *\nDisallow: /image/secret\n"

        (row,) = await desk.run(origin.url("/redirect?to=/image/secret"), robots=True)

        assert row["reason"] == "robots_disallowed"

    async def test_a_host_that_is_away_is_called_that(self, desk: Desk) -> None:
        (row,) = await desk.run("http://127.0.0.1:1/x", robots=True)

        assert row["reason"] == "connect_failed"

    async def test_an_endless_one_does_no_harm(self, desk: Desk, origin: Origin) -> None:
        async def endless(request: Request, wire: Wire) -> None:
            await wire.send(b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /image/secret\n")
            while True:
                await wire.send(b"# nothing\n" * 1000)

        origin.handlers["/robots.txt"] = endless

        rows = await desk.run(origin.url("/image/a"), origin.url("/image/secret"), robots=True)

        assert [row["reason"] for row in rows] == [None, "robots_disallowed"]


async def test_connections_are_kept_from_chunk_to_chunk(desk: Desk, origin: Origin) -> None:
    for chunk in range(3):
        await desk.run(origin.url(f"/image/{chunk}"))

    assert origin.connections == 1


async def test_an_error_page_does_not_cost_the_connection(desk: Desk, origin: Origin) -> None:
    for number in range(3):
        await desk.run(origin.url("/status/404"), origin.url(f"/redirect?to=/image/{number}"))

    assert origin.connections <= 2


async def test_a_request_says_who_we_are_and_carries_nothing_else(
    desk: Desk, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    await desk.run(origin.url("/redirect?to=/image/a"))

    for request in origin.requests:
        assert request.headers["user-agent"].startswith("PixCrawler/")
        assert request.headers.keys() == {"host", "user-agent", "accept", "accept-encoding"}
        assert request.headers["accept-encoding"] == "identity"


async def test_the_name_is_kept_where_the_address_is_pinned(desk: Desk, origin: Origin) -> None:
    (row,) = await desk.run(origin.url("/image/a", host="localhost"))

    assert row["reason"] is None
    assert origin.requests[0].headers["host"] == f"localhost:{origin.port}"


async def test_without_allowance_nothing_inside_is_dialled(
    downloader: OpenDownloader, origin: Origin, tmp_path: Path
) -> None:
    nothing = {"allow_cidrs": (), "allow_names": {"localhost"}, "allow_ports": {0}}
    async with downloader(**nothing) as verb:
        rows = await Desk(verb, tmp_path).run(origin.url("/image/a"), origin.url("/image/a", host="localhost"))

    assert [row["reason"] for row in rows] == ["blocked_address", "blocked_address"]
    assert origin.connections == 0


async def test_a_certificate_nobody_vouches_for_is_refused(desk: Desk, tls: tuple[ssl.SSLContext, Path]) -> None:
    async with Origin(tls=tls[0]) as origin:
        (row,) = await desk.run(origin.url("/image/a", host="localhost"))

    assert row["reason"] == "tls_invalid"


async def test_a_trusted_certificate_counts_for_its_name_only(
    downloader: OpenDownloader, tls: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    async with downloader(ca_file=tls[1]) as verb, Origin(tls=tls[0]) as origin:
        rows = await Desk(verb, tmp_path).run(origin.url("/image/a", host="localhost"), origin.url("/image/b"))

    assert [row["reason"] for row in rows] == [None, "tls_invalid"]


async def test_the_slowest_host_does_not_hold_the_rest_beyond_the_deadline(
    downloader: OpenDownloader, origin: Origin, tmp_path: Path
) -> None:
    async with downloader(chunk_deadline_seconds=1) as verb:
        chunk = Desk(verb, tmp_path).chunk(origin.url("/image/a"), origin.url("/held"), origin.url("/held_body"))
        result = await verb(chunk)

    assert result.rejected == {"deadline": 2}
    assert await chunk.bodies() == [picture("/image/a"), None, None]
    assert chunk.reports[-1]["done"] == 3


class TestCancelled:
    async def test_it_stops_at_once_and_leaves_nothing(self, desk: Desk, origin: Origin) -> None:
        chunk = desk.chunk(
            *(origin.url(f"/held_body?size=3000000&n={number}") for number in range(5)), origin.url("/image/a")
        )
        work = asyncio.ensure_future(desk.verb(chunk))
        await asyncio.wait_for(origin.is_holding.wait(), 5)
        await asyncio.wait_for(chunk.has_reported.wait(), 5)

        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(work, 5)

        assert chunk.files() == []

    async def test_the_next_chunk_is_none_the_worse(self, desk: Desk, origin: Origin) -> None:
        work = asyncio.ensure_future(desk.verb(desk.chunk(*(origin.url(f"/held?{number}") for number in range(40)))))
        await asyncio.wait_for(origin.is_holding.wait(), 5)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(work, 5)

        rows = await desk.run(*(origin.url(f"/image/{number}") for number in range(40)))

        assert {row["reason"] for row in rows} == {None}

    async def test_a_chunk_that_is_done_again_finds_nothing_of_the_first_try(self, desk: Desk, origin: Origin) -> None:
        first = desk.chunk(origin.url("/image/a"), origin.url("/image/b"))
        leftover = await first.draft()
        leftover.path(PACK).write_bytes(b"garbage of a crashed worker" * 1000)

        await desk.verb(first)

        assert await first.bodies() == [picture("/image/a"), picture("/image/b")]


class FullDraft:
    """A draft on a full volume."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def path(self, name: str) -> Path:
        path = self._draft.path(name)
        if name == PACK:
            path.symlink_to("/dev/full")
        return path

    async def publish(self) -> None:
        raise AssertionError("nothing to publish")


class FullChunk(DownloadChunk):
    async def draft(self) -> Draft:
        return FullDraft(await super().draft())


async def test_a_full_disk_stops_the_chunk_and_frees_what_it_took(desk: Desk, origin: Origin) -> None:
    urls = [origin.url(f"/image/{number}") for number in range(20)] + [origin.url("/held")]
    chunk = FullChunk(desk.root, urls, Recipe(robots=False))

    with pytest.raises(WorkAreaFull):
        await asyncio.wait_for(desk.verb(chunk), 5)

    assert chunk.files() == []


async def test_an_empty_chunk_is_no_trouble(desk: Desk) -> None:
    assert await desk.run() == []


async def test_rows_of_a_host_left_alone_wait_for_its_second_chance(
    downloader: OpenDownloader, tmp_path: Path, origin: Origin
) -> None:
    left_down = 4

    async def recover(request: Request, wire: Wire) -> None:
        nonlocal left_down
        left_down -= 1
        await wire.reply(picture("back"), status=200 if left_down < 0 else 503)

    paths = [f"/recovers/{number}" for number in range(40)]
    origin.handlers.update(dict.fromkeys(paths, recover))

    async with downloader(breaker_failures=2, breaker_seconds=0.3, allowed_host_connections=2) as verb:
        rows = await Desk(verb, tmp_path).run(*(origin.url(path) for path in paths))

    reasons = Counter(row["reason"] for row in rows)
    assert reasons[None] >= 34
    assert reasons["host_circuit_open"] == 0
