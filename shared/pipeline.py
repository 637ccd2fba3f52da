"""What happens to a chunk: states, stages, queues, retries, limits and tiers, declared once.

    pending ▶ download_ready ▶ downloading ▶ validate_ready ▶ validating ▶ upload_ready ▶ uploading ▶ cleaning
       ▲                                                                                    │           ├▶ completed
       └──── work area gone or cell dead: the slot is freed and the chunk starts again ─────┘           ├▶ failed
                                                                                                        └▶ cancelled

`…ing` falls back to `…_ready` on back-off or soft stop, `…_ready` to itself when a claim goes wrong, and
whatever holds a slot can go to `cleaning` with its outcome set. `shared/stage.py` carries a chunk along this
line, `shared/db/chunks.py` writes it down; broker, database constraint, metric labels and docs derive from
this page. Standard library only.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

#: Rows in a chunk, fixed by the product: small enough to lose, large enough to make the broker cheap.
CHUNK_ROWS = 500
#: Chunks in flight in the whole system unless the operator says otherwise (35 x 250 MB = 8.75 GB of work area).
MAX_CHUNKS = 35
#: Times a failed chunk is redriven before an administrator has to insist.
MAX_ROUNDS = 3

#: A worker owns its chunk this long after its last heartbeat, on the database's clock, unless the operator says
#: otherwise; it is heard this often within it.
LEASE = 60 * SECOND
BEATS_IN_A_LEASE = 4

#: The lone scheduler's lease, unless the operator says otherwise; it trusts itself a little less long than that.
LEADER_LEASE = 15 * SECOND


class ChunkState(StrEnum):
    """Where a chunk stands. The comment says who moves it on, and when."""

    PENDING = "pending"  #: the scheduler, when a slot is free: holds no slot
    DOWNLOAD_READY = "download_ready"  #: a downloader, when its bell rings
    DOWNLOADING = "downloading"  #: the downloader that holds the lease
    VALIDATE_READY = "validate_ready"  #: a validator, when its bell rings
    VALIDATING = "validating"  #: the validator that holds the lease
    UPLOAD_READY = "upload_ready"  #: an uploader, when its bell rings
    UPLOADING = "uploading"  #: the uploader that holds the lease
    CLEANING = "cleaning"  #: whoever ended it, else its cell's janitor, once the work area is gone
    COMPLETED = "completed"  #: nobody: its index is stored
    FAILED = "failed"  #: the scheduler, when an operator redrives it: out of attempts, or no retry can mend it
    CANCELLED = "cancelled"  #: nobody: the client withdrew the job


class Outcome(StrEnum):
    """How a chunk ended; the state it takes after `cleaning`."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def state(self) -> ChunkState:
        return ChunkState(self.value)


class JobState(StrEnum):
    """Where a client's request stands. The comment says who moves it on, and when."""

    QUEUED = "queued"  #: the scheduler, when it plans the first slice
    PLANNING = "planning"  #: the scheduler, when the list is read to its end; early chunks already run
    RUNNING = "running"  #: the scheduler, when the last chunk has ended
    PAUSED = "paused"  #: the client, by resume or cancel; chunks in flight drain
    FINISHING = "finishing"  #: the scheduler, when card, manifest and totals are stored
    CANCELLING = "cancelling"  #: the scheduler, when no chunk holds a slot
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"  #: the scheduler, if a failed chunk of it is redriven
    FAILED = "failed"  #: nothing could be built, the error says why; as before, if a failed chunk is redriven
    CANCELLED = "cancelled"


class JobKind(StrEnum):
    """What a job adds to its dataset. A dataset begins with `build`; each other one is a later revision of it."""

    BUILD = "build"  #: the rows of a list, in a new dataset
    APPEND = "append"  #: the rows of another list, behind those that are there
    RETRY = "retry"  #: rows that were rejected, once more, under their old numbers
    REFRESH = "refresh"  #: rows that were accepted, if their pictures are others by now, under their old numbers


class Gone(StrEnum):
    """What a refresh makes of a picture whose URL brings none any more."""

    KEEP = "keep"  #: the dataset keeps what it has
    DROP = "drop"  #: the row is rejected, unless what went wrong may pass


