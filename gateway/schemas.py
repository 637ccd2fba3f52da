"""What goes in and comes out, as JSON. Requests are strict: no unknown field, no `"1"` for 1, no `false` for 0."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from shared.blocklist import Kind
from shared.manifest import ListFormat
from shared.pipeline import ChunkState, Gone, JobKind, JobState, Tier
from shared.quotas import Quota
from shared.reasons import Reason
from shared.recipe import Recipe

JOB_ID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_FORMATS = Literal["txt", "csv", "tsv", "json", "jsonl", "parquet"]


def storable(text: str) -> str:
    """Refuses what passes JSON and breaks further on: NUL, and halves of surrogate pairs."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds characters that cannot be stored (NUL or a lone surrogate)")
    return text


def _strict_recipe(value: object) -> object:
    """The recipe read as JSON, where strict still means that "full" is a depth and an array a tuple."""
    return value if isinstance(value, Recipe) else Recipe.model_validate_json(json.dumps(value), strict=True)


ColumnName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(storable)]
Text = Annotated[str, Field(max_length=16_384), AfterValidator(storable)]
Scalar = Text | int | float | bool | None


class StrictRequest(BaseModel):
    """A request's body, or a part of it."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Source(StrictRequest):
    """Where the list of URLs is: exactly one of the three."""

    rows: list[dict[ColumnName, Scalar]] | None = Field(
        default=None,
        min_length=1,
        description="The list itself, a row for each image; for long lists upload a manifest",
        examples=[[{"url": "https://example.com/cat.jpg", "caption": "a cat"}]],
    )
    manifest_id: Annotated[str, Field(pattern=r"^[0-9a-fA-F-]{36}$")] | None = Field(
        default=None, description="A list uploaded by POST /v1/manifests"
    )
    reference: Annotated[str, Field(max_length=4096), AfterValidator(storable)] | None = Field(
        default=None, description="A list elsewhere: az://container/path, s3://bucket/path or https://host/path"
    )

    @model_validator(mode="after")
    def _is_one(self) -> "Source":
        if sum(part is not None for part in (self.rows, self.manifest_id, self.reference)) != 1:
            raise ValueError("give exactly one of rows, manifest_id and reference")
        return self


class ListOptions(StrictRequest):
    """How the list is read."""

    format: _FORMATS | None = Field(default=None, description="None: as the file's name tells")
    url_col: ColumnName = "url"
    caption_col: ColumnName | None = Field(default=None, description="None: no captions")
    save_columns: list[ColumnName] = Field(default=[], max_length=100, description="Columns kept in the index")

    @property
    def list_format(self) -> ListFormat | None:
        return None if self.format is None else ListFormat(self.format)


class DestinationIn(StrictRequest):
    """Where the dataset is to lie."""

    url: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(storable)] = Field(
        description="A folder's whole path, az://container/prefix or s3://bucket/prefix",
        examples=["s3://datasets/cats"],
    )
    endpoint: Annotated[str, Field(max_length=1024), AfterValidator(storable)] | None = Field(
        default=None, description="Base URL of an S3-compatible store"
    )


class JobIn(StrictRequest):
    """A request for a dataset."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "cats",
                    "source": {"rows": [{"url": "https://example.com/cat.jpg", "caption": "a cat"}]},
                    "list": {"caption_col": "caption"},
                    "destination": {"url": "s3://datasets/cats"},
                    "recipe": {"min_image_size": 64, "output_format": "webdataset"},
                }
            ]
        }
    )

    name: Annotated[str, Field(max_length=200), AfterValidator(storable)] = ""
    source: Source
    list: ListOptions = Field(default_factory=ListOptions)
    destination: DestinationIn
    recipe: Annotated[Recipe, BeforeValidator(_strict_recipe)] = Field(default_factory=Recipe)


class AppendIn(StrictRequest):
    """More rows for a dataset. How the list is read is as with the job before, but for what is given."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"source": {"rows": [{"url": "https://example.com/another-cat.jpg"}]}}]}
    )

    name: Annotated[str, Field(max_length=200), AfterValidator(storable)] | None = Field(
        default=None, description="None: as the job before"
    )
    source: Source
    format: _FORMATS | None = Field(default=None, description="None: as the file's name tells")
    url_col: ColumnName | None = None
    caption_col: ColumnName | None = None


def _known_reason(value: object) -> object:
    """Strict means no other type; a reason's code is a string in JSON."""
    return Reason(value) if isinstance(value, str) and value in set(Reason) else value


