"""Ends jobs: dataset.json and the card with the final sums, `_SUCCESS` last, then the job's last state."""

import structlog

from shared.db import leader, lifecycle
from shared.db.leader import Term
from shared.db.lifecycle import Finished
from shared.db.session import transaction
from shared.errors import PixCrawlerError, StoreRefused
from shared.index import saved_fields
from shared.papers import Dataset, PaperState
from shared.pipeline import JobState
from shared.publishing import publish_papers
from shared.resources import Resources
from shared.version import VERSION

log = structlog.get_logger(__name__)


async def finish_jobs(resources: Resources, term: Term) -> None:
    """Finishes every job whose chunks have all ended. One whose store is away is tried again at the next look."""
    async with leader.leading(resources.engine, term) as connection:
        await lifecycle.begin_finishing(connection)
    async with transaction(resources.engine) as connection:
        ended = await lifecycle.to_finish(connection)
    for job in ended:
        try:
            await _finish(resources, term, job)
        except StoreRefused as error:
            log.error("papers_refused", job=str(job.job_id), error=str(error))
            await _conclude(resources, term, job, JobState.FAILED)
        except PixCrawlerError as error:
            log.warning("job_not_finished", job=str(job.job_id), error=str(error))


async def _finish(resources: Resources, term: Term, job: Finished) -> None:
    store = await resources.stores.at(job.destination, job.endpoint)
    await publish_papers(store, await _papers_of(resources, job), is_whole=job.state is JobState.FINISHING)
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
    return JobState.COMPLETED_WITH_FAILURES if job.counts["accepted"] else JobState.FAILED


async def _papers_of(resources: Resources, job: Finished) -> Dataset:
    async with transaction(resources.engine) as connection:
        objects = await lifecycle.objects_of(connection, job.dataset_id)
        first = await lifecycle.first_source(connection, job.job_id)
    return Dataset(
        dataset_id=job.dataset_id,
        job_id=job.job_id,
        revision=job.revision,
        name=job.name,
        state=PaperState.COMPLETE if job.state is JobState.FINISHING else PaperState.CANCELLED,
        recipe=job.recipe,
        list_digest=job.source["digest"],
        software_version=VERSION,
        rows=job.planned_rows,
        accepted=job.counts["accepted"],
        rejected=job.counts["rejected"],
        saved=saved_fields(await resources.source(first)) if first else (),
        objects=objects,
    )
