"""When a URL is tried again, and how long it waits."""

import pytest

from downloader.resolver import FAILURE_SECONDS
from downloader.retry import least_pause, may_pass, pause, retry_after_of
from downloader.transfer import Head
from shared.reasons import Reason


@pytest.mark.parametrize(
    ("reason", "status", "expected"),
    [
        # may pass
        (Reason.DNS_TEMPORARY, 0, True),
        (Reason.CONNECT_FAILED, 0, True),
        (Reason.CONNECT_TIMEOUT, 0, True),
        (Reason.CONNECTION_RESET, 200, True),
        (Reason.TRUNCATED_BODY, 200, True),
        (Reason.TOO_SLOW, 200, True),
        (Reason.DEADLINE, 200, True),
        (Reason.HTTP_SERVER_ERROR, 503, True),
        (Reason.HTTP_RATE_LIMITED, 429, True),
        (Reason.HTTP_CLIENT_ERROR, 408, True),
        (Reason.HTTP_CLIENT_ERROR, 425, True),
        # will not
        (Reason.HTTP_SERVER_ERROR, 501, False),
        (Reason.HTTP_CLIENT_ERROR, 400, False),
        (Reason.HTTP_NOT_FOUND, 404, False),
        (Reason.HTTP_DENIED, 403, False),
        (Reason.OPTED_OUT, 200, False),
        (Reason.DNS_NOT_FOUND, 0, False),
        (Reason.TLS_INVALID, 0, False),
        (Reason.BODY_TOO_LARGE, 200, False),
        # another day, not in this chunk
        (Reason.HOST_CIRCUIT_OPEN, 0, False),
        (Reason.ROBOTS_UNREACHABLE, 0, False),
    ],
)
def test_only_what_may_pass_is_tried_again(reason: Reason, status: int, expected: bool) -> None:
    assert may_pass(reason, status) is expected


@pytest.mark.parametrize(
    ("attempt", "retry_after", "chance", "expected"),
    [
        (1, None, 0.0, 0.0),
        (1, None, 1.0, 0.5),
        (2, None, 1.0, 1.0),
        (3, None, 0.5, 1.0),
        (10, None, 1.0, 20.0),
        (1000, None, 1.0, 20.0),
        (1, 7.0, 1.0, 7.0),
        (9, 7.0, 1.0, 20.0),
    ],
)
def test_pauses_double_with_full_jitter_and_obey_the_host(
    attempt: int, retry_after: float | None, chance: float, expected: float
) -> None:
    assert pause(attempt, retry_after, chance) == expected


def test_a_name_that_failed_is_asked_again_only_when_it_is_forgotten() -> None:
    no_answer = Head()

    assert least_pause(Reason.DNS_TEMPORARY, no_answer) == FAILURE_SECONDS
    assert least_pause(Reason.CONNECT_FAILED, no_answer) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("5", 5.0),
        ("0", 0.0),
        ("86400", 60.0),
        ("9" * 400, 60.0),
        ("-5", None),
        ("soon", None),
        ("٣", None),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
        ("Thu, 01 Jan 2099 00:00:00 GMT", 60.0),
        ("Thu, 99 Foo 2099 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(text: str | None, expected: float | None) -> None:
    head = Head(503, {"retry-after": [text]} if text is not None else {})

    assert retry_after_of(head, now=10.0) == expected
