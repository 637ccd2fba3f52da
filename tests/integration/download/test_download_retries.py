"""What is tried again, when, and what is not."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.download.conftest import Desk, OpenDownloader
from tests.origin import Origin, Request, Wire, picture


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
