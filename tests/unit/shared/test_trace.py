"""The request that a piece of work came by."""

import pytest

from shared.trace import Trace

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_clients_trace_goes_on() -> None:
    trace = Trace.of_request("req-12345", GIVEN)

    assert trace.traceparent == GIVEN
    assert trace.fields == {"request_id": "req-12345", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "nonsense",
        GIVEN.upper(),
        GIVEN + "-more",
        "01" + GIVEN[2:],  # a version that is not ours to read
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    ],
)
def test_without_a_usable_one_a_trace_begins_here(given: str | None) -> None:
    first, second = Trace.of_request("req-12345", given), Trace.of_request("req-12345", given)

    assert first.traceparent != given
    assert first.trace_id != second.trace_id
    assert Trace.read(first.stored()) == first


@pytest.mark.parametrize("stored", [None, "", "by hand", " req-12345"])
def test_a_row_without_a_request_has_none(stored: str | None) -> None:
    assert Trace.read(stored) is None
