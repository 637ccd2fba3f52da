"""Webhooks as the Standard Webhooks specification has them: events, signatures, and when to try again.

    webhook-id: msg_…              the same for every attempt: whoever has seen it may ignore it
    webhook-timestamp: 1731705121  seconds; of the attempt
    webhook-signature: v1,<base64 of HMAC-SHA256(secret, "id.timestamp.body")> v1,<… by the old secret>

Standard library only; values in, values out.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

SECRET_PREFIX = "whsec_"
_SECRET_BYTES = 32


class Notice(StrEnum):
    """The events. A job's are named for the state in which it ended."""

    JOB_COMPLETED = "job.completed"
    JOB_COMPLETED_WITH_FAILURES = "job.completed_with_failures"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    TEST = "webhook.test"  #: sent when asked for; every webhook gets it


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  #: it is sent when it is due
    DELIVERED = "delivered"  #: the receiver answered 2xx
    DEAD = "dead"  #: given up; it can be sent anew


#: Pauses between attempts, as the specification suggests; after the last one a delivery is dead.
PAUSES = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)
#: Part of a pause by which it may be longer, so that receivers that were away are not met by all at once.
_JITTER = 0.2


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def message_id(delivery: str) -> str:
    """What the receiver knows a delivery by."""
    return f"msg_{delivery.replace('-', '')}"


def headers(message: str, timestamp: int, body: bytes, signing: Sequence[str]) -> dict[str, str]:
    """The headers of an attempt, signed by each of the secrets."""
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(secret, message, timestamp, body) for secret in signing),
        "Content-Type": "application/json",
    }


def pause_after(attempts: int, chance: float) -> timedelta | None:
    """The pause after so many attempts in vain; None: it is given up. `chance` is from 0 to 1."""
    return PAUSES[attempts - 1] * (1 + _JITTER * chance) if attempts <= len(PAUSES) else None


def _signature(secret: str, message: str, timestamp: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = hmac.new(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed.digest()).decode()}"
