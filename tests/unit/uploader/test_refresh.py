"""What becomes of a row that is refreshed, and what of a chunk whose rows are."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from shared.pipeline import Gone
from shared.reasons import ELSEWHERE, REASONS, Group, Reason
from shared.recipe import Recipe
from shared.records import HELD
from tests.upload_bench import Bench, ChunkTwin, Row, jpeg, missing
from uploader.refresh import refreshed

HELD_DIGEST, OTHER_DIGEST = "aa" * 32, "bb" * 32


def record(reason: Reason | None, digest: str | None = None) -> dict[str, Any]:
    return {"row": 7, "reason": reason, "sha256": digest, "duplicate_of": None, "error_message": None}


@pytest.mark.parametrize(
    ("reason", "digest", "kept", "dropped"),
    [
        # The same picture, whichever way that shows.
        (Reason.UNCHANGED, None, Reason.UNCHANGED, Reason.UNCHANGED),
        (None, HELD_DIGEST, Reason.UNCHANGED, Reason.UNCHANGED),
        (Reason.DUPLICATE, HELD_DIGEST, Reason.UNCHANGED, Reason.UNCHANGED),
        # Another one.
        (None, OTHER_DIGEST, None, None),
        (Reason.DUPLICATE, OTHER_DIGEST, Reason.DUPLICATE, Reason.DUPLICATE),
        # None, for good.
        (Reason.HTTP_NOT_FOUND, None, Reason.KEPT, Reason.HTTP_NOT_FOUND),
        (Reason.NOT_AN_IMAGE, OTHER_DIGEST, Reason.KEPT, Reason.NOT_AN_IMAGE),
        (Reason.TOO_SMALL, OTHER_DIGEST, Reason.KEPT, Reason.TOO_SMALL),
        (Reason.ROBOTS_DISALLOWED, None, Reason.KEPT, Reason.ROBOTS_DISALLOWED),
        # None today.
        (Reason.CONNECT_TIMEOUT, None, Reason.KEPT, Reason.KEPT),
        (Reason.HTTP_SERVER_ERROR, None, Reason.KEPT, Reason.KEPT),
        # Withdrawn by its owner.
        (Reason.OPTED_OUT, None, Reason.OPTED_OUT, Reason.OPTED_OUT),
        (Reason.TAKEN_DOWN, OTHER_DIGEST, Reason.TAKEN_DOWN, Reason.TAKEN_DOWN),
    ],
)
def test_what_becomes_of_a_row(reason: Reason | None, digest: str | None, kept: Reason, dropped: Reason) -> None:
    held = {7: HELD_DIGEST}

    becomes = [refreshed([record(reason, digest)], held, gone)[0]["reason"] for gone in (Gone.KEEP, Gone.DROP)]

    assert becomes == [kept, dropped]


def test_a_kept_row_says_what_went_wrong() -> None:
    (kept,) = refreshed([record(Reason.HTTP_NOT_FOUND)], {7: HELD_DIGEST}, Gone.KEEP)

    assert kept["error_message"] == "http_not_found"


def test_a_row_whose_bytes_nobody_knows_any_more_is_replaced() -> None:
    assert refreshed([record(None, OTHER_DIGEST)], {}, Gone.KEEP)[0]["reason"] is None


def test_reasons_of_rows_that_stand_elsewhere_are_a_group_of_their_own() -> None:
    assert {reason for reason, about in REASONS.items() if about.group is Group.REVISION} == ELSEWHERE
    assert not any(REASONS[reason].is_retryable for reason in ELSEWHERE)


async def refresh(bench: Bench, now: list[Row], before: list[Row]) -> ChunkTwin:
    """A chunk whose rows held what `before` says, as the validator leaves it now."""
    then = await bench.chunk(before, recipe=Recipe())
    await then.upload()
    digests = [row["sha256"] for row in await bench.index()]
    twin = await bench.chunk(now, recipe=Recipe(), ordinal=1)
    held = pa.array([{"sha256": digest} for digest in digests], HELD.type)
    source = (await twin.source()).append_column(HELD, held)
    return ChunkTwin(bench, replace(twin.claim, revision=1, gone=Gone.KEEP), source)


async def test_only_changed_pictures_are_stored_again(bench: Bench) -> None:
    before = [jpeg(10), jpeg(11), jpeg(12)]
    chunk = await refresh(bench, [jpeg(10), jpeg(21), missing()], before)

    result = await chunk.upload()

    assert (result.passed, result.rejected) == (1, {"unchanged": 1, "kept": 1})
    assert [key for key in bench.memory.objects if key.startswith("data/r001-000001/0")] == [
        "data/r001-000001/000000001.jpg"
    ]
    assert "_held" not in (await bench.index_table(1, revision=1)).column_names


async def test_unchanged_and_kept_rows_go_on_claiming_their_bytes(bench: Bench) -> None:
    before = [jpeg(10), jpeg(11), jpeg(12)]
    chunk = await refresh(bench, [jpeg(10), missing(), jpeg(22)], before)
    owned = {row: digest for digest, row in bench.fingerprints.items()}

    await chunk.upload()

    now = {row: digest for digest, row in bench.fingerprints.items()}
    assert (now[0], now[1]) == (owned[0], owned[1])
    assert now[2] != owned[2], "the old bytes may come again"


async def test_a_picture_that_became_the_same_as_an_unchanged_one_is_its_duplicate(bench: Bench) -> None:
    chunk = await refresh(
        bench, [jpeg(12), jpeg(11), jpeg(12, reason=Reason.DUPLICATE)], [jpeg(10), jpeg(11), jpeg(12)]
    )
    bench.fingerprints.clear()  # as it is long after the first revision

    result = await chunk.upload()

    assert (result.passed, result.rejected) == (0, {"duplicate": 1, "unchanged": 2})


async def test_a_second_attempt_adopts_what_the_first_one_found(bench: Bench) -> None:
    chunk = await refresh(bench, [jpeg(10), jpeg(21), missing()], [jpeg(10), jpeg(11), jpeg(12)])
    first = await chunk.upload()
    owned = dict(bench.fingerprints)

    second = await chunk.again().upload()

    assert (second.passed, second.rejected) == (first.passed, first.rejected)
    assert bench.fingerprints == owned
