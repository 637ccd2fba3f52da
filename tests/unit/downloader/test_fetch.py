"""What a final status means, and what a record may hold."""

import pytest

from downloader.fetch import reason_of_status
from shared.reasons import Reason


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((200, 203), None),
        ((201, 202, 204, 205, 206, 207), Reason.HTTP_UNEXPECTED),
        ((300, 301, 302, 303, 304, 307, 308), Reason.HTTP_UNEXPECTED),
        ((404, 410), Reason.HTTP_NOT_FOUND),
        ((401, 403, 451), Reason.HTTP_DENIED),
        ((429,), Reason.HTTP_RATE_LIMITED),
        ((400, 402, 405, 406, 408, 418, 425), Reason.HTTP_CLIENT_ERROR),
        ((500, 502, 503, 504, 520, 599), Reason.HTTP_SERVER_ERROR),
        ((0, 99, 600, 999), Reason.BAD_RESPONSE),
    ],
)
def test_each_status_has_one_meaning(statuses: tuple[int, ...], expected: Reason | None) -> None:
    assert {reason_of_status(status) for status in statuses} == {expected}
