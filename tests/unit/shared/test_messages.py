"""Messages: ids and a version; what is not understood is refused without being repeated."""

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.messages import BadMessage, BellKeys, ChunkMessage, Why

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
        (message(signature="\ud800"), "signature"),
        (message(signature="A" * 64), "signature"),
        (message(signature=7), "signature"),
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


OLD, NEW, STRANGE = (SecretStr(letter * 32) for letter in "ons")


def bell(**changes: Any) -> ChunkMessage:
    return ChunkMessage.decode(message(**changes))


def test_a_signed_bell_is_accepted_by_who_has_the_key_and_by_who_has_none() -> None:
    wire = BellKeys(current=NEW).signed(bell()).encode()

    BellKeys(current=NEW).check(ChunkMessage.decode(json.loads(json.dumps(wire))))
    BellKeys().check(ChunkMessage.decode(wire))


def test_without_a_key_nothing_is_signed() -> None:
    assert BellKeys().signed(bell()).signature is None


@pytest.mark.parametrize(
    ("signs", "checks", "is_accepted"),
    [
        # before a rotation
        (BellKeys(current=OLD), BellKeys(current=OLD), True),
        # first step: all accept the new key, none signs with it yet
        (BellKeys(current=OLD), BellKeys(current=OLD, other=NEW), True),
        (BellKeys(current=OLD, other=NEW), BellKeys(current=OLD), True),
        # second step: some sign with the new one
        (BellKeys(current=NEW, other=OLD), BellKeys(current=OLD, other=NEW), True),
        (BellKeys(current=OLD, other=NEW), BellKeys(current=NEW, other=OLD), True),
        # afterwards the old one is worth nothing
        (BellKeys(current=OLD), BellKeys(current=NEW), False),
        (BellKeys(current=STRANGE), BellKeys(current=NEW, other=OLD), False),
        (BellKeys(), BellKeys(current=NEW, other=OLD), False),
    ],
)
def test_who_accepts_whose_bells(signs: BellKeys, checks: BellKeys, is_accepted: bool) -> None:
    rung = signs.signed(bell())

    if is_accepted:
        checks.check(rung)
    else:
        with pytest.raises(BadMessage, match="signature"):
            checks.check(rung)


@pytest.mark.parametrize("changed", [{"chunk": 8}, {"stage": "upload"}, {"attempt": 1}, {"cell": "far"}])
def test_a_signature_is_worth_nothing_on_another_bell(changed: dict[str, Any]) -> None:
    signature = BellKeys(current=NEW).signed(bell()).signature

    with pytest.raises(BadMessage, match="signature"):
        BellKeys(current=NEW).check(bell(signature=signature, **changed))


def test_a_key_is_never_shown() -> None:
    assert "nnn" not in f"{BellKeys(current=NEW, other=NEW)!r}"