RetryReasons = list[Annotated[Reason, BeforeValidator(_known_reason)]] | None


GoneName = Literal["keep", "drop"]


class RetryIn(StrictRequest):
    """Which rejected rows of a dataset are taken again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reasons": ["connect_timeout", "http_server_error"]}]})

    reasons: RetryReasons = Field(
        default=None,
        min_length=1,
        max_length=len(Reason),
        description="Rows rejected for one of these; None: for any that may pass",
    )


class RefreshIn(StrictRequest):
    """What a refresh makes of pictures that are gone by now."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"gone": "drop"}]})

    gone: GoneName = Field(
        default=Gone.KEEP.value,
        description=(
            "Of a picture whose URL brings none any more, or one that the recipe does not accept: keep it, or drop it "
            "unless what went wrong may pass. What opted out since is always dropped"
        ),
    )


class CloneIn(StrictRequest):
    """Another dataset from a job's list."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"destination": {"url": "s3://datasets/cats-256"}, "recipe": {"resize_mode": "border"}}]
        }
    )

    name: Annotated[str, Field(max_length=200), AfterValidator(storable)] | None = Field(
        default=None, description="None: the job's"
    )
    destination: DestinationIn
    recipe: Annotated[Recipe, BeforeValidator(_strict_recipe)] | None = Field(
        default=None, description="None: the job's; else the whole of it"
    )


class Destination(BaseModel):
    """Where the dataset lies, in canonical spelling."""

    url: str
    endpoint: str | None


class StageProgress(BaseModel):
    """How far a stage is, in rows."""

    done: int
    total: int = Field(description="Rows planned so far; final once `planned` is true")


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    detail: str


class JobUrls(BaseModel):
    """What can be asked of a job."""

    self: str
    events: str
    images: str
    cancel: str
    pause: str
    resume: str
    append: str
    retry: str
    refresh: str
    clone: str


class Refreshed(BaseModel):
    """What a refresh found, in rows of chunks that have ended."""

    unchanged: int = Field(description="The same picture as before, or a host that says so")
    changed: int = Field(description="Another picture, which is stored in place of the old one")
    gone: int = Field(description="None that could be had or accepted; `rejected` says which rows kept what they had")


class JobOut(BaseModel):
    """A job, its counts and its progress."""

    id: UUID
    dataset_id: UUID
    revision: int = Field(description="Of the dataset: 0 builds it, each later one adds to it")
    kind: JobKind
    name: str
    state: JobState
    destination: Destination
    recipe: Recipe
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    rows: int = Field(description="Rows of the list found so far")
    planned: bool = Field(description="Whether the list has been read to its end, so that `rows` is final")
    accepted: int = Field(description="Images stored, of chunks that have ended")
    rejected: dict[str, int] = Field(description="Rows rejected, by reason, of chunks that have ended")
    refreshed: Refreshed | None = Field(description="What was found, if it is a refresh")
    stored_bytes: int
    progress: dict[str, StageProgress] = Field(description="By stage: download, validate, upload")
    images_per_second: float | None = Field(description="Rows finished per second since the start")
    seconds_left: float | None = Field(description="At the rate so far; null while that cannot be told")
    chunks_ahead: int | None = Field(
        description="Chunks of all tenants to be admitted before its first, 10,000 at most; null unless all of it waits"
    )
    waiting_for: str = Field(description="Why it stands still; empty while it moves")
    error: JobError | None
    urls: JobUrls


class DeletionOut(BaseModel):
    """What is being deleted."""

    dataset_id: UUID
    destination: Destination


class JobPage(BaseModel):
    """Jobs, newest first."""

    data: list[JobOut]
    has_more: bool
    next_cursor: str | None


class ImagePage(BaseModel):
    """Rows of the index, in input order: the client's saved columns, then those of the dataset layout."""

    data: list[dict[str, Any]]
    has_more: bool
    next_cursor: str | None


class ObjectOut(BaseModel):
    """An object of a dataset: a shard, loose images' metadata, or an index."""

    key: str = Field(description="Relative to the dataset's place")
    size_bytes: int
    sha256: str
    url: str | None = Field(description="Reads it without a key until then; null where the store signs no links")
    expires_at: datetime | None


class ObjectPage(BaseModel):
    """Objects in key order."""

    data: list[ObjectOut]
    has_more: bool
    next_cursor: str | None


class ManifestOut(BaseModel):
    """An uploaded list."""

    id: UUID
    filename: str
    size_bytes: int
    sha256: str