class CheckState(StrEnum):
    """Where the dry run of a list stands. The leading scheduler moves it on."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


FINAL_JOB_STATES = frozenset(
    {JobState.COMPLETED, JobState.COMPLETED_WITH_FAILURES, JobState.FAILED, JobState.CANCELLED}
)
#: Jobs whose chunks may be admitted.
ADMISSIBLE_JOB_STATES = frozenset({JobState.PLANNING, JobState.RUNNING})


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a chunk is tried again after an error of its own.

    `attempts` counts the first try. Trouble that is nobody's fault (an outage, a full disk) burns no
    attempt and waits `outage_delay`.
    """

    attempts: int
    first_delay: timedelta
    longest_delay: timedelta
    outage_delay: timedelta = 5 * SECOND
    #: Workers that may die under a chunk before it is given up.
    crashes: int = 3
    #: Times a chunk may begin anew because its work area was gone.
    restarts: int = 3

    def delay(self, attempt: int) -> timedelta:
        """The pause after the given attempt (1 = first), before jitter: doubled each time, bounded."""
        doubled: timedelta = self.first_delay * 2 ** max(0, min(attempt, 30) - 1)
        return min(doubled, self.longest_delay)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a chunk: a service, a queue, a dashboard."""

    name: str
    #: The package that does the work.
    service: str
    ready: ChunkState
    running: ChunkState
    retry: RetryPolicy
    #: The work on one chunk ends by itself within this; Celery's limits behind it are back-stops.
    deadline: timedelta
    #: How long a worker that was asked to stop may go on with its chunk.
    soft_stop: timedelta
    #: Chunks of one job are claimed from the lowest place up, so that the lowest duplicate wins.
    in_order: bool = False
    #: Whether a chunk of a cancelled job is still carried to the end of this stage: what is half stored
    #: would be objects without index rows.
    outlasts_cancel: bool = False

    @property
    def queue(self) -> str:
        return self.name

    @property
    def routing_key(self) -> str:
        return self.name

    @property
    def task(self) -> str:
        return f"pixcrawler.{self.name}_chunk"

    def queue_of(self, cell: str) -> str:
        """The queue of this stage for workers that share the work volume `cell`."""
        return self.queue if cell == DEFAULT_CELL else f"{self.queue}.{cell}"


#: Workers that share a work volume form a cell; the first one has no name in its queues.
DEFAULT_CELL = "main"

DOWNLOAD = Stage(
    name="download",
    service="downloader",
    ready=ChunkState.DOWNLOAD_READY,
    running=ChunkState.DOWNLOADING,
    retry=RetryPolicy(attempts=3, first_delay=10 * SECOND, longest_delay=10 * MINUTE),
    deadline=15 * MINUTE,
    soft_stop=25 * SECOND,
)
VALIDATE = Stage(
    name="validate",
    service="validator",
    ready=ChunkState.VALIDATE_READY,
    running=ChunkState.VALIDATING,
    retry=RetryPolicy(attempts=3, first_delay=10 * SECOND, longest_delay=10 * MINUTE),
    deadline=10 * MINUTE,
    soft_stop=15 * SECOND,
)
UPLOAD = Stage(
    name="upload",
    service="uploader",
    ready=ChunkState.UPLOAD_READY,
    running=ChunkState.UPLOADING,
    retry=RetryPolicy(attempts=5, first_delay=10 * SECOND, longest_delay=10 * MINUTE),
    deadline=15 * MINUTE,
    soft_stop=40 * SECOND,
    in_order=True,
    outlasts_cancel=True,
)

PIPELINE = (DOWNLOAD, VALIDATE, UPLOAD)

FINAL_STATES = frozenset(outcome.state for outcome in Outcome)
#: A slot stands for room in the work area: held from admission until the area is cleaned.
SLOT_STATES = frozenset(ChunkState) - FINAL_STATES - {ChunkState.PENDING}


def next_stage(stage: Stage) -> Stage | None:
    """The stage after this one; None after the last."""
    place = PIPELINE.index(stage) + 1
    return PIPELINE[place] if place < len(PIPELINE) else None


def stage_named(name: str) -> Stage:
    """The stage of that name. Raises KeyError for an unknown one."""
    return {stage.name: stage for stage in PIPELINE}[name]


def _allowed() -> dict[ChunkState, frozenset[ChunkState]]:
    moves: dict[ChunkState, set[ChunkState]] = {
        ChunkState.PENDING: {DOWNLOAD.ready, ChunkState.CLEANING},
        ChunkState.CLEANING: set(FINAL_STATES),
        ChunkState.FAILED: {ChunkState.PENDING},
        ChunkState.COMPLETED: set(),
        ChunkState.CANCELLED: set(),
    }
    for stage in PIPELINE:
        after = next_stage(stage)
        moves[stage.ready] = {stage.ready, stage.running, ChunkState.PENDING, ChunkState.CLEANING}
        moves[stage.running] = {
            stage.running,
            stage.ready,
            after.ready if after else ChunkState.CLEANING,
            ChunkState.CLEANING,
            ChunkState.PENDING,
        }
    return {state: frozenset(targets) for state, targets in moves.items()}


#: Every legal move; `shared/db/chunks.py` refuses any other.
ALLOWED_MOVES = _allowed()


class Tier(StrEnum):
    """A tenant's standing. Earlier in this list is served earlier, and nobody starves."""

    NEW = "new"
    ENTERPRISE = "enterprise"
    FREE = "free"

    @property
    def head_start(self) -> timedelta:
        """How much earlier than its fair start a chunk of this tier is served."""
        return {Tier.NEW: 600 * SECOND, Tier.ENTERPRISE: 180 * SECOND, Tier.FREE: 0 * SECOND}[self]

    @property
    def spacing(self) -> timedelta:
        """The time between the fair starts of two chunks of one tenant."""
        return {Tier.NEW: 2 * SECOND, Tier.ENTERPRISE: 2 * SECOND, Tier.FREE: 6 * SECOND}[self]


#: A tenant counts as new while its account is younger than this and within its first rows.
NEW_TENANT_AGE = timedelta(days=14)
NEW_TENANT_ROWS = 50_000


def tier_of(*, plan: Tier, created_at: datetime, now: datetime, rows_planned: int) -> Tier:
    """The tier of a tenant's next chunk: new within its first days and first rows, then its plan.

    Both must hold, so that signing up anew does not buy a place in front for ten million rows.
    """
    is_new = now - created_at < NEW_TENANT_AGE and rows_planned < NEW_TENANT_ROWS
    return Tier.NEW if is_new else plan
