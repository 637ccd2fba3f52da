"""What goes to the gateway and what comes back.

Names and values are the gateway's; a test holds both together. What is not set is not sent, so that the
gateway's defaults hold. Fields that a newer gateway adds are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from pixcrawler.words import (
    CheckState,
    DeliveryState,
    Depth,
    Gone,
    ImageFormat,
    ImageKind,
    JobKind,
    JobState,
    ListFormat,
    Notice,
    OutputFormat,
    ResizeMode,
    TakedownKind,
    Trial,
)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    def body(self) -> dict[str, Any]:
        """As JSON, without what was not set."""
        return self.model_dump(mode="json", exclude_unset=True, exclude_none=True)


class Recipe(_Request):
    """What is wanted of each image. None: as the gateway has it; the reference has each default."""

    depth: Depth | None = None
    formats: tuple[ImageKind, ...] | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    min_image_size: int | None = None
    max_image_area: int | None = None
    max_aspect_ratio: float | None = None
    max_pixels: int | None = None
    resize_mode: ResizeMode | None = None
    image_size: int | None = None
    resize_only_if_bigger: bool | None = None
    image_format: ImageFormat | None = None
    encode_quality: int | None = None
    keep_metadata: bool | None = None
    thumbnails: int | None = None
    deduplicate: bool | None = None
    output_format: OutputFormat | None = None
    robots: bool | None = None
    opt_out: bool | None = None
    attempts: int | None = None
    url_deadline_seconds: float | None = None


class Source(_Request):
    """Where the list is: exactly one of an upload's id, the rows themselves, and `az://…` or `s3://…`."""

    manifest_id: UUID | None = None
    rows: list[dict[str, Any]] | None = None
    reference: str | None = None


class ListOptions(_Request):
    """How the list is read."""

    format: ListFormat | None = None
    url_col: str | None = None
    caption_col: str | None = None
    save_columns: list[str] | None = None


class Destination(_Request):
    """A folder's whole path on the gateway's machine, az://container/prefix or s3://bucket/prefix."""

    url: str
    endpoint: str | None = None


class JobRequest(_Request):
    """A request for a dataset."""

    name: str = ""
    source: Source
    list: ListOptions = Field(default_factory=ListOptions)
    destination: Destination
    recipe: Recipe = Field(default_factory=Recipe)


class AppendRequest(_Request):
    """More rows for a job's dataset. How the list is read is as with the job before, but for what is set."""

    name: str | None = None
    source: Source
    format: ListFormat | None = None
    url_col: str | None = None
    caption_col: str | None = None


class RetryRequest(_Request):
    """Rows rejected for one of these reasons are taken again; None: for any that may pass."""

    reasons: list[str] | None = None


class RefreshRequest(_Request):
    """Accepted rows are looked at again; `gone` says what becomes of pictures that are gone by now."""

    gone: Gone = Gone.KEEP


class CloneRequest(_Request):
    """Another dataset from a job's list; without a recipe, by the job's."""

    name: str | None = None
    destination: Destination
    recipe: Recipe | None = None


class WebhookRequest(_Request):
    """Where to tell of which events; by default of the end of every job."""

    url: str
    events: list[Notice] | None = None


class RotateSecretRequest(_Request):
    """For how long the old secret signs beside the new one."""

    overlap_seconds: int | None = None


class TakedownRequest(_Request):
    """What is to be neither fetched nor stored any more."""

    kind: TakedownKind
    value: str
    note: str = ""
    purge: bool = False


class FailedChoice(_Request):
    """Which failed chunks are meant: all that meet what is given, and something must be given."""

    chunk: int | None = None
    job: str | None = None
    code: str | None = None


class RedriveRequest(FailedChoice):
    """Which failed chunks are tried again; with force also those that failed after three redrives."""

    force: bool = False


