"""Stages and slots: what waits, who works, who holds what; a stage is paused and resumed. For administrators."""

from collections.abc import Sequence
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Request

from gateway.admin_schemas import SlotOut, SlotsOut, StageOut, StagesOut, WorkerOut
from gateway.auth import Admin
from gateway.idempotency import IdempotentRoute
from gateway.openapi import problems
from gateway.services import services_of
from shared.db import cells, leader, slots, stages
from shared.db.cells import Report
from shared.db.leader import Told
from shared.db.session import Connection, transaction
from shared.db.stages import Pause, Standing
from shared.pipeline import PIPELINE, Stage

routes = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=IdempotentRoute)
_STAGES = {stage.name: stage for stage in PIPELINE}
StageName = Annotated[str, Path(pattern=f"^({'|'.join(_STAGES)})$", description="Its name")]

log = structlog.get_logger("gateway")


@routes.get("/stages", operation_id="listStages", responses=problems())
async def list_stages(caller: Admin, request: Request) -> StagesOut:
    """Each stage's queue, chunks and workers."""
    async with transaction(services_of(request).resources.engine) as connection:
        return await _stages(connection)


@routes.post("/stages/{stage}/pause", operation_id="pauseStage", responses=problems())
async def pause_stage(stage: StageName, caller: Admin, request: Request) -> StagesOut:
    """No worker takes another chunk of this stage until it is resumed; chunks in hand come to their end.

    The stage is drained once its `running` is 0. Admission rests while the first stage is paused.
    """
    async with transaction(services_of(request).resources.engine) as connection:
        await stages.pause(connection, _STAGES[stage], by=caller.key_id)
        found = await _stages(connection)
    log.warning("stage_paused", stage=stage, key=caller.key_id)
    return found


@routes.post("/stages/{stage}/resume", operation_id="resumeStage", responses=problems())
async def resume_stage(stage: StageName, caller: Admin, request: Request) -> StagesOut:
    """Lets a paused stage go on, at once."""
    async with transaction(services_of(request).resources.engine) as connection:
        await stages.resume(connection, _STAGES[stage])
        found = await _stages(connection)
    log.warning("stage_resumed", stage=stage, key=caller.key_id)
    return found


@routes.get("/slots", operation_id="listSlots", responses=problems())
async def list_slots(caller: Admin, request: Request) -> SlotsOut:
    """Who holds which slot, since when, and why nothing more is let in."""
    async with transaction(services_of(request).resources.engine) as connection:
        told, taken = await leader.told(connection), await slots.held(connection)
        there_are, _ = await slots.counted(connection)
    return SlotsOut(
        data=[SlotOut.model_validate(slot, from_attributes=True) for slot in taken],
        slots=there_are,
        held=len(taken),
        admission_shut=told.figures.get("shut"),
        is_led=told.is_led,
        read_at=told.at,
    )


async def _stages(connection: Connection) -> StagesOut:
    standings, paused = await stages.standings(connection), await stages.paused(connection)
    told, reports = await leader.told(connection), await cells.reports(connection)
    return StagesOut(
        data=[_stage(stage, standings[stage.name], paused.get(stage.name), told, reports) for stage in PIPELINE],
        is_led=told.is_led,
        read_at=told.at,
    )


def _stage(stage: Stage, standing: Standing, pause: Pause | None, told: Told, reports: Sequence[Report]) -> StageOut:
    return StageOut(
        name=stage.name,
        queue=stage.queue,
        paused_at=pause.since if pause else None,
        paused_by=pause.by if pause else None,
        ready=standing.ready,
        running=standing.running,
        oldest_ready_seconds=standing.oldest_ready_seconds,
        queued=(told.figures.get("queued") or {}).get(stage.name),
        workers=[
            WorkerOut(
                name=report.worker,
                host=report.host,
                cell=report.cell,
                silent_seconds=max(0.0, report.age.total_seconds()),
            )
            for report in sorted(reports, key=lambda report: report.worker)
            if report.service == stage.service
        ],
    )
