"""Requests to places that clients name, against a real origin that misbehaves."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from shared.egress import Egress
from shared.errors import PlaceRefused, PlaceUnavailable
from shared.guard import ANY_PORT, DEFAULT_PORTS, Guard, Policy, networks
from tests.origin import Origin, Request, Wire, picture

ALLOWED = Policy(allow_cidrs=networks(["127.0.0.1/32"]), allow_ports=frozenset({ANY_PORT}))


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as running:
        yield running


def egress(policy: Policy = ALLOWED, **names: tuple[str, ...]) -> Egress:
    return Egress(Guard(policy), agent="test/1", lookup=lambda host: names[host.partition(".")[0]])


async def download(url: str, *, by: Egress | None = None, most_bytes: int = 10_000, seconds: float = 20.0) -> bytes:
    file = io.BytesIO()
    await asyncio.to_thread((by or egress()).download, url, file, most_bytes=most_bytes, seconds=seconds)
    return file.getvalue()


async def test_what_lies_behind_redirects_is_downloaded(origin: Origin) -> None:
    assert await download(origin.url("/hops/3")) == picture("hops")
    assert origin.requests[0].headers["user-agent"] == "test/1"


@pytest.mark.parametrize(
    "target",
    [
        "/redirect?to=http://169.254.169.254/latest",
        "/redirect?to=file:///etc/passwd",
        "/redirect?to=http://127.0.0.2/",
        "/redirect",
        "/loop",
        "/status/404",
        "/image/big?size=10001",
    ],
)
async def test_what_may_not_be_had_is_refused(origin: Origin, target: str) -> None:
    with pytest.raises(PlaceRefused):
        await download(origin.url(target))


@pytest.mark.parametrize("target", ["/status/503", "/status/429", "/truncated", "/reset"])
async def test_what_may_pass_is_told_apart(origin: Origin, target: str) -> None:
    with pytest.raises(PlaceUnavailable):
        await download(origin.url(target))


@pytest.mark.parametrize("target", ["/drip?pause=0.01", "/held"])
async def test_one_deadline_holds_however_slowly_a_host_answers(origin: Origin, target: str) -> None:
    with pytest.raises(PlaceUnavailable, match="too long"):
        await asyncio.wait_for(download(origin.url(target), most_bytes=10**9, seconds=0.5), 30)


async def test_the_deadline_holds_while_hands_are_shaken() -> None:
    drops = 0

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal drops
        writer.write(b"\x16\x03\x03\x40\x00")  # the head of a long record, which never ends
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                drops += 1
                await asyncio.sleep(0.01)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PlaceUnavailable, match="too long"):
            await asyncio.wait_for(download(f"https://127.0.0.1:{port}/", seconds=0.5), 30)

    assert drops > 1


async def test_a_name_that_leads_inside_is_refused_and_nobody_is_asked(origin: Origin) -> None:
    outside, inside = "https://hooks.pixcrawler.org/x", egress(Policy(), hooks=("93.184.215.14", "127.0.0.1"))

    with pytest.raises(PlaceRefused):
        await asyncio.to_thread(inside.post, outside, b"{}", {}, seconds=5)

    assert origin.connections == 0


async def test_a_notice_is_posted_with_its_headers_and_no_redirect_is_followed(origin: Origin) -> None:
    seen: list[Request] = []

    async def receive(request: Request, wire: Wire) -> None:
        seen.append(request)
        await wire.reply(b"", status=302, headers={"Location": "/image/1"})

    origin.handlers["/hook"] = receive

    status = await asyncio.to_thread(
        egress().post, origin.url("/hook"), b'{"type":"x"}', {"webhook-id": "msg_1"}, seconds=20
    )

    assert status == 302
    assert seen[0].headers["webhook-id"] == "msg_1"
    assert len(origin.requests) == 1


def test_notices_go_by_tls_only_unless_the_host_is_one_of_a_test() -> None:
    everywhere = egress(Policy(ports=DEFAULT_PORTS))

    with pytest.raises(PlaceRefused, match="https"):
        everywhere.check("http://hooks.pixcrawler.org/", only_tls=True)
    assert everywhere.check("https://hooks.pixcrawler.org/", only_tls=True).host == "hooks.pixcrawler.org"
    assert egress().check("http://127.0.0.1:81/", only_tls=True).port == 81
