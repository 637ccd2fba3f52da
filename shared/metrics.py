"""Every metric: name, labels, buckets. Labels are enums, never URLs, hosts, tenants or ids.

Counters here count what this process tried. Sums of accepted and rejected images are gauges that the
scheduler reads from PostgreSQL, so that they agree with jobs and indexes. In a prefork worker (its
`app.py` imports `shared.broker` first) the children count in files keyed by pool slot, so that the files
stay few however often a child is replaced.
"""

import os

os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "true")  # read when prometheus_client is imported

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FILES_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_CHUNK_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 150, 300, 900)
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


def _pool_slot() -> str:
    """The place of this process in its prefork pool; "main" for the parent."""
    from billiard.process import current_process

    return str(getattr(current_process(), "index", "main"))


if FILES_VARIABLE in os.environ:
    values.ValueClass = values.MultiProcessValue(process_identifier=_pool_slot)  # type: ignore[no-untyped-call]

# --- stages -------------------------------------------------------------------------------------------
claims = Counter("pixcrawler_claims_total", "Bells answered, by what the claim gave", ["stage", "result"])
chunk_seconds = Histogram(
    "pixcrawler_chunk_seconds", "Time a stage held a chunk", ["stage", "result"], buckets=_CHUNK_SECONDS
)
rows_tried = Counter(
    "pixcrawler_rows_tried_total", "Rows a stage went through; a redone chunk counts again", ["stage", "result"]
)
bytes_tried = Counter(
    "pixcrawler_bytes_tried_total", "Bytes a stage fetched, kept or stored; redone ones again", ["stage"]
)
bells = Counter(
    "pixcrawler_bells_total", "Bells rung, by why and whether the broker took them", ["stage", "why", "result"]
)
fence_refused = Counter("pixcrawler_fence_refused_total", "Writes refused because the chunk had a new owner", ["stage"])
poison = Counter("pixcrawler_poison_messages_total", "Messages nobody could read", ["stage"])

# --- truth, exported by the leading scheduler -----------------------------------------------------------
leader = Gauge("pixcrawler_scheduler_leader", "1 in the scheduler that leads, 0 in one that stands by")
images = Gauge(
    "pixcrawler_images", "Rows of all jobs whose chunks have ended, by outcome and reason", ["outcome", "reason"]
)
chunks = Gauge("pixcrawler_chunks", "Chunks by state", ["state"])
slots_held = Gauge("pixcrawler_slots_held", "Admission slots that hold a chunk")
backlog = Gauge("pixcrawler_backlog_chunks", "Chunks waiting for admission", ["tier"])
admission_shut = Gauge("pixcrawler_admission_shut", "1 for the reason nothing is admitted", ["reason"])
leases_expired = Counter("pixcrawler_leases_expired_total", "Chunks taken from workers that fell silent", ["stage"])

# --- gateway ------------------------------------------------------------------------------------------
requests = Counter("pixcrawler_http_requests_total", "Answered requests", ["method", "route", "status"])
request_seconds = Histogram(
    "pixcrawler_http_request_seconds", "Time to the answer's first byte", ["method", "route"], buckets=_REQUEST_SECONDS
)


def exposition() -> bytes:
    """What /metrics answers: this process, or the sum over a prefork worker's processes."""
    if FILES_VARIABLE not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
