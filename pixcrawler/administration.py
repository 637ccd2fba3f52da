"""What operators ask of a gateway, as calls for `Client.ask` and `AsyncClient.ask`; the key needs the scope admin.

with Client(url, api_key=key) as client:
    client.ask(administration.pause_stage("upload"))
    print(client.ask(administration.slots()).admission_shut)
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from pixcrawler.calls import Call
from pixcrawler.models import Answered


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


def pause_entry(name: str) -> Call[CalendarEntry]:
    return Call("POST", f"/v1/admin/calendar/{_part(name)}/pause", CalendarEntry)


def resume_entry(name: str) -> Call[CalendarEntry]:
    return Call("POST", f"/v1/admin/calendar/{_part(name)}/resume", CalendarEntry)


def run_entry(name: str) -> Call[CalendarEntry]:
    """Has an entry of the calendar run now."""
    return Call("POST", f"/v1/admin/calendar/{_part(name)}/run", CalendarEntry)


def _part(name: str) -> str:
    return quote(name, safe="")
