"""The dashboards: one of the whole system, one of the gateway, of the scheduler and of each stage.

What the leading scheduler tells is taken by `max`, so that a change of leadership shows no double figures.
"""

from collections.abc import Iterable

from infra.grafana.panels import Dashboard, Panel, Query, Row
from shared.pipeline import DOWNLOAD, UPLOAD, VALIDATE, Stage
from shared.reasons import REASONS, Group

_RATE = "[$__rate_interval]"


def _one(title: str, expr: str, *, unit: str = "short", description: str = "") -> Panel:
    """A number."""
    return Panel(title=title, queries=(Query(expr=expr),), unit=unit, kind="stat", description=description)


def _lines(
    title: str, *queries: tuple[str, str], unit: str = "short", description: str = "", is_stacked: bool = False
) -> Panel:
    """Curves: pairs of expression and legend."""
    return Panel(
        title=title,
        queries=tuple(Query(expr=expr, legend=legend) for expr, legend in queries),
        unit=unit,
        description=description,
        is_stacked=is_stacked,
    )


def _rate(metric: str, *by: str, only: str = "") -> str:
    return f"sum by ({', '.join(by)}) (rate({metric}{{{only}}}{_RATE}))"


def _told(metric: str, *by: str, only: str = "") -> str:
    """What the leader tells."""
    selected = f"{metric}{{{only}}}" if only else metric
    return f"max by ({', '.join(by)}) ({selected})" if by else f"max({selected})"


def _quantiles(metric: str, *by: str, only: str = "") -> tuple[tuple[str, str], ...]:
    labels = "".join(f"{{{{{label}}}}} " for label in by)
    grouped = _rate(f"{metric}_bucket", "le", *by, only=only)
    return tuple((f"histogram_quantile({share}, {grouped})", f"{labels}{name}") for share, name in _SHARES)


_SHARES = ((0.5, "half"), (0.95, "19 in 20"))


def _rejected(groups: Iterable[Group]) -> str:
    chosen = "|".join(reason.value for reason, about in REASONS.items() if about.group in groups)
    return _told("pixcrawler_images", "reason", only=f'reason=~"{chosen}"')


_SHUT = _lines(
    "Why nothing is let in",
    (_told("pixcrawler_admission_shut", "reason"), "{{reason}}"),
    description="`slots` is normal under load; anything else wants room or a worker",
)

