"""The gateway's closed lists of words. The standard library only, so that the command can show its help at once."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    PLANNING = "planning"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHING = "finishing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"  #: some chunks failed; the rest is a whole dataset
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({JobState.COMPLETED, JobState.COMPLETED_WITH_FAILURES, JobState.FAILED, JobState.CANCELLED})


class JobKind(StrEnum):
    """What a job adds to its dataset."""

    BUILD = "build"
    APPEND = "append"
    RETRY = "retry"
    REFRESH = "refresh"


class Gone(StrEnum):
    """What a refresh makes of a picture whose URL brings none any more."""

    KEEP = "keep"
    DROP = "drop"


class Notice(StrEnum):
    """Events that webhooks tell of."""

    JOB_COMPLETED = "job.completed"
    JOB_COMPLETED_WITH_FAILURES = "job.completed_with_failures"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    TEST = "webhook.test"


class DeliveryState(StrEnum):
    """Where a delivery of a webhook stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class CheckState(StrEnum):
    """Where the dry run of a list stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Trial(StrEnum):
    """What became of a row of a list that was tried."""

    IMAGE = "image"
    REFUSED = "refused"
    FAILED = "failed"
    NOT_TRIED = "not_tried"


class ListFormat(StrEnum):
    """Formats of a list; each may also be gzipped."""

    TXT = "txt"
    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


#: Endings of a list's name that tell its format, without the `.gz` that may follow.
LIST_ENDINGS = frozenset({*ListFormat, "text", "ndjson", "pq"})


class OutputFormat(StrEnum):
    """How accepted images lie in the destination."""

    FILES = "files"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"


class Depth(StrEnum):
    """How thoroughly an image is checked."""

    STRUCTURE = "structure"
    STANDARD = "standard"
    FULL = "full"


class ImageKind(StrEnum):
    """Formats that can be accepted, by what the bytes are."""

    JPEG = "jpg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"


class ImageFormat(StrEnum):
    """Formats that images can be stored in."""

    ORIGINAL = "original"
    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"


class ResizeMode(StrEnum):
    """How images are brought to `image_size`, as img2dataset names it."""

    NO = "no"
    BORDER = "border"
    KEEP_RATIO = "keep_ratio"
    KEEP_RATIO_LARGEST = "keep_ratio_largest"
    CENTER_CROP = "center_crop"


class ImageStatus(StrEnum):
    """Which rows to show."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class TakedownKind(StrEnum):
    """By what a thing is taken down."""

    URL = "url"
    HOST = "host"
    SHA256 = "sha256"
    PHASH = "phash"
