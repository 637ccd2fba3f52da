"""A dataset in figures, as its scheduler kept them when a job ended."""

from fastapi import APIRouter, Request
from pydantic import ValidationError

from gateway.auth import Reader
from gateway.openapi import problems
from gateway.problems import ApiError, Code
from gateway.routes.jobs import JobId, find
from gateway.services import services_of
from shared.errors import StoreRefused
from shared.papers import STATISTICS_KEY
from shared.statistics import Statistics
from shared.storage.base import ObjectStore

routes = APIRouter(prefix="/v1/jobs", tags=["images"])

#: The figures take some kilobytes; whatever is larger was not written by us.
_MOST_BYTES = 1024**2


@routes.get(
    "/{job_id}/statistics",
    operation_id="getStatistics",
    responses=problems(Code.NOT_FOUND, Code.NO_STATISTICS, Code.DESTINATION_REFUSED, Code.STORE_UNAVAILABLE),
)
async def get_statistics(job_id: JobId, caller: Reader, request: Request) -> Statistics:
    """The job's dataset in figures, over all of its revisions; the same as `statistics.json` at the destination.

    They are made when a job of the dataset ends, and again when something was deleted from it.
    """
    services = services_of(request)
    job = await find(services, caller, job_id)
    try:
        async with services.resources.stores.at(job.destination, job.endpoint) as store:
            kept = await _kept(store)
    except StoreRefused as error:
        raise ApiError(Code.DESTINATION_REFUSED, str(error)) from error
    if kept is None or kept.dataset != job.dataset_id:
        raise ApiError(Code.NO_STATISTICS, "there are none yet; they are made when a job of the dataset ends")
    return kept


async def _kept(store: ObjectStore) -> Statistics | None:
    try:
        body = await store.get(STATISTICS_KEY, offset=0, length=_MOST_BYTES)
        return Statistics.model_validate_json(body)
    except (KeyError, ValidationError):
        return None