SYSTEM = Dashboard(
    uid="pixcrawler-system",
    title="PixCrawler: system",
    rows=(
        Row(
            title="Now",
            panels=(
                _one("Accepted images", _told("pixcrawler_images", only='outcome="accepted"')),
                _one(
                    "Rejected share",
                    'sum(pixcrawler_images{outcome="rejected"}) / clamp_min(sum(pixcrawler_images), 1)',
                    unit="percentunit",
                ),
                _one("Open jobs", 'sum(pixcrawler_jobs{state!~"completed.*|failed|cancelled"})'),
                _one("Chunks waiting", "sum(pixcrawler_backlog_chunks)"),
                _one("Slots taken", "max(pixcrawler_slots_held) / max(pixcrawler_slots)", unit="percentunit"),
                _one("Failed chunks to decide about", _told("pixcrawler_chunks_failed_open")),
            ),
        ),
        Row(
            title="Throughput",
            panels=(
                _lines(
                    "Rows a second",
                    (_rate("pixcrawler_rows_tried_total", "stage", only='result="passed"'), "{{stage}}"),
                ),
                _lines("Bytes a second", (_rate("pixcrawler_bytes_tried_total", "stage"), "{{stage}}"), unit="Bps"),
                _lines("Rejected rows by reason", (f"topk(12, {_rejected(Group)})", "{{reason}}")),
            ),
        ),
        Row(
            title="The line",
            panels=(
                _lines(
                    "Chunks in flight",
                    (
                        _told("pixcrawler_chunks", "state", only='state!~"pending|completed|failed|cancelled"'),
                        "{{state}}",
                    ),
                    is_stacked=True,
                    description="A stage that is too slow piles up chunks in its `…_ready` state",
                ),
                _lines(
                    "Oldest ready chunk", (_told("pixcrawler_ready_oldest_seconds", "stage"), "{{stage}}"), unit="s"
                ),
                _lines(
                    "Slots",
                    (_told("pixcrawler_slots_held"), "held"),
                    (_told("pixcrawler_slots"), "there are"),
                ),
                _lines("Chunks waiting for admission", (_told("pixcrawler_backlog_chunks", "tier"), "{{tier}}")),
                _lines(
                    "A waiting tenant was last served",
                    (_told("pixcrawler_backlog_unserved_seconds", "tier"), "{{tier}} ago"),
                    unit="s",
                ),
                _SHUT,
                _lines("Paused stages", (_told("pixcrawler_stage_paused", "stage"), "{{stage}}")),
            ),
        ),
        Row(
            title="What it stands on",
            panels=(
                _lines("Services up", ("sum by (job) (up)", "{{job}}")),
                _lines("Workers", ("sum by (stage) (pixcrawler_workers)", "{{stage}}")),
                _lines("Servers that answer", ("min by (server) (pixcrawler_dependency_up)", "{{server}}")),
                _lines("Free on work volumes", (_told("pixcrawler_work_free_bytes", "cell"), "{{cell}}"), unit="bytes"),
                _lines("Free inodes on work volumes", (_told("pixcrawler_work_free_inodes", "cell"), "{{cell}}")),
                _lines(
                    "Memory left to the tightest worker",
                    (_told("pixcrawler_memory_available_bytes", "cell"), "{{cell}}"),
                    unit="bytes",
                ),
                _lines("Chunks in trouble", (_rate("pixcrawler_chunk_errors_total", "code"), "{{code}}"), unit="cps"),
                _lines("Store time", *_quantiles("pixcrawler_store_seconds", "kind"), unit="s"),
                _lines(
                    "Store failures",
                    (_rate("pixcrawler_store_errors_total", "kind", "code"), "{{kind}} {{code}}"),
                    unit="cps",
                ),
            ),
        ),
    ),
)

GATEWAY = Dashboard(
    uid="pixcrawler-gateway",
    title="PixCrawler: gateway",
    rows=(
        Row(
            title="Requests",
            panels=(
                _lines(
                    "Requests a second by status",
                    (_rate("pixcrawler_http_requests_total", "status"), "{{status}}"),
                    unit="reqps",
                ),
                _lines(
                    "Requests a second by route",
                    (_rate("pixcrawler_http_requests_total", "method", "route"), "{{method}} {{route}}"),
                    unit="reqps",
                ),
                _lines(
                    "Time to the first byte",
                    *_quantiles("pixcrawler_http_request_seconds", "method", "route"),
                    unit="s",
                ),
                _one(
                    "Server errors",
                    '(sum(rate(pixcrawler_http_requests_total{status=~"5.."}[$__rate_interval])) or vector(0))'
                    " / clamp_min(sum(rate(pixcrawler_http_requests_total[$__rate_interval])), 0.001)",
                    unit="percentunit",
                ),
                _one("Open streams", "sum(pixcrawler_event_streams)"),
                _one("Jobs ever", "sum(pixcrawler_jobs)"),
            ),
        ),
        Row(
            title="Process",
            panels=(
                _lines("Memory", ('process_resident_memory_bytes{job="gateway"}', "{{instance}}"), unit="bytes"),
                _lines(
                    "Processor",
                    ('rate(process_cpu_seconds_total{job="gateway"}[$__rate_interval])', "{{instance}}"),
                    unit="percentunit",
                ),
                _lines("Open files", ('process_open_fds{job="gateway"}', "{{instance}}")),
            ),
        ),
    ),
)

