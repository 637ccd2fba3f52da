"""Cursors survive the way through a client, and nothing else passes for one."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import cursors
from gateway.problems import ApiError, Code


def test_a_jobs_place_comes_back_to_the_microsecond() -> None:
    created_at, job_id = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC), uuid4()

    assert cursors.job_place(cursors.of_job(created_at, job_id)) == (created_at, job_id)


def test_no_cursor_is_the_beginning() -> None:
    assert cursors.job_place(None) is None
    assert cursors.image_place(None) == (0, 0)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_a_rows_place_comes_back(ordinal: int, offset: int) -> None:
    assert cursors.image_place(cursors.of_image(ordinal, offset)) == (ordinal, offset)


@given(st.text(max_size=300))
def test_any_text_is_a_place_or_a_clear_refusal(text: str) -> None:
    refusals = {refusal_of(parse, text) for parse in (cursors.image_place, cursors.job_place)}

    assert refusals <= {None, Code.INVALID_REQUEST}


def refusal_of(parse: Callable[[str], object], text: str) -> Code | None:
    try:
        parse(text)
    except ApiError as refused:
        return refused.code
    return None


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (2**31, 0), (True, 0)])
def test_a_row_place_out_of_range_is_refused(place: tuple[int, int]) -> None:
    with pytest.raises(ApiError):
        cursors.image_place(cursors.of_image(*place))


def test_a_jobs_place_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ApiError):
        cursors.job_place(cursors.of_job(datetime(2026, 1, 1), uuid4()))