class Answered(BaseModel):
    """What came back; fields that a newer gateway adds are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class StageProgress(Answered):
    """How far a stage is, in rows."""

    done: int
    total: int


class JobError(Answered):
    """Why a job failed or was halted."""

    code: str
    detail: str


class Place(Answered):
    """Where a dataset lies, in canonical spelling."""

    url: str
    endpoint: str | None


class Refreshed(Answered):
    """What a refresh found, in rows."""

    unchanged: int
    changed: int
    #: What could not be had or accepted any more.
    gone: int


class Job(Answered):
    """A job, its counts and its progress."""

    id: UUID
    dataset_id: UUID
    #: Of the dataset: 0 builds it, each later one adds to it.
    revision: int
    kind: JobKind
    name: str
    state: JobState
    destination: Place
    #: With every default filled in.
    recipe: Mapping[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: Rows of the list found so far; all of them once `planned`.
    rows: int
    planned: bool
    accepted: int
    #: Rows by reason.
    rejected: Mapping[str, int]
    #: Of a refresh; None of another job, and from a gateway that does not know refreshes.
    refreshed: Refreshed | None = None
    stored_bytes: int
    #: By stage, in order: download, validate, upload.
    progress: Mapping[str, StageProgress]
    #: Rows finished per second since the start.
    images_per_second: float | None
    #: Until its end, at the rate so far; None while that cannot be told.
    seconds_left: float | None
    #: Chunks of all tenants to be admitted before its first, 10,000 at most; None unless all of it waits.
    chunks_ahead: int | None
    #: Why it stands still; empty while it moves.
    waiting_for: str
    error: JobError | None

    @property
    def rejected_rows(self) -> int:
        return sum(self.rejected.values())

    @property
    def ended_rows(self) -> int:
        return self.accepted + self.rejected_rows


class Webhook(Answered):
    """Where a tenant is told of its jobs."""

    id: UUID
    url: str
    events: list[str]
    created_at: datetime
    old_secret_until: datetime | None
    #: Nothing is sent since then.
    disabled_at: datetime | None
    disabled_why: str


class WebhookWithSecret(Webhook):
    """A webhook and its secret, which is told once."""

    secret: str


class WebhookList(Answered):
    """All webhooks."""

    data: list[Webhook]


class Delivery(Answered):
    """A notice, and how its delivery went."""

    id: UUID
    event: str
    payload: Mapping[str, Any]
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime


class DeliveryPage(Answered):
    """Deliveries, newest first."""

    data: list[Delivery]
    next_cursor: str | None


class StoredObject(Answered):
    """An object of a dataset, and a link that reads it until then; none where the store signs none."""

    key: str
    size_bytes: int
    sha256: str
    url: str | None
    expires_at: datetime | None


class ObjectPage(Answered):
    """Some objects, and where the next ones are."""

    data: list[StoredObject]
    next_cursor: str | None


class Spread(Answered):
    """How a quantity is distributed; quantiles are at most one per cent off."""

    count: int
    smallest: float
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    largest: float
    mean: float


class HostFigures(Answered):
    """A host of the list, and rows of it."""

    host: str
    rows: int


class Hosts(Answered):
    """Where the list's URLs lead; small ones are not counted when there are too many for it to be exact."""

    distinct: int
    is_exact: bool
    accepted: list[HostFigures]
    rejected: list[HostFigures]


class StageTime(Answered):
    """What chunks spent at a stage, added up."""

    working_seconds: float
    waiting_seconds: float


class Statistics(Answered):
    """A dataset in figures; each row counts once, as its newest revision has it."""

    dataset: UUID
    revision: int
    rows: int
    rows_without_index: int
    accepted: int
    rejected: int
    rejected_by_reason: dict[str, int]
    by_status: dict[str, int]
    http_status: dict[str, int]
    formats: dict[str, int]
    fetched_formats: dict[str, int]
    width: Spread | None
    height: Spread | None
    aspect_ratio: Spread | None
    original_width: Spread | None
    original_height: Spread | None
    image_bytes: Spread | None
    fetch_ms: Spread | None
    stored_bytes: int
    fetched_bytes: int
    with_caption: int
    caption_characters: Spread | None
    duplicates: dict[str, int]
    hosts: Hosts
    stages: dict[str, StageTime]


class Thumbnail(Answered):
    """A small picture of an image."""

    jpeg: bytes


class Manifest(Answered):
    """An uploaded list."""

    id: UUID
    filename: str
    size_bytes: int
    sha256: str


class Upload(Answered):
    """A list that arrives in parts: `size_bytes` have arrived."""

    id: UUID
    filename: str
    size_bytes: int
    is_complete: bool


class CheckRequest(_Request):
    """How an uploaded list is to be read. What is not set is guessed by the columns' names."""

    format: ListFormat | None = None
    url_col: str | None = None
    caption_col: str | None = None
    save_columns: list[str] = Field(default=[])