SCHEDULER = Dashboard(
    uid="pixcrawler-scheduler",
    title="PixCrawler: scheduler",
    rows=(
        Row(
            title="Leadership",
            panels=(
                _one(
                    "Leaders",
                    "sum(pixcrawler_scheduler_leader)",
                    description="One, always; two for a moment is harmless",
                ),
                _one("Term", "max(pixcrawler_scheduler_term)", description="Rises with each change of leadership"),
                _one("Figures read", "time() - max(pixcrawler_truth_read_timestamp_seconds)", unit="s"),
                _one("Contradicting slots", _told("pixcrawler_slot_mismatches")),
                _one("Priority set", _told("pixcrawler_waiting_set_chunks")),
                _one("Unreadable messages kept", _told("pixcrawler_poison_messages_kept")),
                _one("Chunks planned", "sum(pixcrawler_chunks)"),
                _one(
                    "Images purged",
                    "sum(pixcrawler_images_purged_total)",
                    description="By this scheduler since its start",
                ),
            ),
        ),
        Row(
            title="Admission",
            panels=(
                _lines(
                    "Chunks let in a second",
                    (_rate("pixcrawler_admission_wait_seconds_count", "tier"), "{{tier}}"),
                    unit="cps",
                ),
                _lines("From planning to admission", *_quantiles("pixcrawler_admission_wait_seconds"), unit="s"),
                _lines(
                    "Oldest waiting chunk", (_told("pixcrawler_backlog_oldest_seconds", "tier"), "{{tier}}"), unit="s"
                ),
                _lines(
                    "Slots",
                    (_told("pixcrawler_slots_held"), "held"),
                    (_told("pixcrawler_slots"), "there are"),
                ),
                _SHUT,
                _lines(
                    "Jobs",
                    (_told("pixcrawler_jobs", "state", only='state!~"completed.*|failed|cancelled"'), "{{state}}"),
                ),
            ),
        ),
        Row(
            title="Webhooks",
            panels=(
                _lines(
                    "Attempts to deliver by outcome",
                    (_rate("pixcrawler_notices_total", "outcome"), "{{outcome}}"),
                    unit="cps",
                    description="`put_off` comes again after a pause; `given_up` has disabled its webhook",
                ),
                _lines("Deliveries to be made", (_told("pixcrawler_notices_waiting"), "deliveries")),
                _one(
                    "Longest due",
                    _told("pixcrawler_notices_late_seconds"),
                    unit="s",
                    description="Of deliveries to webhooks that neither rest after a failure nor are disabled",
                ),
                _one("Disabled webhooks", _told("pixcrawler_webhooks_disabled")),
            ),
        ),
        Row(
            title="Its chores",
            panels=(
                _lines("Time of a chore", *_quantiles("pixcrawler_chore_seconds", "chore"), unit="s"),
                _lines("Hindered", (_rate("pixcrawler_chores_hindered_total", "chore"), "{{chore}}"), unit="cps"),
                _lines(
                    "Bells by why",
                    (_rate("pixcrawler_bells_total", "why", "result"), "{{why}} {{result}}"),
                    unit="cps",
                    description="`rung_again` says that nobody came; `failed` that the broker took none",
                ),
                _lines(
                    "Leases that ran out", (_rate("pixcrawler_leases_expired_total", "stage"), "{{stage}}"), unit="cps"
                ),
                _lines("Put right", (_rate("pixcrawler_mended_total", "what"), "{{what}}"), unit="cps"),
                _lines("Stray objects found", (_rate("pixcrawler_strays_total"), "objects"), unit="cps"),
                _lines("Memory", ('process_resident_memory_bytes{job="scheduler"}', "{{instance}}"), unit="bytes"),
            ),
        ),
    ),
)


