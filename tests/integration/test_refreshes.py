"""A dataset that is refreshed through the running services: what has not changed costs no body and stays as it is."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.credentials import Scope
from gateway.keys import create
from pixcrawler import AsyncClient, Destination, JobRequest, JobState, Recipe, Source
from pixcrawler.models import Refreshed
from pixcrawler.words import Gone, ImageFormat, JobKind, OutputFormat
from scheduler.tombstones import PATHS
from shared.blocklist import Kind, normalised
from shared.db import blocked, purges
from shared.db.session import open_engine, transaction
from shared.index import OF_FETCH
from shared.pipeline import Tier
from tests.changing import ChangingPages, Page, a_picture
from tests.core import Board, board_at
from tests.dataset import is_consistent, outcomes, rows_of
from tests.origin import Origin
from tests.system import System, until

PATIENCE_SECONDS = 120.0
FORMATS = (
    Recipe(attempts=1, robots=False, output_format=OutputFormat.FILES, thumbnails=32),
    Recipe(attempts=1, robots=False, output_format=OutputFormat.PARQUET),
    Recipe(attempts=1, robots=False, output_format=OutputFormat.WEBDATASET, image_format=ImageFormat.ORIGINAL),
)
MONDAY = "Mon, 02 Nov 2026 10:00:00 GMT"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def pages() -> AsyncIterator[ChangingPages]:
    async with Origin() as origin:
        yield ChangingPages(origin)


@pytest.fixture
def system(database_url: str, redis_server_url: str, tmp_path: Path, pages: ChangingPages) -> System:
    allowed = {"PIXCRAWLER_ALLOW_CIDRS": '["127.0.0.1/32"]', "PIXCRAWLER_ALLOW_PORTS": "[0]"}
    return System(database_url, redis_server_url, tmp_path, extra=allowed)


@pytest.fixture
async def key(database_url: str) -> str:
    engine = open_engine(SecretStr(database_url), connections=1)
    key = await create(engine, tenant="cats", tier=Tier.FREE, name="test", scopes=(Scope.JOBS_READ, Scope.JOBS_WRITE))
    await engine.dispose()
    return key


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


def first_look(pages: ChangingPages) -> list[str]:
    """The URLs of twelve rows."""
    put, origin = pages.put, pages.origin
    behind = put("/6.jpg", Page(a_picture(6), etag='"six"'))
    return [
        put("/0.jpg", Page(a_picture(0), etag='"zero"')),
        put("/1.jpg", Page(a_picture(1), last_modified=MONDAY)),
        put("/2.jpg", Page(a_picture(2))),
        *(put(f"/{number}.jpg", Page(a_picture(number), etag=f'"{number}"')) for number in (3, 4, 5)),
        origin.redirect_to(behind),
        *(put(f"/{number}.jpg", Page(a_picture(number), etag=f'"{number}"')) for number in (7, 8)),
        put("/9.jpg", Page(b"", status=404)),
        put("/10.jpg", Page(a_picture(10), etag='W/"ten"')),
        put("/11.jpg", Page(a_picture(11), etag='"eleven"')),
    ]


def a_week_passes(pages: ChangingPages) -> None:
    put = pages.put
    put("/3.jpg", Page(a_picture(33), etag='"thirty-three"'))
    put("/4.jpg", Page(b"gone", status=404))
    put("/5.jpg", Page(b"sorry", status=503))
    put("/7.jpg", Page(a_picture(7), etag='"7"', headers={"X-Robots-Tag": "noai"}))
    put("/8.jpg", Page(a_picture(0), etag='"zero"'))
    put("/9.jpg", Page(a_picture(9)))
    put("/10.jpg", Page(a_picture(10), etag='"another server"'))
    put("/11.jpg", Page(b"<html>This picture has moved</html>"))


async def taken_down(board: Board, *urls: str) -> None:
    """Returns when these URLs' pictures have gone from all datasets."""
    async with transaction(board.engine) as connection:
        for url in urls:
            takedown, _ = await blocked.add(connection, kind=Kind.URL, value=normalised(Kind.URL, url), note="")
            await purges.order(connection, takedown.id, asked_by="a-key")

    async def is_done() -> bool:
        return await board.one("SELECT count(*) FROM blocked WHERE purged_at IS NULL") == 0

    await until("what was taken down is gone", is_done, limit_seconds=PATIENCE_SECONDS)


