"""How a chunk is carried through a stage, the same for all three.

    claim ─▶ run the verb, heart beating ─▶ commit the result ─▶ ring the next bell, or close the chunk
      │                    │
      │                    └─ an error ─▶ shared/policy.py decides: hand back, end, begin anew, let go
      └─ refused: a bell too many, too late or forged; nothing happens

This is the one place that catches everything, and it records what it caught.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import pyarrow as pa
import structlog
from celery import Celery

from shared import progress
from shared.chunk import Claim, NewObject, StageResult, Verb
from shared.closing import close_all
from shared.db import bells, chunks, lifecycle, poison, stumbles
from shared.db.chunks import Verdict
from shared.db.session import Connection, transaction
from shared.errors import ChunkError, ClaimLost, DatabaseUnavailable, TransientError, WorkAreaFull, WorkAreaGone
from shared.failpoints import reach
from shared.messages import BadMessage, BellKeys, ChunkMessage, Why
from shared.notes import StageNotes
from shared.pipeline import BEATS_IN_A_LEASE, LEASE, Stage, next_stage
from shared.policy import BeginAnew, End, HandBack, JobCancelled, LetGo, decide
from shared.progress import Live
from shared.resources import Resources
from shared.ringing import ring_all
from shared.storage.base import ObjectStore
from shared.trace import Trace
from shared.tracing import fail_span, span
from shared.workdir import Draft, WorkKey

T = TypeVar("T")
log = structlog.get_logger(__name__)

#: Seconds between two writes of live progress.
_SHOWN_EVERY = 0.5
#: Seconds a claim, and a finished result, wait for the database to come back.
_CLAIM_PATIENCE = 20.0
_RESULT_PATIENCE = 900.0
#: Seconds a cancelled task has to end before it is cancelled again.
_CANCEL_AGAIN = 2.0


class ClaimedChunk:
    """The chunk a verb is given (`shared.chunk.Chunk`), within `async with`: its destination is lent so long."""

    def __init__(self, worker: "StageWorker", claim: Claim) -> None:
        self.claim = claim
        self.live = Live(stage=worker.stage.name, done=0, passed=0, size_bytes=0)
        self._worker = worker
        self._resources = worker.resources
        self._lent = AsyncExitStack()
        self._destination: ObjectStore | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._lent.aclose()

    @property
    def work_key(self) -> WorkKey:
        return WorkKey(job=self.claim.job_id, chunk=self.claim.chunk_id, fence=self.claim.fence)

    async def source(self) -> pa.Table:
        return await self._resources.source(self.claim.source)

    async def draft(self) -> Draft:
        return await self._resources.area.draft(self.work_key)

    async def open(self, name: str, *, fence: int | None = None) -> Path:
        left_at = self.claim.work_fence if fence is None else fence
        if left_at is None:
            raise WorkAreaGone("no earlier stage left anything")
        key = WorkKey(job=self.claim.job_id, chunk=self.claim.chunk_id, fence=left_at)
        return await self._resources.area.open(key, name)

    async def destination(self) -> ObjectStore:
        if self._destination is None:
            lent = self._resources.stores.at(self.claim.destination, self.claim.endpoint)
            self._destination = await self._lent.enter_async_context(lent)
        return self._destination

    def report(self, *, done: int, passed: int, size_bytes: int) -> None:
        self.live = Live(stage=self.live.stage, done=done, passed=passed, size_bytes=size_bytes)
        reach(f"{self.live.stage}.progress")

    async def settle_duplicates(self, fingerprints: Mapping[int, str | None]) -> dict[str, int]:
        return await self._worker.settle(self.claim, fingerprints)

    async def record_objects(self, objects: Sequence[NewObject]) -> None:
        await self._worker.commit(lambda connection: chunks.record_objects(connection, self.claim, objects))


class StageWorker:
    """One child's hands: answers bells, one at a time."""

    def __init__(
        self,
        stage: Stage,
        resources: Resources,
        app: Celery,
        verb: Verb,
        *,
        owner: str,
        hold: timedelta,
        lease: timedelta = LEASE,
    ) -> None:
        self.stage = stage
        self.resources = resources
        self._app = app
        self._verb = verb
        self._owner = owner
        self._notes = StageNotes(stage)
        self._hold = hold
        self._lease = lease
        self._bell_keys = BellKeys.of(resources.settings)

    async def answer(self, message: object) -> None:
        """Carries the chunk of a message, if it is to be had."""
        try:
            bell = ChunkMessage.decode(message)
            self._bell_keys.check(bell)
        except BadMessage as error:
            await self._keep_poison(message, error)
            return
        try:
            claim = await self._claim(bell.chunk)
        except TransientError as error:
            log.warning("claim_hindered", chunk=bell.chunk, stage=self.stage.name, error=str(error))
            return  # the scheduler rings again
        except Exception as error:
            await self._note_stumble(bell.chunk, error)
            return
        self._notes.answered(bell, claimed=claim is not None)
        if claim is None:
            return
        try:
            with structlog.contextvars.bound_contextvars(**self._named(claim)), self._span(claim):
                await self._carry(claim)
        finally:
            await self.resources.area.release(claim.job_id, claim.chunk_id)

    def _named(self, claim: Claim) -> dict[str, object]:
        """What every line is about while the chunk is in hand."""
        trace = Trace.read(claim.traceparent)
        return {
            "job": str(claim.job_id),
            "chunk": claim.chunk_id,
            "stage": self.stage.name,
            "attempt": claim.attempt,
            "fence": claim.fence,
            **(trace.fields if trace else {}),
        }

    def _span(self, claim: Claim) -> AbstractContextManager[Trace | None]:
        trace = Trace.read(claim.traceparent)
        job, chunk, attempt = str(claim.job_id), claim.chunk_id, claim.attempt
        return span(self.stage.name, trace, job=job, chunk=chunk, attempt=attempt)

    async def settle(self, claim: Claim, fingerprints: Mapping[int, str | None]) -> dict[str, int]:
        """Settles fingerprints; then later chunks of the job need not wait for this one."""
        owners = await self.commit(lambda connection: chunks.settle(connection, claim, self.stage, fingerprints))
        await self._ring(claim)
        return owners

    async def commit(
        self, statements: Callable[[Connection], Awaitable[T]], *, patience: float = _RESULT_PATIENCE
    ) -> T:
        """Runs statements in a transaction, again while the database is away. Raises DatabaseUnavailable at last.

        A commit whose answer was lost is found done by its fence: repeating it raises ClaimLost.
        """
        pause, until = 0.5, time.monotonic() + patience
        while True:
            try:
                async with transaction(self.resources.engine) as connection:
                    return await statements(connection)
            except DatabaseUnavailable:
                if time.monotonic() + pause > until:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 30.0)

    async def _claim(self, chunk_id: int) -> Claim | None:
        return await self.commit(lambda connection: self._take(connection, chunk_id), patience=_CLAIM_PATIENCE)

    async def _take(self, connection: Connection, chunk_id: int) -> Claim | None:
        claim = await chunks.claim(
            connection, self.stage, chunk_id, owner=self._owner, hold=self._hold, lease=self._lease
        )
        if claim is not None:
            reach(f"{self.stage.name}.claiming", claim.ordinal)
        return claim

    async def _note_stumble(self, chunk_id: int, error: Exception) -> None:
        """A bug in the claim itself burns an attempt like any other, although the chunk was nobody's."""
        self._notes.stumbled(chunk_id, error)
        with suppress(DatabaseUnavailable):  # it is stumbled over again
            async with transaction(self.resources.engine) as connection:
                await stumbles.note(
                    connection,
                    self.stage,
                    chunk_id,
                    actor=self._owner,
                    error_code=type(error).__name__,
                    error=str(error),
                )

    async def _carry(self, claim: Claim) -> None:
        async with ClaimedChunk(self, claim) as chunk:
            await self._carry_through(chunk)

    async def _carry_through(self, chunk: ClaimedChunk) -> None:
        claim, started = chunk.claim, time.monotonic()
        try:
            reach(f"{self.stage.name}.claimed", claim.ordinal)
            result = await self._work(chunk)
            reach(f"{self.stage.name}.result")
            await self.commit(lambda connection: chunks.advance(connection, self.stage, claim, result))
            reach(f"{self.stage.name}.committed")
        except BaseException as error:
            await self._give_up(chunk, error, started)
            if not isinstance(error, Exception):
                raise
        else:
            self._notes.completed(claim, result, time.monotonic() - started)
            await self._go_on(claim)

    async def _work(self, chunk: ClaimedChunk) -> StageResult:
        """Runs the verb until it ends, its deadline passes, or the heartbeat brings bad news."""
        verb = asyncio.ensure_future(self._verb(chunk))
        over = asyncio.Event()
        heart = asyncio.create_task(self._beat(chunk, over))
        try:
            async with asyncio.timeout(self.stage.deadline.total_seconds()):
                await asyncio.wait({verb, heart}, return_when=asyncio.FIRST_COMPLETED)
            if not verb.done():
                heart.result()  # raises the bad news
            return _checked(chunk.claim, verb.result())
        except TimeoutError as error:
            raise ChunkError(f"the stage took longer than {self.stage.deadline}") from error
        finally:
            over.set()  # a cancellation alone does not do: redis-py may take it for a time-out of its own
            await _stop(verb, heart)

    async def _beat(self, chunk: ClaimedChunk, over: asyncio.Event) -> None:
        """Shows progress and keeps the lease until it is over. Raises ClaimLost or JobCancelled on bad news.

        While the database is away the work goes on: its result is committed later, or refused by its fence.
        """
        every = self._lease.total_seconds() / BEATS_IN_A_LEASE
        shown, next_beat = chunk.live, time.monotonic() + every
        while not over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_SHOWN_EVERY):  # wait_for of Python 3.11 may swallow a cancellation
                    await over.wait()
            if chunk.live != shown:
                shown = chunk.live
                await progress.write(self.resources.redis, chunk.claim.job_id, chunk.claim.chunk_id, shown)
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + every
                with suppress(DatabaseUnavailable):
                    await self._keep_lease(chunk)

    async def _keep_lease(self, chunk: ClaimedChunk) -> None:
        async with transaction(self.resources.engine) as connection:
            verdict = await chunks.beat(
                connection,
                self.stage,
                chunk.claim,
                done=chunk.live.done,
                work_bytes=chunk.live.size_bytes,
                lease=self._lease,
            )
        if verdict is Verdict.LOST:
            raise ClaimLost("the lease went to somebody else")
        if verdict is Verdict.CANCEL and not self.stage.outlasts_cancel:
            raise JobCancelled("the job was cancelled")

    async def _go_on(self, claim: Claim) -> None:
        if next_stage(self.stage):
            await self._ring(claim)
        else:
            await self._close(claim)

    async def _ring(self, claim: Claim) -> None:
        """Rings what is due of the job; the scheduler rings what fails here."""
        with suppress(TransientError):
            async with transaction(self.resources.engine) as connection:
                due = await bells.take(connection, hold=self._hold, why=Why.HANDED_ON, job_id=claim.job_id)
            await ring_all(self._app, self.resources.engine, due)

    async def _close(self, claim: Claim) -> None:
        """Closes the ended chunk; the janitor or the scheduler does it when something is away here."""
        with suppress(DatabaseUnavailable):
            async with transaction(self.resources.engine) as connection:
                ended = await chunks.ended(connection, chunk_id=claim.chunk_id)
            await close_all(self.resources, ended, actor=self.stage.service)

    async def _give_up(self, chunk: ClaimedChunk, error: BaseException, started: float) -> None:
        """Carries out what the policy decides; what cannot be written is found by its lease later."""
        error = await self._blamed(error)
        claim, decision = chunk.claim, decide(self.stage, chunk.claim, error)
        self._notes.interrupted(error, decision, time.monotonic() - started)
        fail_span(getattr(error, "code", type(error).__name__))
        with suppress(ClaimLost, DatabaseUnavailable):
            await self.commit(
                lambda connection: self._apply(connection, claim, decision, error), patience=_CLAIM_PATIENCE
            )
        await self._discard_draft(chunk)
        if isinstance(decision, End):
            await self._close(claim)

    async def _blamed(self, error: BaseException) -> BaseException:
        """What is missing because the whole work volume is may come back: then that is the error.

        A decoder that finds no pack dies, which is a chunk's error and no file's.
        """
        if isinstance(error, FileNotFoundError | ChunkError):
            try:
                await self.resources.area.check()
            except WorkAreaFull as gone:
                return gone
        return error

    async def _discard_draft(self, chunk: ClaimedChunk) -> None:
        """Removes what this claim wrote, unless its result was committed and only the answer was lost."""
        with suppress(DatabaseUnavailable):  # then the chunk's end removes it
            async with transaction(self.resources.engine) as connection:
                is_published = await chunks.is_published(connection, chunk.claim)
            if not is_published:
                await self.resources.area.discard(chunk.work_key)

    async def _apply(
        self,
        connection: Connection,
        claim: Claim,
        decision: HandBack | End | BeginAnew | LetGo,
        error: BaseException,
    ) -> None:
        told = {"error_code": getattr(error, "code", type(error).__name__), "error": str(error)}
        match decision:
            case HandBack(pause, burns_attempt, pauses_job):
                if pauses_job:
                    await lifecycle.pause_for(connection, claim.job_id, **told)
                await chunks.hand_back(connection, self.stage, claim, pause=pause, burns_attempt=burns_attempt, **told)
            case End(outcome):
                await chunks.end(connection, self.stage, claim, outcome, **told)
            case BeginAnew():
                await chunks.restart(connection, self.stage, claim, error=told["error"])

    async def _keep_poison(self, message: object, error: BadMessage) -> None:
        self._notes.unreadable(error)
        await self.commit(
            lambda connection: poison.keep(connection, queue=self.stage.queue, message=message, error=str(error)),
            patience=_CLAIM_PATIENCE,
        )


async def _stop(*tasks: asyncio.Future[Any]) -> None:
    """Cancels tasks and waits for them; again and again, for a library may swallow a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN)
        for task in left:
            log.warning("cancellation_swallowed", task=repr(task))


def _checked(claim: Claim, result: StageResult) -> StageResult:
    if result.passed + sum(result.rejected.values()) != claim.rows:
        raise ChunkError(f"{result.passed} passed and {dict(result.rejected)} do not add up to {claim.rows} rows")
    return result
