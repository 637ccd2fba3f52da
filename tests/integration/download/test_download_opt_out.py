"""Answers that opt out are obeyed and recorded."""

import pytest

from tests.integration.download.conftest import Desk
from tests.origin import Origin, Request, Wire


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
