"""Figures of a dataset: every row is counted once, quantiles are close, and memory has a bound."""

from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from shared.statistics import SCHEMA, Hosts, StageTime, Statistics, Tally, _HostCounts

DATASET = UUID(int=7)


def row(number: int, **more: Any) -> dict[str, Any]:
    """An accepted row, but for what is said."""
    return {
        "row": number,
        "url": f"https://example.com/{number}.jpg",
        "status": "success",
        "format": "jpg",
        "stored_format": "jpg",
        "width": 256,
        "height": 128,
        "original_width": 512,
        "original_height": 256,
        "bytes": 2000,
        "stored_bytes": 1000,
        "http_status": 200,
        "fetch_ms": 10,
    } | more


def gone(number: int, reason: str, **more: Any) -> dict[str, Any]:
    kept = ("row", "url", "http_status", "fetch_ms")
    blank = {name: value if name in kept else None for name, value in row(number).items()}
    return blank | {"status": "failed_to_download", "reason": reason} | more


def table_of(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def told(*tables: pa.Table) -> Statistics:
    tally = Tally()
    for table in tables:
        tally.add(table)
    stages = {"download": StageTime(working_seconds=1.5, waiting_seconds=0.5)}
    return tally.statistics(DATASET, 3, rows_without_index=4, stages=stages)


def test_every_row_is_counted_once_by_status_reason_format_and_answer() -> None:
    first = table_of(row(0), row(1, caption="a cat"), row(2, caption=""), gone(3, "http_not_found", http_status=404))
    second = table_of(row(4, stored_format="png"), gone(5, "duplicate", status="failed_to_resize"))

    found = told(first, second)

    assert (found.rows, found.accepted, found.rejected, found.rows_without_index) == (6, 4, 2, 4)
    assert found.rejected_by_reason == {"duplicate": 1, "http_not_found": 1}
    assert found.by_status == {"success": 4, "failed_to_download": 1, "failed_to_resize": 1}
    assert found.http_status == {"200": 5, "404": 1}
    assert (found.formats, found.fetched_formats) == ({"jpg": 3, "png": 1}, {"jpg": 4})
    assert found.duplicates == {"duplicate": 1, "duplicate_of_lost": 0}
    assert (found.stored_bytes, found.fetched_bytes) == (4000, 8000)
    assert found.with_caption == 1
    assert found.caption_characters is not None
    assert found.caption_characters.largest == 5
    assert found.aspect_ratio is not None
    assert found.aspect_ratio.median == 2


def test_quantiles_are_at_most_one_per_cent_off_and_the_ends_exact() -> None:
    widths = [row(number, width=number + 1) for number in range(5000)]

    found = told(table_of(*widths[:1000]), table_of(*widths[1000:])).width

    assert found is not None
    assert (found.count, found.smallest, found.largest) == (5000, 1, 5000)
    assert found.mean == pytest.approx(2500.5, abs=1)
    for figure, exact in ((found.p5, 250), (found.p25, 1250), (found.median, 2500), (found.p95, 4750)):
        assert figure == pytest.approx(exact, rel=0.011)


def test_equal_values_are_told_as_they_are() -> None:
    found = told(table_of(*(row(number, fetch_ms=0) for number in range(9))))

    assert found.width is not None
    assert {found.width.p5, found.width.median, found.width.p95} == {256}
    assert found.fetch_ms is not None
    assert (found.fetch_ms.median, found.fetch_ms.largest) == (0, 0)


def test_nothing_accepted_has_no_distribution() -> None:
    found = told(table_of(gone(0, "http_not_found"), gone(1, "bad_url", url=None)))

    assert (found.accepted, found.width, found.image_bytes, found.caption_characters) == (0, None, None, None)
    assert Statistics.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.COM/a.jpg", "example.com"),
        ("http://user:secret@example.com:8080/a", "example.com"),
        ("  https://example.com?x=@y", "example.com"),
        ("https://[::1]:80/a", "[::1]"),
        ("example.com/a.jpg", None),
        (None, None),
    ],
)
def test_hosts_are_told_without_port_or_secret(url: str | None, host: str | None) -> None:
    found = told(table_of(row(0, url=url))).hosts

    assert [each.host for each in found.accepted] == ([] if host is None else [host])


def test_too_many_hosts_are_forgotten_but_never_the_largest() -> None:
    counts = _HostCounts(most=10)

    for start in range(0, 100, 5):
        small = [row(number, url=f"https://h{number}.example.com/") for number in range(start, start + 5)]
        counts.add(table_of(*small, row(0, url="https://large.example.com/"), row(1, url="https://large.example.com/")))

    found = counts.hosts()
    assert isinstance(found, Hosts)
    assert not found.is_exact
    assert (found.accepted[0].host, found.accepted[0].rows) == ("large.example.com", 40)
    assert found.distinct <= 10
