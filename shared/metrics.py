"""Every metric: name, labels, buckets. Labels are enums, never URLs, hosts, tenants or ids.

Counters here count what this process tried. Sums of accepted and rejected images are gauges that the
scheduler reads from PostgreSQL, so that they agree with jobs and indexes. In a prefork worker (its
`app.py` imports `shared.broker` first) the children count in files keyed by pool slot, so that the files
stay few however often a child is replaced.
"""

import os

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FILES_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_CHUNK_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 150, 300, 900)
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_STORE_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
_BELL_SECONDS = (0.01, 0.1, 0.5, 1, 2.5, 10, 30, 120, 600)
_WAIT_SECONDS = (1, 10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


def _pool_slot() -> str:
    """The place of this process in its prefork pool; "main" for the parent."""
    from billiard.process import current_process

    return str(getattr(current_process(), "index", "main"))


if FILES_VARIABLE in os.environ:
    values.ValueClass = values.MultiProcessValue(process_identifier=_pool_slot)  # type: ignore[no-untyped-call]

#: What only the leading scheduler tells; see `publish_truth`.
TRUTH = CollectorRegistry()


def _truth(name: str, documentation: str, *labels: str) -> Gauge:
    return Gauge(name, documentation, labels, registry=TRUTH)


# --- stages -------------------------------------------------------------------------------------------
claims = Counter("pixcrawler_claims_total", "Bells answered, by what the claim gave", ["stage", "result"])
bell_wait = Histogram(
    "pixcrawler_bell_wait_seconds", "Time from a bell to the claim it led to", ["stage"], buckets=_BELL_SECONDS
)
chunk_seconds = Histogram(
    "pixcrawler_chunk_seconds",
    "Time a stage held a chunk, by how that ended",
    ["stage", "result"],
    buckets=_CHUNK_SECONDS,
)
chunk_errors = Counter(
    "pixcrawler_chunk_errors_total", "Chunks a stage could not finish, by the error's code", ["stage", "code"]
)
rows_tried = Counter(
    "pixcrawler_rows_tried_total",
    "Rows a stage went through, those rejected before included; a redone chunk counts again",
    ["stage", "result"],
)
bytes_tried = Counter(
    "pixcrawler_bytes_tried_total", "Bytes a stage fetched, kept or stored; redone ones again", ["stage"]
)
bells = Counter(
    "pixcrawler_bells_total", "Bells rung, by why and whether the broker took them", ["stage", "why", "result"]
)
fence_refused = Counter("pixcrawler_fence_refused_total", "Writes refused because the chunk had a new owner", ["stage"])
poison = Counter("pixcrawler_poison_messages_total", "Messages nobody could read", ["stage"])
worker_memory = Gauge(
    "pixcrawler_worker_memory_bytes",
    "Resident memory of a worker's processes; pages they share count for each",
    ["service", "kind"],
    multiprocess_mode="mostrecent",
)
worker_processes = Gauge(
    "pixcrawler_worker_processes", "Processes of a worker", ["service", "kind"], multiprocess_mode="mostrecent"
)

# --- what one stage has and the others have not ---------------------------------------------------------
host_leases = Counter(
    "pixcrawler_host_leases_total", "Leases to ask hosts, from Redis or, while it is away, by oneself", ["source"]
)
hosts_left_alone = Counter(
    "pixcrawler_hosts_left_alone_total", "Times a process began to leave a host alone, and why", ["why"]
)
decode_children = Counter(
    "pixcrawler_decode_children_total", "Decode children that were started, and that were lost and why", ["event"]
)
objects_held = Counter(
    "pixcrawler_dataset_objects_total", "Objects of datasets at their place, stored now or found there", ["result"]
)

# --- object stores --------------------------------------------------------------------------------------
store_seconds = Histogram(
    "pixcrawler_store_seconds", "Time of an operation of an object store", ["kind", "operation"], buckets=_STORE_SECONDS
)
store_errors = Counter(
    "pixcrawler_store_errors_total", "Operations that an object store failed", ["kind", "operation", "code"]
)

# --- truth, told by the leading scheduler ---------------------------------------------------------------
truth_read_at = _truth("pixcrawler_truth_read_timestamp_seconds", "When these figures were read, Unix time")
images = _truth(
    "pixcrawler_images", "Rows of all jobs whose chunks have ended, by outcome and reason", "outcome", "reason"
)
jobs = _truth("pixcrawler_jobs", "Jobs by state", "state")
chunks = _truth("pixcrawler_chunks", "Chunks by state", "state")
chunks_failed_open = _truth(
    "pixcrawler_chunks_failed_open", "Failed chunks that nobody has redriven or dropped; not those of cancelled jobs"
)
poison_kept = _truth("pixcrawler_poison_messages_kept", "Messages nobody could read that nobody has dropped")
ready_oldest = _truth(
    "pixcrawler_ready_oldest_seconds", "How long the oldest chunk has been ready for a stage", "stage"
)
stage_paused = _truth("pixcrawler_stage_paused", "1 while an administrator has paused the stage", "stage")
queue_messages = _truth("pixcrawler_queue_messages", "Bells that lie in a stage's queues", "stage")
waiting_set = _truth("pixcrawler_waiting_set_chunks", "Chunks in the priority set in Redis")
slots = _truth("pixcrawler_slots", "Admission slots there are")
slots_held = _truth("pixcrawler_slots_held", "Admission slots that hold a chunk")
slot_mismatches = _truth("pixcrawler_slot_mismatches", "Slots and chunks that contradict each other; always 0")
backlog = _truth("pixcrawler_backlog_chunks", "Chunks waiting for admission", "tier")
backlog_oldest = _truth(
    "pixcrawler_backlog_oldest_seconds", "How long the oldest chunk has waited for admission", "tier"
)
backlog_unserved = _truth(
    "pixcrawler_backlog_unserved_seconds", "The longest a waiting tenant has gone without a chunk let in", "tier"
)
notices_waiting = _truth("pixcrawler_notices_waiting", "Deliveries to webhooks that are still to be made")
notices_late = _truth(
    "pixcrawler_notices_late_seconds",
    "How long the delivery that has been due longest has waited, to a webhook that neither rests nor is disabled",
)
webhooks_disabled = _truth(
    "pixcrawler_webhooks_disabled", "Webhooks to which nothing is sent any more, because a delivery was given up"
)
admission_shut = _truth("pixcrawler_admission_shut", "1 for the reason nothing is admitted", "reason")
workers = _truth("pixcrawler_workers", "Workers of a stage that reported lately, by cell", "stage", "cell")
work_free_bytes = _truth("pixcrawler_work_free_bytes", "Free bytes of a cell's work volume", "cell")
work_total_bytes = _truth("pixcrawler_work_total_bytes", "Size of a cell's work volume", "cell")
work_free_inodes = _truth("pixcrawler_work_free_inodes", "Free inodes of a cell's work volume", "cell")
memory_available_bytes = _truth(
    "pixcrawler_memory_available_bytes", "Memory that the worker of a cell that has least may still use", "cell"
)

# --- scheduler ------------------------------------------------------------------------------------------
leader = Gauge("pixcrawler_scheduler_leader", "1 in the scheduler that leads, 0 in one that stands by")
term = Gauge("pixcrawler_scheduler_term", "Number of the term in which this scheduler leads or last led")
chore_seconds = Histogram(
    "pixcrawler_chore_seconds", "Time the scheduler took for one of its chores", ["chore"], buckets=_REQUEST_SECONDS
)
chores_hindered = Counter(
    "pixcrawler_chores_hindered_total", "Chores that a server's absence or trouble prevented", ["chore"]
)
admission_wait = Histogram(
    "pixcrawler_admission_wait_seconds",
    "Time from a chunk's planning to its admission",
    ["tier"],
    buckets=_WAIT_SECONDS,
)
leases_expired = Counter("pixcrawler_leases_expired_total", "Chunks taken from workers that fell silent", ["stage"])
images_purged = Counter("pixcrawler_images_purged_total", "Stored images deleted because they were taken down")
notices = Counter("pixcrawler_notices_total", "Attempts to deliver to a webhook, by how they ended", ["outcome"])
strays = Counter("pixcrawler_strays_total", "Objects that no index names, when they are first seen")
mended = Counter("pixcrawler_mended_total", "What the scheduler put right, beside leases and bells", ["what"])
dependency_up = Gauge("pixcrawler_dependency_up", "Whether a server answered the scheduler when last asked", ["server"])

# --- gateway ------------------------------------------------------------------------------------------
requests = Counter("pixcrawler_http_requests_total", "Answered requests", ["method", "route", "status"])
request_seconds = Histogram(
    "pixcrawler_http_request_seconds", "Time to the answer's first byte", ["method", "route"], buckets=_REQUEST_SECONDS
)
event_streams = Gauge("pixcrawler_event_streams", "Progress streams that are open")

_published = b""


def publish_truth() -> None:
    """From now on /metrics shows the truth gauges as they stand, all of one reading."""
    global _published
    _published = generate_latest(TRUTH)


def withdraw_truth() -> None:
    """Another tells the truth now; two would be summed up."""
    global _published
    _published = b""


def exposition() -> bytes:
    """What /metrics answers: this process, or the sum over a prefork worker's processes."""
    if FILES_VARIABLE not in os.environ:
        return generate_latest(REGISTRY) + _published
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