async def test_a_refresh_fetches_what_has_changed_and_replaces_it(
    system: System, board: Board, pages: ChangingPages, key: str, tmp_path: Path
) -> None:
    places = [tmp_path / str(recipe.output_format) for recipe in FORMATS]
    urls = first_look(pages)
    with system.running("downloader", "validator", "uploader", "scheduler", "gateway") as (*_, gateway):
        async with AsyncClient(f"http://127.0.0.1:{gateway.api_port}", key) as client:
            source = Source(rows=[{"url": url} for url in urls])
            asked = [
                JobRequest(source=source, destination=Destination(url=str(place)), recipe=recipe)
                for place, recipe in zip(places, FORMATS, strict=True)
            ]
            jobs = [(await client.submit(request)).job.id for request in asked]

            async def refreshed(gone: Gone) -> list[Refreshed | None]:
                """What each dataset's refresh has found; how many bodies that cost is counted from now on."""
                pages.bodies.clear()
                pages.origin.requests.clear()
                begun = [(await client.refresh(job, gone)).job for job in jobs]
                ended = [await client.wait(job.id, timeout_seconds=PATIENCE_SECONDS) for job in begun]
                assert {(job.state, job.kind) for job in ended} == {(JobState.COMPLETED, JobKind.REFRESH)}
                return [job.refreshed for job in ended]

            await asyncio.gather(*(client.wait(job, timeout_seconds=PATIENCE_SECONDS) for job in jobs))
            before = [rows_of(place) for place in places]
            assert await refreshed(Gone.KEEP) == [Refreshed(unchanged=11, changed=0, gone=0)] * 3
            assert +pages.bodies == {"/2.jpg": 3}, "only the one without validators is sent again"
            hops = [request for request in pages.origin.requests if request.path == "/redirect"]
            assert len(hops) == 3
            assert not any({"if-none-match", "if-modified-since"} & set(hop.headers) for hop in hops)

            a_week_passes(pages)
            assert await refreshed(Gone.KEEP) == [Refreshed(unchanged=5, changed=2, gone=4)] * 3
            changed = [rows_of(place) for place in places]
            for place, rows, old in zip(places, changed, before, strict=True):
                is_consistent(place)
                assert {row: found["reason"] for row, found in rows.items() if found["reason"]} == {
                    7: "opted_out",
                    8: "duplicate",
                    9: "http_not_found",
                }
                assert (rows[8]["duplicate_of"], rows[3]["etag"]) == (0, '"thirty-three"')
                moved = dict.fromkeys(PATHS)
                assert {**rows[0], **moved} == {**old[0], **moved}, "a 304 keeps the row as it is"
                kept = {name: value for name, value in rows[10].items() if value != old[10][name]}
                assert kept["etag"] == '"another server"'
                assert "fetched_at" in kept
                assert set(kept) <= {*OF_FETCH, *PATHS}
                assert (place / "_SUCCESS").read_text() == "2\n"

            assert await refreshed(Gone.DROP) == [Refreshed(unchanged=6, changed=0, gone=3)] * 3
            assert +pages.bodies == {"/2.jpg": 3, "/11.jpg": 3}
            lost = {"opted_out": 1, "duplicate": 1, "http_not_found": 2, "not_an_image": 1}
            for place in places:
                is_consistent(place)
                assert outcomes(place) == Counter({"": 7, **lost}), "what may come back is kept all the same"

            await taken_down(board, urls[0], urls[3])

    for place in places:
        is_consistent(place)
        assert outcomes(place) == Counter({"": 5, "taken_down": 2, **lost}), "each row counts once, where it stands"
        assert not [row for row in rows_of(place).values() if row["url"] in (urls[0], urls[3])]
