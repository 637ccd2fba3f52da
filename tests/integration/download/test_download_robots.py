"""robots.txt is read once for all workers, and obeyed."""

from pathlib import Path

from pydantic import SecretStr

from shared.cache import open_redis
from tests.integration.download.conftest import Desk, OpenDownloader
from tests.origin import Origin, Request, Wire


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
