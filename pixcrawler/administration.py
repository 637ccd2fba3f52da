"""What operators ask of a gateway, as calls for `Client.ask` and `AsyncClient.ask`; the key needs the scope admin.

with Client(url, api_key=key) as client:
    client.ask(administration.pause_stage("upload"))
    print(client.ask(administration.slots()).admission_shut)
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from pixcrawler.calls import Call
from pixcrawler.models import Answered
from pixcrawler.words import Gone, JobKind


class Worker(Answered):
    """A worker that reports."""

    name: str
    host: str
    cell: str
    #: Since its last report; after 20 s it does not count any more.
    silent_seconds: float


class Stage(Answered):
    """A stage: what it has before it and in hand, and who works at it."""

    name: str
    queue: str
    paused_at: datetime | None
    paused_by: str | None
    ready: int
    running: int
    oldest_ready_seconds: float
    #: Bells in its queues; None when the broker did not answer.
    queued: int | None
    workers: list[Worker]


class Stages(Answered):
    """The stages, in the order of the pipeline."""

    data: list[Stage]
    is_led: bool
    read_at: datetime | None

    def named(self, name: str) -> Stage:
        """Raises KeyError."""
        return {stage.name: stage for stage in self.data}[name]


class Slot(Answered):
    """A slot that is taken."""

    no: int
    chunk_id: int
    job_id: UUID
    tenant: str
    tier: str
    state: str
    owner: str | None
    cell: str | None
    attempt: int
    held_seconds: float
    lease_seconds: float | None


class Slots(Answered):
    """The slots that are taken, those longest taken first."""

    data: list[Slot]
    slots: int
    held: int
    #: Why nothing was let in when it was last looked.
    admission_shut: str | None
    is_led: bool
    read_at: datetime | None


class CalendarEntry(Answered):
    """What is done periodically, and its newest run."""

    name: str
    schedule: Mapping[str, Any]
    is_enabled: bool
    next_due_at: datetime | None
    last_due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    is_open: bool


class Calendar(Answered):
    """The calendar, by name."""

    data: list[CalendarEntry]


class Tenant(Answered):
    """A tenant: the tier that is agreed and the one that counts now."""

    id: UUID
    name: str
    plan: str
    tier: str
    quotas: Mapping[str, int | None]
    suspended_at: datetime | None
    rows_planned: int
    created_at: datetime


class Usage(Answered):
    """What a tenant has used; a day begins at midnight UTC."""

    open_jobs: int
    rows_a_day: int
    bytes_a_day: int


class TenantDetail(Tenant):
    """A tenant, and what it has used today."""

    usage: Usage


class Tenants(Answered):
    """All tenants, by name."""

    data: list[Tenant]


class Key(Answered):
    """An API key, without its secret."""

    id: str
    tenant: str
    name: str
    scopes: list[str]
    is_valid: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None


class NewKey(Key):
    """A key that was just made."""

    #: The key itself; nobody can show it again.
    key: str


class Keys(Answered):
    """Keys, by tenant and age."""

    data: list[Key]


def tenants() -> Call[Tenants]:
    return Call("GET", "/v1/admin/tenants", Tenants)


def tenant(tenant_id: UUID | str) -> Call[TenantDetail]:
    return Call("GET", f"/v1/admin/tenants/{_part(str(tenant_id))}", TenantDetail)


def create_tenant(
    name: str, *, plan: str = "free", quotas: Mapping[str, int | None] | None = None
) -> Call[TenantDetail]:
    body = {"name": name, "plan": plan, "quotas": dict(quotas or {})}
    return Call("POST", "/v1/admin/tenants", TenantDetail, json=body)


def change_tenant(
    tenant_id: UUID | str,
    *,
    plan: str | None = None,
    quotas: Mapping[str, int | None] | None = None,
    suspended: bool | None = None,
) -> Call[TenantDetail]:
    """What is not named stays; quotas take the place of all those agreed before."""
    asked = {"plan": plan, "quotas": None if quotas is None else dict(quotas), "suspended": suspended}
    body = {name: value for name, value in asked.items() if value is not None}
    return Call("PATCH", f"/v1/admin/tenants/{_part(str(tenant_id))}", TenantDetail, json=body)


def keys(tenant_name: str | None = None) -> Call[Keys]:
    return Call("GET", "/v1/admin/keys", Keys, params={} if tenant_name is None else {"tenant": tenant_name})


def create_key(
    tenant_name: str, *, name: str = "", scopes: Sequence[str] = ("jobs:read", "jobs:write"), days: int | None = None
) -> Call[NewKey]:
    body: dict[str, Any] = {"tenant": tenant_name, "name": name, "scopes": list(scopes), "days": days}
    return Call("POST", "/v1/admin/keys", NewKey, json=body)


def rotate_key(key_id: str, *, overlap_hours: int = 24) -> Call[NewKey]:
    """A key that takes another's place; both work during the overlap."""
    return Call("POST", f"/v1/admin/keys/{_part(key_id)}/rotate", NewKey, json={"overlap_hours": overlap_hours})


def revoke_key(key_id: str) -> Call[Key]:
    return Call("DELETE", f"/v1/admin/keys/{_part(key_id)}", Key)


def stages() -> Call[Stages]:
    return Call("GET", "/v1/admin/stages", Stages)


def pause_stage(name: str) -> Call[Stages]:
    """Chunks in hand come to their end; the stage is drained once it has none running."""
    return Call("POST", f"/v1/admin/stages/{_part(name)}/pause", Stages)


def resume_stage(name: str) -> Call[Stages]:
    return Call("POST", f"/v1/admin/stages/{_part(name)}/resume", Stages)


def slots() -> Call[Slots]:
    return Call("GET", "/v1/admin/slots", Slots)


def calendar() -> Call[Calendar]:
    return Call("GET", "/v1/admin/calendar", Calendar)


def add_entry(
    job: UUID | str,
    *,
    every_seconds: int | None = None,
    cron: str | None = None,
    reasons: Sequence[str] | None = None,
    kind: JobKind = JobKind.RETRY,
    gone: Gone | None = None,
) -> Call[CalendarEntry]:
    """Has a job's dataset retried or refreshed periodically; exactly one of the two schedules, cron in UTC.

    `reasons` are of a retry, `gone` is of a refresh.
    """
    body = {
        "job": str(job),
        "kind": kind,
        "every_seconds": every_seconds,
        "cron": cron,
        "reasons": reasons and list(reasons),
        "gone": gone,
    }
    return Call("POST", "/v1/admin/calendar", CalendarEntry, json=body)


def remove_entry(name: str) -> Call[CalendarEntry]:
    """Removes an entry that was added."""
    return Call("DELETE", f"/v1/admin/calendar/{_part(name)}", CalendarEntry)


def pause_entry(name: str) -> Call[CalendarEntry]:
    return Call("POST", f"/v1/admin/calendar/{_part(name)}/pause", CalendarEntry)


def resume_entry(name: str) -> Call[CalendarEntry]:
    return Call("POST", f"/v1/admin/calendar/{_part(name)}/resume", CalendarEntry)


def run_entry(name: str) -> Call[CalendarEntry]:
    """Has an entry of the calendar run now."""
    return Call("POST", f"/v1/admin/calendar/{_part(name)}/run", CalendarEntry)


def _part(name: str) -> str:
    return quote(name, safe="")
