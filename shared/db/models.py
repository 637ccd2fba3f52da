"""Every table, its columns and its constraints.

A *dataset* is what lies in a destination; a *job* is one request that adds a revision to it; a *chunk* is
500 rows of a job, the unit of work. There is no row for an image: results lie in the dataset's own index.
Times are the database's. No extension and nothing newer than PostgreSQL 15 is used.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.notices import DeliveryState
from shared.pipeline import SLOT_STATES, CheckState, ChunkState, JobKind, JobState, Outcome, Tier

Json = dict[str, Any]


class Base(DeclarativeBase):
    """The schema."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own contract
        datetime: DateTime(timezone=True),
        Json: JSONB,
        str: Text,
        bytes: LargeBinary,
        float: Double,
    }


def _one_of(column: str, values: Any, name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


def _now() -> Mapped[datetime]:
    return mapped_column(server_default=func.now())


class Tenant(Base):
    """Who submits jobs. `plan` is what was agreed; the tier that counts is derived from it and the age."""

    __tablename__ = "tenants"
    __table_args__ = (_one_of("plan", (Tier.ENTERPRISE, Tier.FREE), "tenants_plan"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    name: Mapped[str] = mapped_column(unique=True)
    plan: Mapped[str] = mapped_column(server_default=Tier.FREE)
    #: {"open_jobs": n, …}: what was agreed with this tenant; the rest is as for its tier (shared/quotas.py).
    quotas: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    rows_planned: Mapped[int] = mapped_column(BigInteger, server_default="0")
    #: The fair start of the tenant's newest chunk, seconds on the scheduler's virtual clock.
    last_virtual_start: Mapped[float] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = _now()
    suspended_at: Mapped[datetime | None]


class ApiKey(Base):
    """A way in. Only the hash of the secret is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(server_default="")
    secret_hash: Mapped[bytes]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    created_at: Mapped[datetime] = _now()
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None]  # id of the key that was made to take its place


class Dataset(Base):
    """What lies in one destination. Row numbers are dataset-wide and never reused."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("destination", "endpoint", name="datasets_destination"),
        Index("datasets_stale", "id", postgresql_where=text("is_stale")),
        Index("datasets_to_delete", "id", postgresql_where=text("delete_asked_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), index=True)
    destination: Mapped[str]
    endpoint: Mapped[str] = mapped_column(server_default="")
    revision: Mapped[int] = mapped_column(server_default="-1")  # of the newest job; -1: none yet
    next_row: Mapped[int] = mapped_column(BigInteger, server_default="0")
    #: Whether its papers speak of more than a purge has left.
    is_stale: Mapped[bool] = mapped_column(server_default="false")
    #: When its client wished it gone with all its jobs; the scheduler empties the destination, then removes the rows.
    delete_asked_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()


class Job(Base):
    """One request: a list of URLs, a recipe, and the revision of the dataset that it adds."""

    __tablename__ = "jobs"
    __table_args__ = (
        _one_of("state", JobState, "jobs_state"),
        _one_of("kind", JobKind, "jobs_kind"),
        UniqueConstraint("dataset_id", "revision", name="jobs_revision"),
        Index("jobs_newest", "tenant_id", text("created_at DESC"), "id"),
        Index(
            "jobs_unfinished",
            "state",
            postgresql_where=text("state NOT IN ('completed', 'completed_with_failures', 'failed', 'cancelled')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"))
    revision: Mapped[int]
    kind: Mapped[str] = mapped_column(server_default=JobKind.BUILD)
    name: Mapped[str] = mapped_column(server_default="")
    recipe: Mapped[Json]
    #: {"key", "format", "url_col", "caption_col", "save_columns", "digest"}: the list as it lies in the spool.
    #: Of a retry {"reasons", "digest"}: which rows of the dataset are taken again. Of a refresh {"gone", "digest"}.
    source: Mapped[Json]
    #: Same destination, list and recipe: the same run (sha256, hex).
    digest: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=JobState.QUEUED)
    #: Where planning goes on; opaque to all but the planner.
    cursor: Mapped[Json | None]
    planned_rows: Mapped[int] = mapped_column(BigInteger, server_default="0")
    planned_chunks: Mapped[int] = mapped_column(server_default="0")
    planned_at: Mapped[datetime | None]  # when the list had been read to its end
    #: Sums over ended chunks: {"accepted": n, "rejected": {reason: n}}.
    counts: Mapped[Json] = mapped_column(server_default=text("""'{"accepted": 0, "rejected": {}}'"""))
    stored_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    #: Rows of earlier revisions that this one takes again, by the reason they had: {reason: n}.
    replaced: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    #: Why it waits, for people: "no worker reports", "disk full", … Empty while it moves.
    waiting_for: Mapped[str] = mapped_column(server_default="")
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    traceparent: Mapped[str | None]  # with the request's id: shared/trace.py
    created_at: Mapped[datetime] = _now()
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default="1")


class Chunk(Base):
    """500 rows of a job on their way through the stages. `shared/db/chunks.py` is the only writer of `state`."""

    __tablename__ = "chunks"
    __table_args__ = (
        _one_of("state", ChunkState, "chunks_state"),
        _one_of("outcome", Outcome, "chunks_outcome"),
        UniqueConstraint("job_id", "ordinal", name="chunks_place"),
        Index("chunks_waiting", "score", "id", postgresql_where=text("state = 'pending'")),
        Index(
            "chunks_in_flight",
            "state",
            "id",
            postgresql_where=text("state IN (" + ", ".join(f"'{state}'" for state in sorted(SLOT_STATES)) + ")"),
        ),
        Index("chunks_failed", "id", postgresql_where=text("state = 'failed'")),
        Index("chunks_renewing", "id", postgresql_where=text("renews IS NOT NULL AND renewed_at IS NULL")),
        Index("chunks_renewed", "renews", postgresql_where=text("renews IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    first_row: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int]
    #: Where the planned rows lie: an Arrow stream at a byte range of a part in the spool.
    part_key: Mapped[str]
    part_offset: Mapped[int] = mapped_column(BigInteger)
    part_length: Mapped[int] = mapped_column(BigInteger)

    tier: Mapped[str] = mapped_column(String(16))
    virtual_start: Mapped[float]
    #: Order of admission, lowest first: the virtual start less the tier's head start, seconds.
    score: Mapped[float]

    state: Mapped[str] = mapped_column(server_default=ChunkState.PENDING)
    outcome: Mapped[str | None]
    #: Raised by every claim; every later write names it.
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default="0")  # in this stage
    crashes: Mapped[int] = mapped_column(SmallInteger, server_default="0")  # workers that died under it
    restarts: Mapped[int] = mapped_column(SmallInteger, server_default="0")  # times it began anew
    round: Mapped[int] = mapped_column(SmallInteger, server_default="0")  # times it was redriven after it had failed
    not_before: Mapped[datetime | None]
    ready_at: Mapped[datetime | None]
    #: When the bell was rung; empty in a `…_ready` state means: ring it. This is the outbox.
    dispatched_at: Mapped[datetime | None]
    rings: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    #: Fence of the draft the stage before published.
    work_fence: Mapped[int | None] = mapped_column(BigInteger)
    cell: Mapped[str | None]
    #: Whether its fingerprints are settled, so that later chunks of the job may settle theirs; and it may have stored
    #: objects. False again for a chunk that was dropped, once what it had stored is removed.
    is_settled: Mapped[bool] = mapped_column(server_default="false")
    #: {"accepted": n, "rejected": {reason: n}} once it has ended; the newest stage's before.
    counts: Mapped[Json] = mapped_column(server_default=text("""'{"accepted": 0, "rejected": {}}'"""))
    #: {"download": rows, "validate": rows, "upload": rows}: how far each stage is.
    progress: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    work_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    stored_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    traceparent: Mapped[str | None]  # with the request's id: shared/trace.py
    #: The highest `purge_no` that was carried out in its index and objects; -1 while one is.
    purged_to: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = _now()
    admitted_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    #: Of a failed chunk: when an administrator wished it redriven, and when one accepted its loss for good.
    redrive_asked_at: Mapped[datetime | None]
    dropped_at: Mapped[datetime | None]
    #: Of a chunk that is refreshed: the one whose rows it fetches again, and when that one was brought up to date.
    renews: Mapped[int | None] = mapped_column(ForeignKey("chunks.id", ondelete="SET NULL"))
    renewed_at: Mapped[datetime | None]
    #: How often a refresh has changed its index.
    edits: Mapped[int] = mapped_column(server_default="0")


class ChunkEvent(Base):
    """The history of a chunk: one row for each committed move, hence the proof that it happened once."""

    __tablename__ = "chunk_events"
    __table_args__ = (Index("chunk_events_of", "chunk_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    chunk_id: Mapped[int] = mapped_column(ForeignKey("chunks.id", ondelete="CASCADE"))
    fence: Mapped[int] = mapped_column(BigInteger)
    from_state: Mapped[str]
    to_state: Mapped[str]
    actor: Mapped[str]
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Slot(Base):
    """Room for one chunk in flight. Nothing is counted, so nothing leaks."""

    __tablename__ = "slots"

    no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    chunk_id: Mapped[int | None] = mapped_column(ForeignKey("chunks.id", ondelete="SET NULL"), unique=True)


class Cell(Base):
    """What one worker last measured of its cell's work volume and memory."""

    __tablename__ = "cells"

    name: Mapped[str] = mapped_column(primary_key=True)
    worker: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]  # as the worker sees it, a container's own
    free_bytes: Mapped[int] = mapped_column(BigInteger)
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    free_inodes: Mapped[int] = mapped_column(BigInteger)
    memory_available_bytes: Mapped[int] = mapped_column(BigInteger)
    memory_total_bytes: Mapped[int] = mapped_column(BigInteger)
    memory_is_own: Mapped[bool] = mapped_column(server_default="false")
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Leader(Base):
    """The lone scheduler's lease. Every admitting statement checks it."""

    __tablename__ = "leader"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    term: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]
    #: Virtual clock minus wall clock, seconds.
    clock_offset: Mapped[float] = mapped_column(server_default="0")
    #: {"shut": why nothing is let in, "queued": {stage: bells}}: what only the leader knows, for administrators.
    figures: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    figures_at: Mapped[datetime | None]


class PausedStage(Base):
    """A stage of which nothing is rung or claimed, by an administrator's wish."""

    __tablename__ = "paused_stages"

    stage: Mapped[str] = mapped_column(primary_key=True)
    paused_by: Mapped[str]  # id of the API key
    since: Mapped[datetime] = _now()


class Fingerprint(Base):
    """Which row of a dataset holds these bytes."""

    __tablename__ = "fingerprints"
    __table_args__ = (Index("fingerprints_of_rows", "dataset_id", "row"),)

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    row: Mapped[int] = mapped_column(BigInteger)


class DatasetObject(Base):
    """An object of a dataset, as its writer recorded it."""

    __tablename__ = "objects"
    __table_args__ = (Index("objects_of_chunk", "chunk_id"),)

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int]
    chunk_id: Mapped[int | None] = mapped_column(ForeignKey("chunks.id", ondelete="SET NULL"))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[bytes]


class Stray(Base):
    """An object that a chunk made and its index does not name."""

    __tablename__ = "strays"

    chunk_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Upload(Base):
    """A list a client uploaded into the spool, in parts or whole."""

    __tablename__ = "uploads"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    filename: Mapped[str]
    key: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    sha256: Mapped[str | None]
    is_complete: Mapped[bool] = mapped_column(server_default="false")
    created_at: Mapped[datetime] = _now()


class UploadPart(Base):
    """What has arrived of a list that is uploaded in parts."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[UUID] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # its first byte
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str]


class ListCheck(Base):
    """A dry run of an uploaded list: it is read whole, and nothing is stored."""

    __tablename__ = "list_checks"
    __table_args__ = (
        _one_of("state", CheckState, "list_checks_state"),
        Index("list_checks_open", "created_at", postgresql_where=text("finished_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    upload_id: Mapped[UUID] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(server_default="waiting")
    source: Mapped[Json]  # where the list lies, and how it is to be read
    report: Mapped[Json | None]
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = _now()
    finished_at: Mapped[datetime | None]


class CalendarEntry(Base):
    """What is done periodically."""

    __tablename__ = "calendar"

    name: Mapped[str] = mapped_column(primary_key=True)
    schedule: Mapped[Json]
    arguments: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    is_enabled: Mapped[bool] = mapped_column(server_default="true")
    last_due_at: Mapped[datetime | None]
    next_due_at: Mapped[datetime | None]  # for people


class CalendarRun(Base):
    """One due run of an entry, unique by its due time: nothing is done twice."""

    __tablename__ = "calendar_runs"
    __table_args__ = (Index("calendar_runs_open", "entry", postgresql_where=text("finished_at IS NULL")),)

    entry: Mapped[str] = mapped_column(ForeignKey("calendar.name", ondelete="CASCADE"), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None]


class PoisonMessage(Base):
    """A message nobody can read, kept for an operator."""

    __tablename__ = "poison_messages"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    queue: Mapped[str]
    body: Mapped[str]  # the first 4 KiB
    error: Mapped[str]
    seen_at: Mapped[datetime] = _now()


class IdempotencyKey(Base):
    """What was answered to a request that named this key."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[str]
    status: Mapped[int | None] = mapped_column(Integer)
    response: Mapped[Json | None]
    created_at: Mapped[datetime] = _now()


class Webhook(Base):
    """Where a tenant wants to be told of its jobs."""

    __tablename__ = "webhooks"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    url: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    #: Signing needs it as it is, so no hash of it would do; no answer shows it again.
    secret: Mapped[str]
    #: Signs too until then, so that its receiver can change over at leisure.
    old_secret: Mapped[str | None]
    old_secret_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()
    #: Nothing is sent until then: the last attempt was in vain.
    rests_until: Mapped[datetime | None]
    #: Nothing is sent while it is set; a delivery that was given up sets it.
    disabled_at: Mapped[datetime | None]
    disabled_why: Mapped[str] = mapped_column(server_default="")


class WebhookDelivery(Base):
    """A notice owed to a client, and afterwards the record of it."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        _one_of("state", DeliveryState, "webhook_deliveries_state"),
        Index("webhook_deliveries_newest", "webhook_id", text("created_at DESC"), "id"),
        Index("webhook_deliveries_due", "webhook_id", "next_attempt_at", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event: Mapped[str]
    #: What is sent: {"type", "timestamp", "data"}.
    payload: Mapped[Json]
    state: Mapped[str] = mapped_column(server_default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = _now()
    delivered_at: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = _now()


class Blocked(Base):
    """A takedown: what is neither fetched nor stored any more."""

    __tablename__ = "blocked"
    __table_args__ = (
        _one_of("kind", ("url", "host", "sha256", "phash"), "blocked_kind"),
        UniqueConstraint("kind", "value", name="blocked_value"),
        UniqueConstraint("purge_no", name="blocked_purge"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str]
    value: Mapped[str]
    note: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = _now()
    #: Set when what is stored already is to go too; higher ones were ordered later.
    purge_no: Mapped[int | None] = mapped_column(BigInteger)
    purge_asked_at: Mapped[datetime | None]
    purge_asked_by: Mapped[str | None]  # id of the API key
    purged_at: Mapped[datetime | None]


class Removal(Base):
    """A row that a purge emptied: the audit. It outlives dataset and takedown, and says nothing of the image."""

    __tablename__ = "removals"
    __table_args__ = (
        UniqueConstraint("chunk_id", "row", name="removals_place"),
        Index("removals_of", "takedown_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    dataset_id: Mapped[UUID]
    chunk_id: Mapped[int] = mapped_column(BigInteger)
    row: Mapped[int] = mapped_column(BigInteger)
    takedown_id: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str]
    ordered_by: Mapped[str | None]
    was_stored: Mapped[bool]  # else the row was rejected before, and only its words went
    noted_at: Mapped[datetime] = _now()
    removed_at: Mapped[datetime | None]
