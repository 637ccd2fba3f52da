"""Rows whose pictures are known already: hosts are asked whether they have changed, and nothing else is different."""

from dataclasses import replace

import pytest

from tests.changing import ChangingPages, Page
from tests.integration.download.conftest import Desk
from tests.origin import Origin, picture

FIRST, SECOND = picture("first"), picture("second")


@pytest.fixture
def pages(origin: Origin) -> ChangingPages:
    return ChangingPages(origin)


async def fetched_again(desk: Desk, *known: tuple[str, dict[str, str]]) -> list[dict[str, object]]:
    """The rows of URLs of which that is known."""
    chunk = replace(desk.chunk(*(url for url, _ in known)), held=[held for _, held in known])
    await desk.verb(chunk)
    return await chunk.fetched()


async def test_what_has_not_changed_is_said_without_a_body_and_the_connection_serves_on(
    desk: Desk, pages: ChangingPages
) -> None:
    urls = [pages.put(f"/{number}", Page(FIRST, etag=f'"{number}"')) for number in range(20)]

    known = [(url, {"final_url": url, "etag": f'"{number}"'}) for number, url in enumerate(urls)]

    rows = await fetched_again(desk, *known)
    connections = pages.origin.connections
    await fetched_again(desk, *known)

    assert {(row["reason"], row["detail"], row["http_status"], row["offset"]) for row in rows} == {
        ("unchanged", "not_modified", 304, None)
    }
    assert +pages.bodies == {}
    assert pages.origin.connections == connections, "what a 304 announces is not waited for, nor cut off"


async def test_what_has_changed_arrives_with_its_new_validators(desk: Desk, pages: ChangingPages) -> None:
    url = pages.put("/a", Page(SECOND, etag='"2"'))

    (row,) = await fetched_again(desk, (url, {"final_url": url, "etag": '"1"'}))

    assert (row["reason"], row["length"], row["etag"]) == (None, len(SECOND), '"2"')


async def test_validators_of_another_place_are_not_sent(desk: Desk, pages: ChangingPages) -> None:
    moved = pages.put("/new", Page(FIRST, etag='"1"'))
    before = pages.origin.redirect_to(pages.put("/old", Page(FIRST, etag='"1"')))
    now = pages.origin.redirect_to(moved)

    rows = await fetched_again(
        desk,
        (now, {"final_url": pages.origin.url("/old"), "etag": '"1"'}),
        (before, {"final_url": pages.origin.url("/old"), "etag": '"1"'}),
    )

    assert [row["reason"] for row in rows] == [None, "unchanged"]
    asked = {request.target: request.headers.get("if-none-match") for request in pages.origin.requests}
    assert {target: etag for target, etag in asked.items() if etag} == {"/old": '"1"'}


async def test_a_url_whose_rows_hold_different_pictures_is_asked_without_a_condition(
    desk: Desk, pages: ChangingPages
) -> None:
    url = pages.put("/a", Page(FIRST, etag='"1"'))

    rows = await fetched_again(desk, (url, {"final_url": url, "etag": '"1"'}), (url, {"final_url": url, "etag": '"0"'}))

    assert [row["reason"] for row in rows] == [None, None]
    assert pages.bodies == {"/a": 1}


async def test_an_opt_out_counts_though_nothing_has_changed(desk: Desk, pages: ChangingPages) -> None:
    url = pages.put("/a", Page(FIRST, etag='"1"', headers={"X-Robots-Tag": "noai"}))

    (row,) = await fetched_again(desk, (url, {"final_url": url, "etag": '"1"'}))

    assert row["reason"] == "opted_out"
