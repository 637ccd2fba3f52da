"""What is done about a chunk that a stage could not finish: an error becomes a decision, and nothing else.

Retry by an allow-list: trouble that may pass is named in `shared/errors.py`; everything unknown is a bug and
burns an attempt, so that no error can loop for ever.
"""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta

from shared.chunk import Claim
from shared.errors import ClaimLost, PermanentError, PixCrawlerError, StoreRefused, TransientError, WorkAreaGone
from shared.pipeline import Outcome, Stage


class JobCancelled(PixCrawlerError):
    """The client withdrew the job while its chunk was worked on."""

    code = "cancelled"


@dataclass(frozen=True)
class HandBack:
    """Back to the stage's queue, not before the pause is over."""

    pause: timedelta
    burns_attempt: bool
    pauses_job: bool = False


@dataclass(frozen=True)
class End:
    """The chunk is over."""

    outcome: Outcome


@dataclass(frozen=True)
class BeginAnew:
    """Back to `pending`: what earlier stages left is gone."""


@dataclass(frozen=True)
class LetGo:
    """Somebody else has it: nothing is written."""


Decision = HandBack | End | BeginAnew | LetGo

_NOW = timedelta(0)


def decide(stage: Stage, claim: Claim, error: BaseException, *, chance: float | None = None) -> Decision:
    """The decision for an error. `chance` in [0, 1) spreads retries; drawn when not given."""
    spread = random.random() if chance is None else chance
    match error:
        case ClaimLost():
            return LetGo()
        case JobCancelled():
            return End(Outcome.CANCELLED)
        case asyncio.CancelledError():  # the worker was asked to stop
            return HandBack(_NOW, burns_attempt=False)
        case StoreRefused():  # all chunks of the job would meet it
            return HandBack(_NOW, burns_attempt=False, pauses_job=True)
        case TransientError():
            return HandBack(stage.retry.outage_delay * (1 + 2 * spread), burns_attempt=False)
        case WorkAreaGone() if claim.restarts < stage.retry.restarts:
            return BeginAnew()
        case PermanentError():
            return End(Outcome.FAILED)
        case _ if claim.attempt < stage.retry.attempts:
            return HandBack(stage.retry.delay(claim.attempt) * (0.5 + spread / 2), burns_attempt=True)
        case _:
            return End(Outcome.FAILED)
