"""Which rows a purge names, and what is left of them."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from scheduler.tombstones import Purges, emptied, emptied_rows, moved, tombs
from shared.blocklist import Kind
from shared.db.purges import Purge
from shared.index import counts_of
from shared.reasons import Reason
from shared.recipe import Recipe
from tests.upload_bench import Bench, jpeg, missing

SAVED = [pa.field("tags", pa.list_(pa.string())), pa.field("seen", pa.timestamp("ns"))]


def purge(kind: Kind, value: str, *, number: int = 7) -> Purge:
    return Purge(
        takedown_id=number,
        number=number,
        kind=kind,
        value=value,
        asked_at=datetime(2026, 11, 21, tzinfo=UTC),
        asked_by="key",
    )


@pytest.fixture
async def index(tmp_path: Path) -> pa.Table:
    """Rows 0 and 2 are stored, row 1 was not found."""
    bench = Bench(tmp_path)
    rows = [
        jpeg(20, caption="Jane", saved={"tags": ["jane"], "seen": datetime(2026, 1, 1)}),
        missing(caption="Jane too"),
        jpeg(30, caption="a cat", saved={"tags": ["cat"]}),
    ]
    await (await bench.chunk(rows, recipe=Recipe(), saved=SAVED)).upload()
    return await bench.index_table()


def test_a_row_is_found_by_all_that_a_takedown_may_name(index: pa.Table) -> None:
    first = index.to_pylist()[0]
    cases = (
        (Kind.URL, "http://origin.test/0", [(0, True)]),
        (Kind.URL, "http://origin.test/1", [(1, False)]),  # rejected before; its words go
        (Kind.HOST, "test", [(0, True), (1, False), (2, True)]),
        (Kind.SHA256, first["sha256"], [(0, True)]),
        (Kind.SHA256, first["stored_sha256"], [(0, True)]),
        (Kind.PHASH, "00ff00ff00ff00fe", [(0, True), (2, True)]),
        (Kind.URL, "http://origin.test/9", []),
    )
    for kind, value, expected in cases:
        found = Purges([purge(kind, value)]).removals(index)

        assert [(removal.row, removal.was_stored) for removal in found] == expected, kind


def test_each_removal_names_the_first_purge_that_asks_for_it(index: pa.Table) -> None:
    older, newer = purge(Kind.URL, "http://origin.test/2"), purge(Kind.HOST, "origin.test", number=8)

    found = Purges([older, newer]).removals(index)

    assert {removal.row: removal.purge.number for removal in found} == {0: 8, 1: 8, 2: 7}


def test_an_emptied_row_keeps_its_place_and_nothing_that_names_the_image(index: pa.Table) -> None:
    left = emptied(index, [0, 1])

    assert left.schema == index.schema
    assert left.slice(2).equals(index.slice(2)), "other rows stay as they were"
    for row in left.to_pylist()[:2]:
        kept = {name: value for name, value in row.items() if value is not None}
        assert set(kept) == {"key", "status", "error_message", "row", "revision", "reason"}
        assert kept["reason"] == "taken_down"
    assert left["row"].to_pylist() == [0, 1, 2]
    assert counts_of(left) == (1, {"taken_down": 2})
    assert emptied_rows(left) == [0, 1]


def test_a_row_that_stood_elsewhere_does_so_when_it_is_emptied(index: pa.Table) -> None:
    replaced = emptied(index, [0, 2], Reason.REPLACED)

    left = emptied(replaced, [0, 1])

    assert left["reason"].to_pylist() == ["replaced", "taken_down", "replaced"]
    assert (emptied_rows(left), tombs(left)) == ([1], [0, 1, 2])


def test_an_emptied_row_is_not_found_again(index: pa.Table) -> None:
    asked = Purges([purge(Kind.HOST, "origin.test")])

    assert asked.removals(emptied(index, [0, 1, 2])) == []


def test_images_that_moved_are_named_where_they_are(index: pa.Table) -> None:
    old = index["path"].to_pylist()

    assert moved(index, {old[0]: "data/new.tar"})["path"].to_pylist() == ["data/new.tar", None, old[2]]
