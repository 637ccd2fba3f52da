"""Ends jobs: dataset.json, card and figures with the final sums, `_SUCCESS` last, then the job's last state."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pyarrow as pa
import structlog

from scheduler.patience import Patience
from scheduler.statistician import statistics_of
from shared.db import leader, lifecycle
from shared.db.leader import Term
from shared.db.lifecycle import Finished
from shared.db.session import transaction
from shared.errors import PixCrawlerError, StoreRefused
from shared.failpoints import reach
from shared.index import saved_fields
from shared.papers import Dataset, PaperState
from shared.pipeline import JobState
from shared.publishing import publish_papers
from shared.reasons import Reason
from shared.resources import Resources
from shared.version import VERSION

#: Jobs finished at once.
_AT_ONCE = 8
#: For one job's papers; the figures of 10,000,000 rows take minutes, and have a limit of their own.
_LONGEST_SECONDS = 1200.0

log = structlog.get_logger(__name__)


class Finisher:
    """Finishes jobs, some at once and beside the loop: a destination that hangs keeps nobody else waiting."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._busy: dict[UUID, asyncio.Task[None]] = {}
        self._patience = Patience()

    async def look(self, term: Term) -> None:
        """Begins to finish every job whose chunks have all ended."""
        async with leader.leading(self._resources.engine, term) as connection:
            await lifecycle.begin_finishing(connection)
        async with transaction(self._resources.engine) as connection:
            ended = await lifecycle.to_finish(connection)
        self._patience.keep(job.job_id for job in ended)
        for job in ended:
            if len(self._busy) < _AT_ONCE and job.job_id not in self._busy and self._patience.is_due(job.job_id):
                self._busy[job.job_id] = asyncio.create_task(self._try(term, job))

    async def close(self) -> None:
        """Stops; what was begun is begun again by whoever leads next."""
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _try(self, term: Term, job: Finished) -> None:
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                await _finish_or_fail(self._resources, term, job)
        except Exception as error:  # one job's trouble, a bug too, must not stop the others
            self._put_off(job, error)
        else:
            self._patience.forget(job.job_id)
        finally:
            del self._busy[job.job_id]

    def _put_off(self, job: Finished, error: Exception) -> None:
        tries = self._patience.put_off(job.job_id)
        log.warning(
            "job_not_finished",
            job=str(job.job_id),
            tries=tries,
            error=str(error) or type(error).__name__,
            exc_info=None if isinstance(error, PixCrawlerError | OSError | TimeoutError) else error,
        )


async def _finish_or_fail(resources: Resources, term: Term, job: Finished) -> None:
    try:
        await _finish(resources, term, job)
    except StoreRefused as error:
        log.error("papers_refused", job=str(job.job_id), error=str(error))
        withdrawn = job.state is JobState.CANCELLING
        await _conclude(resources, term, job, JobState.CANCELLED if withdrawn else JobState.FAILED)


async def _finish(resources: Resources, term: Term, job: Finished) -> None:
    reach("finish.begun")
    async with transaction(resources.engine) as connection:
        first = await lifecycle.first_source(connection, job.job_id)
    saved = saved_fields(await resources.source(first)) if first else ()
    papers = await papers_of(resources, job, is_cancelled=job.state is JobState.CANCELLING, saved=saved)
    async with resources.stores.at(job.destination, job.endpoint) as store:
        figures = await statistics_of(resources, store, job.dataset_id)
        await publish_papers(store, papers, figures, is_whole=papers.state is PaperState.COMPLETE)
    reach("finish.published")
    await _conclude(resources, term, job, last_state(job))


async def _conclude(resources: Resources, term: Term, job: Finished, state: JobState) -> None:
    async with leader.leading(resources.engine, term) as connection:
        await lifecycle.finish(connection, job.job_id, start=job.state, to=state)
    log.info("job_finished", job=str(job.job_id), state=state, **job.counts)


def last_state(job: Finished) -> JobState:
    """How the job ended, by what its chunks did."""
    if job.state is JobState.CANCELLING:
        return JobState.CANCELLED
    if not job.failed_chunks and not job.error_code:
        return JobState.COMPLETED
    has_result = job.counts["accepted"] or job.counts["rejected"].get(Reason.UNCHANGED)
    return JobState.COMPLETED_WITH_FAILURES if has_result else JobState.FAILED


async def papers_of(
    resources: Resources, job: Finished, *, is_cancelled: bool, saved: Sequence[pa.Field] | None
) -> Dataset:
    """What the papers of a job's dataset say, once its chunks have all ended; `saved` are the client's columns."""
    async with transaction(resources.engine) as connection:
        objects = await lifecycle.objects_of(connection, job.dataset_id)
        sums = await lifecycle.sums(connection, job.dataset_id, but=job.job_id)
    ended = PaperState.CANCELLED if is_cancelled else PaperState.COMPLETE
    return Dataset(
        dataset_id=job.dataset_id,
        job_id=job.job_id,
        revision=sums.revision,
        name=job.name,
        state=PaperState.BUILDING if sums.is_growing else ended,
        recipe=job.recipe,
        list_digest=job.source["digest"],
        software_version=VERSION,
        rows=sums.rows,
        accepted=sums.accepted,
        rejected=sums.rejected,
        saved=saved,
        objects=objects,
    )
