"""Cursors: opaque places in a list. They hold no secret and give no right, so they need no signature."""

import base64
import binascii
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.problems import ApiError, Code, Mistake

_LONGEST = 256


def of_job(created_at: datetime, job_id: UUID) -> str:
    """The place behind a job in a list of jobs."""
    return _encode([created_at.isoformat(), str(job_id)])


def job_place(cursor: str | None) -> tuple[datetime, UUID] | None:
    """The place that `of_job` encoded. Raises ApiError for anything else."""
    if cursor is None:
        return None
    try:
        created_at, job_id = _decode(cursor)
        place = datetime.fromisoformat(created_at), UUID(job_id)
    except (ValueError, TypeError, AttributeError):
        raise _unusable() from None
    if place[0].tzinfo is None:
        raise _unusable()
    return place


def of_image(ordinal: int, offset: int) -> str:
    """The place of a row: its chunk's ordinal, and its place in the chunk."""
    return _encode([ordinal, offset])


def image_place(cursor: str | None) -> tuple[int, int]:
    """The place that `of_image` encoded; the beginning for None. Raises ApiError for anything else."""
    if cursor is None:
        return 0, 0
    try:
        ordinal, offset = _decode(cursor)
    except (ValueError, TypeError):
        raise _unusable() from None
    if type(ordinal) is not int or type(offset) is not int or not (0 <= ordinal < 2**31 and 0 <= offset < 2**31):
        raise _unusable()
    return ordinal, offset


def of_key(key: str) -> str:
    """The place behind an object in a list of them."""
    return _encode([key])


def key_place(cursor: str | None) -> str:
    """The place that `of_key` encoded; the beginning for None. Raises ApiError for anything else."""
    if cursor is None:
        return ""
    try:
        (key,) = _decode(cursor)
    except (ValueError, TypeError):
        raise _unusable() from None
    if type(key) is not str or not key.isascii() or not key.isprintable():
        raise _unusable()
    return key


def of_id(number: int) -> str:
    """The place behind a thing of that id in a list of them."""
    return _encode([number])


def id_place(cursor: str | None) -> int | None:
    """The place that `of_id` encoded. Raises ApiError for anything else."""
    if cursor is None:
        return None
    try:
        (number,) = _decode(cursor)
    except (ValueError, TypeError):
        raise _unusable() from None
    if type(number) is not int or not 0 <= number < 2**63:
        raise _unusable()
    return number


def _encode(place: list[object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def _decode(cursor: str) -> list[Any]:
    if len(cursor) > _LONGEST:
        raise ValueError("too long")
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, RecursionError) as error:
        raise ValueError("not a cursor") from error
    if not isinstance(place, list):
        raise ValueError("not a cursor")
    return place


def _unusable() -> ApiError:
    detail = "the cursor is none of ours; take next_cursor of the page before, or leave it out"
    return ApiError(Code.INVALID_REQUEST, detail, errors=[Mistake(pointer="query cursor", detail=detail)])
