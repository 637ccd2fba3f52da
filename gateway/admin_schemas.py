"""What administrators send and see of the system itself, as JSON."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from shared.pipeline import ChunkState


class WorkerOut(BaseModel):
    """A worker that reports."""

    name: str
    host: str = Field(description="As the worker sees it: a container's own name")
    cell: str
    silent_seconds: float = Field(description="Since its last report; after 20 s it does not count any more")


class StageOut(BaseModel):
    """A stage: its queue, what it has before it and in hand, and who works at it."""

    name: str
    queue: str
    paused_at: datetime | None
    paused_by: str | None = Field(description="Id of the API key that paused it")
    ready: int = Field(description="Chunks waiting for a worker of this stage")
    running: int = Field(description="Chunks in a worker's hands; 0 for a paused stage means that it is drained")
    oldest_ready_seconds: float
    queued: int | None = Field(description="Bells in its queues, as of `read_at`; null when the broker did not answer")
    workers: list[WorkerOut]


class StagesOut(BaseModel):
    """The stages, in the order of the pipeline."""

    data: list[StageOut]
    is_led: bool = Field(description="Whether a scheduler leads now")
    read_at: datetime | None = Field(description="When the leading scheduler last read what only it knows")


class SlotOut(BaseModel):
    """A slot that is taken."""

    no: int
    chunk_id: int
    job_id: UUID
    tenant: str
    tier: str
    state: ChunkState
    owner: str | None = Field(description="The worker that has it in hand; null while it waits for one")
    cell: str | None
    attempt: int
    held_seconds: float
    lease_seconds: float | None = Field(description="Until its owner counts as lost")


class SlotsOut(BaseModel):
    """The slots that are taken, those longest taken first."""

    data: list[SlotOut]
    slots: int = Field(description="How many there are")
    held: int
    admission_shut: str | None = Field(
        description="Why nothing was let in as of `read_at`: nobody_reports, slots, disk, inodes, memory or paused"
    )
    is_led: bool = Field(description="Whether a scheduler leads now")
    read_at: datetime | None


class CalendarEntryOut(BaseModel):
    """What is done periodically."""

    name: str
    schedule: dict[str, Any] = Field(
        description="every_seconds, or cron in UTC", examples=[{"every_seconds": 3600}, {"cron": "0 3 * * *"}]
    )
    is_enabled: bool
    next_due_at: datetime | None = Field(description="null while it is paused or its run is open")
    last_due_at: datetime | None
    started_at: datetime | None = Field(description="When its newest run began")
    finished_at: datetime | None
    error: str | None = Field(description="What went wrong in its newest run")
    is_open: bool = Field(description="Whether a run waits or is being carried out")


class CalendarOut(BaseModel):
    """The calendar, by name."""

    data: list[CalendarEntryOut]
