"""`pixcrawler job refresh` as a user has it: on the embedded stack, against an origin that counts what it sends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixcrawler.local import Home
from tests.changing import ChangingPages, Page, a_picture
from tests.dataset import is_consistent, rows_of
from tests.e2e.command import Command
from tests.origin import Origin

pytestmark = pytest.mark.timeout(150)

ROWS = 20


@pytest.fixture
async def pages() -> AsyncIterator[ChangingPages]:
    async with Origin() as origin:
        yield ChangingPages(origin)


@pytest.fixture
async def pixcrawler(tmp_path: Path) -> AsyncIterator[Command]:
    """The command, while its system is up."""
    allowed = {"PIXCRAWLER_ALLOW_CIDRS": '["127.0.0.1/32"]', "PIXCRAWLER_ALLOW_PORTS": "[0]"}
    command = Command(tmp_path / "home", tmp_path, allowed)
    with command.started("up", "--json") as up:
        await asyncio.to_thread(up.until, lambda event: event["event"] == "ready")
        yield command
        up.interrupt()
        assert (await asyncio.to_thread(up.end)).code == 0
    Home(command.home).erase()
    assert command.leftovers() == []


async def refreshed(pixcrawler: Command, job: str) -> dict[str, int]:
    """What a refresh has found."""
    begun = await asyncio.to_thread(pixcrawler, "job", "refresh", job)
    assert begun.code == 0, begun.err
    watched = await asyncio.to_thread(pixcrawler, "job", "watch", begun.out.strip())
    assert watched.code == 0, watched.err
    shown = await asyncio.to_thread(pixcrawler, "job", "list", "--limit", "1", "--json")
    found: dict[str, int] = shown.last["refreshed"]
    return found


async def test_a_dataset_that_has_not_changed_costs_no_picture(
    pixcrawler: Command, pages: ChangingPages, tmp_path: Path
) -> None:
    urls = [pages.put(f"/{number}.jpg", Page(a_picture(number), etag=f'"{number}"')) for number in range(ROWS)]
    (tmp_path / "urls.txt").write_text("\n".join(urls) + "\n")
    submitted = await asyncio.to_thread(pixcrawler, "submit", "urls.txt", "--to", "cats")
    job = submitted.out.strip()
    assert (await asyncio.to_thread(pixcrawler, "job", "watch", job)).code == 0, submitted.err
    assert pages.bodies.total() == ROWS

    unchanged = await refreshed(pixcrawler, job)

    assert unchanged == {"unchanged": ROWS, "changed": 0, "gone": 0}
    assert pages.bodies.total() == ROWS, "no picture was sent again"

    pages.put("/7.jpg", Page(a_picture(77), etag='"77"'))
    changed = await refreshed(pixcrawler, job)

    assert changed == {"unchanged": ROWS - 1, "changed": 1, "gone": 0}
    assert pages.bodies.total() == ROWS + 1
    is_consistent(tmp_path / "cats")
    assert [row for row, found in rows_of(tmp_path / "cats").items() if found["revision"]] == [7]