class BadRow(Answered):
    """A row that would be rejected without being fetched: its number from 0, and the line it ends on from 1."""

    row: int
    line: int | None
    reason: str
    detail: str


class HostRows(Answered):
    """A host and how many rows name it."""

    host: str
    rows: int


class ListColumns(Answered):
    """How a list was read."""

    format: str
    names: list[str]
    url: str
    caption: str | None
    url_is_guessed: bool
    caption_is_guessed: bool


class Tried(Answered):
    """A row of a list that was drawn to be tried."""

    row: int
    trial: Trial
    detail: str
    size_bytes: int | None
    seconds: float | None


class Estimate(Answered):
    """What the whole list would give and take, by the rows that were tried."""

    images: int
    size_bytes: int
    seconds: int


class ListReport(Answered):
    """What a list holds. `bad` are the first hundred bad rows, `duplicates` rows whose URL stands further up."""

    rows: int
    bad_rows: int
    rejected: dict[str, int]
    bad: list[BadRow]
    duplicates: int
    duplicates_are_exact: bool
    hosts: int
    hosts_are_exact: bool
    top_hosts: list[HostRows]
    columns: ListColumns
    sample: list[Tried]
    estimate: Estimate | None


class ListCheck(Answered):
    """A dry run of an uploaded list: `report` once it is done, `error` once it has failed."""

    id: UUID
    manifest_id: UUID
    state: CheckState
    created_at: datetime
    finished_at: datetime | None
    report: ListReport | None
    error: JobError | None

    @property
    def has_ended(self) -> bool:
        return self.state in (CheckState.DONE, CheckState.FAILED)


class Me(Answered):
    """Whose key it is."""

    tenant: str
    tier: Literal["new", "enterprise", "free"] | str
    scopes: list[str]


class Purge(Answered):
    """How far the deletion of what was stored is."""

    chunks_left: int
    images_removed: int
    finished_at: datetime | None


class Takedown(Answered):
    """A takedown in force; lifted, when it was removed by this answer."""

    id: int
    kind: TakedownKind
    value: str
    note: str
    created_at: datetime
    purge: Purge | None = None


class TakedownPage(Answered):
    """Takedowns, newest first."""

    data: list[Takedown]
    next_cursor: str | None


class FailedChunk(Answered):
    """A chunk of a job that failed, and how often it was tried."""

    id: int
    job_id: UUID
    ordinal: int
    first_row: int
    rows: int
    state: str
    #: The stage it failed in.
    stage: str | None
    error_code: str | None
    error: str | None
    attempts: int
    #: Workers that died under it.
    crashes: int
    redrives: int
    failed_at: datetime | None
    redrive_asked_at: datetime | None
    dropped_at: datetime | None


class ChunkEvent(Answered):
    """A move of a chunk."""

    from_state: str
    to_state: str
    actor: str
    error_code: str | None
    error: str | None
    at: datetime


class FailedChunkDetail(FailedChunk):
    """A chunk with its moves, oldest first."""

    history: list[ChunkEvent]


class FailedChunkPage(Answered):
    """Open failed chunks, newest first."""

    data: list[FailedChunk]
    next_cursor: str | None


class Decided(Answered):
    """What became of the chunks that were meant."""

    #: So many are redriven, or dropped.
    chunks: int
    #: So many stay failed, because they were redriven too often.
    passed_over: int


class PoisonMessage(Answered):
    """A message that no worker could read."""

    id: int
    queue: str
    body: str
    error: str
    seen_at: datetime


class PoisonPage(Answered):
    """Messages nobody could read, newest first."""

    data: list[PoisonMessage]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows: all that meet what is given. Times have a zone."""

    state: JobState | None = None
    kind: JobKind | None = None
    dataset: UUID | str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class Deletion(Answered):
    """What is being deleted."""

    dataset_id: UUID
    destination: Place


class JobPage(Answered):
    """Jobs, newest first."""

    data: list[Job]
    next_cursor: str | None


class ImagePage(Answered):
    """Rows of the dataset's index, in input order, as its columns are documented."""

    data: list[dict[str, Any]]
    next_cursor: str | None


@dataclass(frozen=True)
class Submission:
    """The job of a request; an equal request made before gives the same job again."""

    job: Job
    is_new: bool
