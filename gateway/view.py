"""A job as clients see it, made of its row, its chunks in flight and their live figures. Values in, values out."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from gateway.schemas import Destination, JobError, JobOut, JobUrls, Refreshed, StageProgress
from shared.db.jobs import InFlight, JobRow
from shared.pipeline import PIPELINE, ChunkState, JobKind
from shared.progress import Live
from shared.reasons import Reason
from shared.recipe import Recipe

_VERBS = ("events", "images", "cancel", "pause", "resume", "append", "retry", "refresh", "clone")
#: How many stages a chunk in this state has behind it.
_STAGES_BEHIND = {
    **{stage.ready: place for place, stage in enumerate(PIPELINE)},
    **{stage.running: place for place, stage in enumerate(PIPELINE)},
    ChunkState.CLEANING: len(PIPELINE),
}


def view(
    job: JobRow, in_flight: Iterable[InFlight], live: Mapping[int, Live], *, base_url: str, ahead: int | None = None
) -> JobOut:
    """The job; `ahead` are the chunks before its next one. Without live figures stages move in steps of a heartbeat."""
    done = stage_rows(job.ended_rows, in_flight, live)
    return JobOut(
        id=job.id,
        dataset_id=job.dataset_id,
        revision=job.revision,
        kind=job.kind,
        name=job.name,
        state=job.state,
        destination=Destination(url=job.destination, endpoint=job.endpoint),
        recipe=Recipe.model_validate(job.recipe),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        rows=job.planned_rows,
        planned=job.is_planned,
        accepted=job.accepted,
        rejected=dict(job.rejected),
        refreshed=_refreshed(job) if job.kind is JobKind.REFRESH else None,
        stored_bytes=job.stored_bytes,
        progress={name: StageProgress(done=rows, total=job.planned_rows) for name, rows in done.items()},
        images_per_second=_rate(job),
        seconds_left=_seconds_left(job),
        chunks_ahead=ahead,
        waiting_for=job.waiting_for,
        error=JobError(code=job.error_code, detail=job.error or "") if job.error_code else None,
        urls=urls(job.id, base_url),
    )


def stage_rows(ended_rows: int, in_flight: Iterable[InFlight], live: Mapping[int, Live]) -> dict[str, int]:
    """Rows that each stage has done: all of ended chunks, and of those in flight what is known best."""
    done = {stage.name: ended_rows for stage in PIPELINE}
    for chunk in in_flight:
        for place, stage in enumerate(PIPELINE):
            done[stage.name] += _rows_of(chunk, place, stage.name, live.get(chunk.id))
    return done


def later(shown: JobOut, newer: JobOut) -> JobOut:
    """The newer view with no stage behind what was shown: a redone chunk does not run backwards before people.

    The sums of ended chunks are told as they are: they fall only when an administrator redrives a failed chunk.
    """
    return newer.model_copy(
        update={
            "progress": {
                name: StageProgress(
                    done=max(stage.done, newer.progress[name].done), total=max(stage.total, newer.progress[name].total)
                )
                for name, stage in shown.progress.items()
            },
        }
    )


def urls(job_id: UUID, base_url: str) -> JobUrls:
    job = f"{base_url}/v1/jobs/{job_id}"
    return JobUrls(self=job, **{verb: f"{job}/{verb}" for verb in _VERBS})


def _refreshed(job: JobRow) -> Refreshed:
    unchanged = job.rejected.get(Reason.UNCHANGED, 0)
    changed = job.accepted + job.rejected.get(Reason.DUPLICATE, 0)
    return Refreshed(unchanged=unchanged, changed=changed, gone=job.ended_rows - unchanged - changed)


def _rows_of(chunk: InFlight, place: int, stage: str, live: Live | None) -> int:
    if place < _STAGES_BEHIND[chunk.state]:
        return chunk.rows
    shown = live.done if live is not None and live.stage == stage else 0
    return min(chunk.rows, max(shown, chunk.progress.get(stage, 0)))


def _seconds_left(job: JobRow) -> float | None:
    rate = _rate(job)
    if job.is_final or not job.is_planned or not rate:
        return None
    return round((job.planned_rows - job.ended_rows) / rate, 1)


def _rate(job: JobRow) -> float | None:
    if job.started_at is None or not job.ended_rows:
        return None
    seconds = ((job.finished_at or job.seen_at) - job.started_at).total_seconds()
    return round(job.ended_rows / seconds, 2) if seconds > 0 else None
