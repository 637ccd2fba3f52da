"""When a URL is tried again: policy only, values in and values out."""

import time
from email.utils import parsedate_to_datetime

from downloader.resolver import FAILURE_SECONDS
from downloader.transfer import Head
from shared.reasons import REASONS, Reason

#: The first pause is drawn from 0..this, doubled each time.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 20.0
#: A host may ask for a pause of at most this long; a chunk cannot wait for more.
LONGEST_RETRY_AFTER_SECONDS = 60.0

#: Client errors that may pass.
_PASSING_STATUSES = frozenset({408, 425, 429})
#: Retryable another day, but not within the chunk.
_NOT_NOW = frozenset({Reason.HOST_CIRCUIT_OPEN, Reason.ROBOTS_UNREACHABLE})


def may_pass(reason: Reason, status: int) -> bool:
    """Whether a second try within the chunk makes sense."""
    if status in _PASSING_STATUSES:
        return True
    if status in (501, 505):
        return False  # the host will not learn it within minutes
    return REASONS[reason].is_retryable and reason not in _NOT_NOW


def pause(attempt: int, least_seconds: float | None, chance: float) -> float:
    """Seconds to wait after the given attempt (1 = first): full jitter, and never less than was asked for.

    `chance` is drawn from 0..1.
    """
    ceiling: float = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (min(attempt, 30) - 1))
    return max(ceiling * chance, least_seconds or 0.0)


def least_pause(reason: Reason, head: Head) -> float | None:
    """Seconds before a next try makes sense; None when nobody says.

    A name that failed is remembered for a while: a try within it would only meet that memory.
    """
    return FAILURE_SECONDS if reason is Reason.DNS_TEMPORARY else retry_after_of(head)


def retry_after_of(head: Head, now: float | None = None) -> float | None:
    """The pause in a Retry-After field, bounded; None when there is none. Seconds or a date; `now` since the epoch."""
    text = head.get("retry-after")
    if text is None:
        return None
    if text.isascii() and text.isdecimal():
        return min(float(text[:9]), LONGEST_RETRY_AFTER_SECONDS)
    try:
        date = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, date - (time.time() if now is None else now)), LONGEST_RETRY_AFTER_SECONDS)
