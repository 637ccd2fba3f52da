"""What administrators send and see of the system itself, as JSON."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.schemas import JOB_ID, GoneName, RefreshIn, RetryIn, RetryReasons, storable
from shared.calendar import read_schedule
from shared.pipeline import ChunkState
from shared.quotas import read_limits
from shared.reasons import Reason


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


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class CalendarEntryIn(_Request):
    """A dataset that is retried or refreshed periodically; exactly one of the two schedules."""

    job: str = Field(pattern=JOB_ID, description="Any job of the dataset")
    reasons: RetryReasons = Field(
        default=None,
        min_length=1,
        max_length=len(Reason),
        description="Rows rejected for one of these; None: for any that may pass",
    )
    kind: Literal["retry", "refresh"] = Field(
        default="retry", description="Whether rejected rows are taken again, or accepted ones refreshed"
    )
    gone: GoneName | None = Field(default=None, description="Of a refresh, as when one is asked for; None: keep")
    every_seconds: int | None = Field(default=None, ge=60, le=366 * 86_400)
    cron: str | None = Field(default=None, max_length=200, description="Five fields, in UTC", examples=["0 3 * * *"])

    @model_validator(mode="after")
    def _has_a_schedule(self) -> Self:
        if (self.every_seconds is None) == (self.cron is None):
            raise ValueError("needs either every_seconds or cron")
        read_schedule(self.schedule, now=lambda: datetime.now(UTC))
        return self

    @model_validator(mode="after")
    def _speaks_of_its_kind(self) -> Self:
        if self.kind == "refresh" and self.reasons is not None:
            raise ValueError("reasons are of a retry; a refresh takes accepted rows")
        if self.kind == "retry" and self.gone is not None:
            raise ValueError("gone is of a refresh; a retry takes rejected rows")
        return self

    @property
    def asked(self) -> RetryIn | RefreshIn:
        """What is to be done when it is due."""
        if self.kind == "refresh":
            return RefreshIn() if self.gone is None else RefreshIn(gone=self.gone)
        return RetryIn(reasons=self.reasons)

    @property
    def schedule(self) -> dict[str, Any]:
        """As it is kept."""
        return {"cron": self.cron} if self.cron is not None else {"every_seconds": self.every_seconds}


def _limits(quotas: dict[str, int | None]) -> dict[str, int | None]:
    return {str(quota): limit for quota, limit in read_limits(quotas).items()}


def _printable(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("must be printable, and not only spaces")
    return name


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
Quotas = Annotated[
    dict[str, int | None],
    AfterValidator(_limits),
    Field(
        description="open_jobs, rows_a_day, bytes_a_day; null for no limit; what is not named is as for the tier",
        examples=[{"open_jobs": 5, "rows_a_day": None}],
    ),
]
Plan = Literal["enterprise", "free"]


class TenantIn(_Request):
    """A tenant to be."""

    name: Name = Field(examples=["cats"])
    plan: Plan = Field(
        default="free", description="The tier that is agreed; a young tenant is served as new all the same"
    )
    quotas: Quotas = Field(default_factory=dict)


class TenantChange(_Request):
    """What is to be otherwise; what is not named stays."""

    plan: Plan | None = None
    quotas: Quotas | None = Field(default=None, description="Instead of all those agreed before")
    suspended: bool | None = Field(default=None, description="Whether its keys are shut out; its jobs go on")


class TenantOut(BaseModel):
    """A tenant."""

    id: UUID
    name: str
    plan: str = Field(description="The tier that is agreed")
    tier: str = Field(description="The one that counts now: new, enterprise or free")
    quotas: dict[str, int | None]
    suspended_at: datetime | None
    rows_planned: int = Field(description="Of all its jobs")
    created_at: datetime


class UsageOut(BaseModel):
    """What a tenant has used; a day begins at midnight UTC."""

    open_jobs: int
    rows_a_day: int
    bytes_a_day: int


class TenantDetail(TenantOut):
    """A tenant, and what it has used today."""

    usage: UsageOut


class TenantsOut(BaseModel):
    """All tenants, by name."""

    data: list[TenantOut]


class KeyIn(_Request):
    """A key to be."""

    tenant: Name = Field(description="The name of its tenant, who must exist", examples=["cats"])
    name: Annotated[str, Field(max_length=100), AfterValidator(storable)] = Field(
        default="", description="What it is for"
    )
    scopes: Annotated[list[Literal["jobs:read", "jobs:write", "admin"]], Field(min_length=1, max_length=3)] = Field(
        default=["jobs:read", "jobs:write"]
    )
    days: Annotated[int, Field(ge=1, le=3650)] | None = Field(
        default=None, description="How long it is to work; null: until it is revoked"
    )


class RotateIn(_Request):
    """How a key is replaced."""

    overlap_hours: int = Field(default=24, ge=0, le=24 * 90, description="For so long both keys work")


class KeyOut(BaseModel):
    """A key, without its secret."""

    id: str
    tenant: str
    name: str
    scopes: list[str]
    is_valid: bool = Field(description="Neither revoked nor expired")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None = Field(description="Id of the key that takes its place")


class NewKeyOut(KeyOut):
    """A key that was just made."""

    key: str = Field(description="The key itself; nobody can show it again")


class KeysOut(BaseModel):
    """Keys, by tenant and age."""

    data: list[KeyOut]
