"""What a stage tells of its chunks: one line in the log for each, and its counts. Once a chunk, never once an image."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product

import structlog

from shared import metrics
from shared.chunk import Claim, StageResult
from shared.errors import ChunkError, ClaimLost, PixCrawlerError
from shared.messages import ChunkMessage, Why
from shared.pipeline import Stage, next_stage
from shared.policy import BeginAnew, Decision, End, HandBack, LetGo
from shared.reasons import Reason

log = structlog.get_logger(__name__)

_COMPLETED = "completed"
_RESULTS: dict[type[Decision], str] = {
    HandBack: "handed_back",
    End: "ended",
    BeginAnew: "begun_anew",
    LetGo: "let_go",
}
#: Codes of what is no error of the tree.
_STOPPED, _BUG = "stopped", "bug"


class StageNotes:
    """One stage's."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def answered(self, bell: ChunkMessage, *, claimed: bool) -> None:
        """A bell led to a claim, or there was nothing to be had."""
        metrics.claims.labels(stage=self._stage.name, result="claimed" if claimed else "refused").inc()
        if claimed:
            waited = (datetime.now(UTC) - bell.sent_at).total_seconds()
            metrics.bell_wait.labels(stage=self._stage.name).observe(max(0.0, waited))
        else:
            log.debug("claim_refused", chunk=bell.chunk, stage=self._stage.name, why=bell.why)

    def unreadable(self, error: Exception) -> None:
        metrics.poison.labels(stage=self._stage.name).inc()
        log.error("message_unreadable", stage=self._stage.name, error=str(error))

    def stumbled(self, chunk_id: int, error: Exception) -> None:
        metrics.chunk_errors.labels(stage=self._stage.name, code=_code(error)).inc()
        log.error(
            "claim_failed",
            chunk=chunk_id,
            stage=self._stage.name,
            error_code=type(error).__name__,
            error=str(error),
            exc_info=error,
        )

    def completed(self, claim: Claim, result: StageResult, seconds: float) -> None:
        stage = self._stage.name
        metrics.chunk_seconds.labels(stage=stage, result=_COMPLETED).observe(seconds)
        unchanged = result.rejected.get(Reason.UNCHANGED, 0)  # met again, which is no rejection
        metrics.rows_tried.labels(stage=stage, result="passed").inc(result.passed + unchanged)
        metrics.rows_tried.labels(stage=stage, result="rejected").inc(claim.rows - result.passed - unchanged)
        metrics.bytes_tried.labels(stage=stage).inc(result.size_bytes)
        log.info(
            "stage_completed",
            seconds=round(seconds, 3),
            passed=result.passed,
            rejected=dict(result.rejected),
            bytes=result.size_bytes,
        )

    def interrupted(self, error: BaseException, decision: Decision, seconds: float) -> None:
        stage, ended = self._stage.name, _RESULTS[type(decision)]
        metrics.chunk_seconds.labels(stage=stage, result=ended).observe(seconds)
        metrics.chunk_errors.labels(stage=stage, code=_code(error)).inc()
        if isinstance(error, ClaimLost):
            metrics.fence_refused.labels(stage=stage).inc()
        is_expected = isinstance(error, PixCrawlerError | asyncio.CancelledError) and not isinstance(error, ChunkError)
        log.log(
            logging.INFO if is_expected else logging.ERROR,
            "stage_interrupted",
            decision=ended,
            error_code=getattr(error, "code", type(error).__name__),
            error=str(error),
            exc_info=None if is_expected else error,
        )


def _code(error: BaseException) -> str:
    """A closed list: a library's error may carry a code of any kind."""
    if isinstance(error, PixCrawlerError):
        return error.code
    return _STOPPED if isinstance(error, asyncio.CancelledError) else _BUG


def begin_series(stage: Stage) -> None:
    """Zeros for what has not happened yet: without them the first time would look like no change."""
    for result in ("claimed", "refused"):
        metrics.claims.labels(stage=stage.name, result=result)
    for result in (_COMPLETED, *_RESULTS.values()):
        metrics.chunk_seconds.labels(stage=stage.name, result=result)
    for code in (_STOPPED, _BUG, *sorted(_codes(PixCrawlerError))):
        metrics.chunk_errors.labels(stage=stage.name, code=code)
    for result in ("passed", "rejected"):
        metrics.rows_tried.labels(stage=stage.name, result=result)
    for counter in (metrics.bytes_tried, metrics.fence_refused, metrics.poison, metrics.bell_wait):
        counter.labels(stage=stage.name)
    if after := next_stage(stage):
        for why, result in product(Why, ("rung", "failed")):
            metrics.bells.labels(stage=after.name, why=why, result=result)


def _codes(error: type[PixCrawlerError]) -> Iterator[str]:
    yield error.code
    for narrower in error.__subclasses__():
        yield from _codes(narrower)