def _stage(stage: Stage, *own: Row) -> Dashboard:
    only = f'stage="{stage.name}"'
    states = f'state=~"{stage.ready}|{stage.running}"'
    return Dashboard(
        uid=f"pixcrawler-{stage.service}",
        title=f"PixCrawler: {stage.service}",
        rows=(
            Row(
                title="Its queue",
                panels=(
                    _one("Workers", f"sum(pixcrawler_workers{{{only}}})"),
                    _one("Bells in the queue", f"max(pixcrawler_queue_messages{{{only}}})"),
                    _one("Oldest ready chunk", f"max(pixcrawler_ready_oldest_seconds{{{only}}})", unit="s"),
                    _one("Messages nobody could read", f"sum(pixcrawler_poison_messages_total{{{only}}})"),
                    _one("Refused by a new owner", f"sum(pixcrawler_fence_refused_total{{{only}}})"),
                    _one("Leases that ran out", f"sum(pixcrawler_leases_expired_total{{{only}}})"),
                    _lines("Chunks", (_told("pixcrawler_chunks", "state", only=states), "{{state}}"), is_stacked=True),
                    _lines("From bell to claim", *_quantiles("pixcrawler_bell_wait_seconds", only=only), unit="s"),
                    _lines(
                        "Bells answered",
                        (_rate("pixcrawler_claims_total", "result", only=only), "{{result}}"),
                        unit="cps",
                    ),
                ),
            ),
            Row(
                title="Its work",
                panels=(
                    _lines(
                        "Rows a second",
                        (_rate("pixcrawler_rows_tried_total", "result", only=only), "{{result}}"),
                        unit="cps",
                    ),
                    _lines(
                        "Bytes a second",
                        (_rate("pixcrawler_bytes_tried_total", "stage", only=only), "{{stage}}"),
                        unit="Bps",
                    ),
                    _lines(
                        "Chunks a second, by end",
                        (_rate("pixcrawler_chunk_seconds_count", "result", only=only), "{{result}}"),
                        unit="cps",
                    ),
                    _lines(
                        "Time of a chunk",
                        *_quantiles("pixcrawler_chunk_seconds", only=f'{only},result="completed"'),
                        unit="s",
                    ),
                    _lines(
                        "Trouble by code",
                        (_rate("pixcrawler_chunk_errors_total", "code", only=only), "{{code}}"),
                        unit="cps",
                    ),
                    _lines(
                        "Bells to it, by why",
                        (_rate("pixcrawler_bells_total", "why", "result", only=only), "{{why}} {{result}}"),
                        unit="cps",
                    ),
                ),
            ),
            *own,
            Row(
                title="Its processes",
                panels=(
                    _lines(
                        "Memory",
                        (f'sum by (kind) (pixcrawler_worker_memory_bytes{{service="{stage.service}"}})', "{{kind}}"),
                        unit="bytes",
                        is_stacked=True,
                    ),
                    _lines(
                        "Processes",
                        (f'sum by (kind) (pixcrawler_worker_processes{{service="{stage.service}"}})', "{{kind}}"),
                    ),
                ),
            ),
        ),
    )


DOWNLOADER = _stage(
    DOWNLOAD,
    Row(
        title="The web",
        panels=(
            _lines("Rejected rows", (f"topk(12, {_rejected((Group.INPUT, Group.POLICY, Group.FETCH))})", "{{reason}}")),
            _lines(
                "Leases to ask hosts",
                (_rate("pixcrawler_host_leases_total", "source"), "{{source}}"),
                unit="cps",
                description="`alone` says that Redis was away and each worker kept to much tighter limits of its own",
            ),
            _lines("Hosts left alone", (_rate("pixcrawler_hosts_left_alone_total", "why"), "{{why}}"), unit="cps"),
        ),
    ),
)
VALIDATOR = _stage(
    VALIDATE,
    Row(
        title="Decoding",
        panels=(
            _lines("Rejected rows", (f"topk(12, {_rejected((Group.DECODE, Group.FILTER))})", "{{reason}}")),
            _lines("Decode children", (_rate("pixcrawler_decode_children_total", "event"), "{{event}}"), unit="cps"),
        ),
    ),
)
UPLOADER = _stage(
    UPLOAD,
    Row(
        title="The stores",
        panels=(
            _lines("Rejected rows", (_rejected((Group.DUPLICATE, Group.JOB)), "{{reason}}")),
            _lines("Objects", (_rate("pixcrawler_dataset_objects_total", "result"), "{{result}}"), unit="cps"),
            _lines("Store time", *_quantiles("pixcrawler_store_seconds", "operation"), unit="s"),
            _lines(
                "Store operations",
                (_rate("pixcrawler_store_seconds_count", "kind", "operation"), "{{kind}} {{operation}}"),
                unit="ops",
            ),
            _lines(
                "Store failures",
                (_rate("pixcrawler_store_errors_total", "operation", "code"), "{{operation}} {{code}}"),
                unit="cps",
            ),
        ),
    ),
)

DASHBOARDS = (SYSTEM, GATEWAY, SCHEDULER, DOWNLOADER, VALIDATOR, UPLOADER)
