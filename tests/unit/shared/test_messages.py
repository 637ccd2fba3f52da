"""Messages: ids and a version; what is not understood is refused without being repeated."""

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messages import BadMessage, ChunkMessage, Why

JOB = uuid4()


def message(**changes: Any) -> dict[str, Any]:
    whole = {
        "version": 1,
        "chunk": 7,
        "job": str(JOB),
        "stage": "validate",
        "attempt": 0,
        "cell": "main",
        "why": "handed_on",
        "sent_at": "2026-01-02T03:04:05Z",
    }
    return {name: value for name, value in (whole | changes).items() if value is not ...}


def test_what_is_encoded_is_decoded_again() -> None:
    sent = ChunkMessage(chunk=7, job=JOB, stage="upload", attempt=2, why=Why.DISPATCHED)

    assert ChunkMessage.decode(json.loads(json.dumps(sent.encode()))) == sent


def test_fields_of_a_newer_worker_are_ignored() -> None:
    assert ChunkMessage.decode(message(colour="blue")).chunk == 7


def test_a_cell_that_is_not_named_is_the_first() -> None:
    assert ChunkMessage.decode(message(cell=...)).cell == "main"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (message(version=2), "version"),
        (message(version=0), "version"),
        (message(chunk=...), "chunk"),
        (message(chunk=0), "chunk"),
        (message(chunk="many"), "chunk"),
        (message(job="nobody"), "job"),
        (message(stage="polish"), "stage"),
        (message(attempt=-1), "attempt"),
        (message(why="because"), "why"),
        (message(sent_at="2026-01-02T03:04:05"), "sent_at"),
        ([], "message"),
        ("chunk 7", "message"),
        (None, "message"),
    ],
)
def test_what_is_not_understood_is_refused_by_the_fields_name(wrong: object, named: str) -> None:
    with pytest.raises(BadMessage, match=named):
        ChunkMessage.decode(wrong)


@given(st.sampled_from(["version", "chunk", "job", "stage", "attempt", "why"]))
def test_a_refusal_never_repeats_what_was_sent(field: str) -> None:
    with pytest.raises(BadMessage) as refused:
        ChunkMessage.decode(message(**{field: "hunter2"}))

    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda some: st.lists(some) | st.dictionaries(st.text(), some),
    )
)
def test_nothing_that_json_can_say_does_harm(anything: object) -> None:
    with pytest.raises(BadMessage):
        ChunkMessage.decode(anything)