class UploadOut(BaseModel):
    """A list that arrives in parts."""

    id: UUID = Field(description="Also the list's, once it is complete")
    filename: str
    size_bytes: int = Field(description="Bytes that have arrived; the next part begins there")
    is_complete: bool


class TakedownIn(StrictRequest):
    """What is to be neither fetched nor stored any more, in any dataset."""

    kind: Literal["url", "host", "sha256", "phash"] = Field(
        description="url: that address; host: that name and all below it; sha256: those bytes; phash: that picture"
    )
    value: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(storable)] = Field(
        description="Kept in its one spelling", examples=["https://example.com/cat.jpg"]
    )
    note: Annotated[str, Field(max_length=2000), AfterValidator(storable)] = Field(
        default="", description="Who asked, and where that is written down"
    )
    purge: bool = Field(default=False, description="Whether what is stored already is deleted, from every dataset")


class PurgeOut(BaseModel):
    """How far the deletion of what was stored is."""

    chunks_left: int = Field(description="Chunks in which it is not carried out, or which have not ended yet")
    images_removed: int
    finished_at: datetime | None


class TakedownOut(BaseModel):
    """A takedown in force; lifted, in the answer to its removal."""

    id: int
    kind: Kind
    value: str
    note: str
    created_at: datetime
    purge: PurgeOut | None = Field(description="null when what is stored already may stay")


class TakedownPage(BaseModel):
    """Takedowns, newest first."""

    data: list[TakedownOut]
    has_more: bool
    next_cursor: str | None


class FailedChoice(StrictRequest):
    """Which failed chunks are meant: all that meet what is given, and something must be given."""

    chunk: Annotated[int, Field(ge=1, lt=2**63)] | None = Field(default=None, description="That chunk")
    job: Annotated[str, Field(pattern=JOB_ID)] | None = Field(default=None, description="Those of that job")
    code: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(storable)] | None = Field(
        default=None, description="Those that failed with that error", examples=["store_refused"]
    )

    @model_validator(mode="after")
    def _is_some(self) -> "FailedChoice":
        if self.chunk is None and self.job is None and self.code is None:
            raise ValueError("give chunk, job or code")
        return self


class RedriveIn(FailedChoice):
    """Which failed chunks are tried again."""

    force: bool = Field(default=False, description="Also those that were redriven three times and failed again")


class DecidedOut(BaseModel):
    """What became of the chunks that were meant."""

    chunks: int = Field(description="So many are redriven, or dropped")
    passed_over: int = Field(description="So many stay failed: they were redriven too often")


class FailedChunkOut(BaseModel):
    """A chunk that failed: which rows of which job, where, why, and how often it was tried."""

    id: int
    job_id: UUID
    ordinal: int = Field(description="Its place in the job, from 0")
    first_row: int
    rows: int
    state: ChunkState
    stage: str | None = Field(description="The stage it failed in")
    error_code: str | None
    error: str | None
    attempts: int = Field(description="In that stage")
    crashes: int = Field(description="Workers that died under it in that stage")
    restarts: int = Field(description="Times it began anew because its work area was gone")
    redrives: int
    failed_at: datetime | None
    redrive_asked_at: datetime | None = Field(description="It waits to be redriven since then")
    dropped_at: datetime | None = Field(description="Its loss was accepted then")


class ChunkEventOut(BaseModel):
    """A move of a chunk."""

    from_state: ChunkState
    to_state: ChunkState
    actor: str
    error_code: str | None
    error: str | None
    at: datetime


class FailedChunkDetail(FailedChunkOut):
    """A chunk with its moves, oldest first."""

    history: list[ChunkEventOut]


class FailedChunkPage(BaseModel):
    """Open failed chunks, newest first."""

    data: list[FailedChunkOut]
    has_more: bool
    next_cursor: str | None


class PoisonOut(BaseModel):
    """A message that no worker could read."""

    id: int
    queue: str
    body: str = Field(description="Its first 4 KiB, as JSON")
    error: str
    seen_at: datetime


class PoisonPage(BaseModel):
    """Messages nobody could read, newest first."""

    data: list[PoisonOut]
    has_more: bool
    next_cursor: str | None


class QuotaOut(BaseModel):
    """One limit and what is used of it."""

    limit: int | None = Field(description="null: no limit")
    used: int


class Me(BaseModel):
    """Whose key this is."""

    tenant: str
    tier: str = Field(description="As agreed")
    tier_now: Tier = Field(description="The one that counts: a new account has a head start")
    scopes: list[str]
    quotas: dict[Quota, QuotaOut] = Field(description="A day begins at midnight UTC")
