"""The operator's commands: stages and their queues, slots, the calendar. A line for each thing, parted by tabs."""

import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel

from pixcrawler import administration
from pixcrawler.administration import CalendarEntry, Slot, Slots, Stage, Stages
from pixcrawler.client import Client
from pixcrawler.commands.exits import Exit, Failure
from pixcrawler.words import Gone, JobKind

_LOOK_EVERY = 1.0


def list_stages(client: Client, *, is_json: bool) -> None:
    """Name, paused or open, bells, chunks ready and running, age of the oldest, workers."""
    _show_stages(client.ask(administration.stages()), is_json=is_json)


def list_workers(client: Client, *, is_json: bool) -> None:
    """Stage, worker, host, cell, seconds since its last report."""
    for stage in client.ask(administration.stages()).data:
        for worker in stage.workers:
            silent = f"reported {worker.silent_seconds:.0f} s ago"
            _line(worker, stage.name, worker.name, worker.host, worker.cell, silent, is_json=is_json)


def pause_stage(client: Client, name: str, *, is_json: bool) -> None:
    _show_stages(client.ask(administration.pause_stage(name)), is_json=is_json)


def resume_stage(client: Client, name: str, *, is_json: bool) -> None:
    _show_stages(client.ask(administration.resume_stage(name)), is_json=is_json)


def drain_stage(client: Client, name: str, *, timeout_seconds: float, is_json: bool) -> None:
    """Pauses a stage and waits until no worker has a chunk of it. Raises Failure when that takes too long."""
    until = time.monotonic() + timeout_seconds
    found = client.ask(administration.pause_stage(name))
    while found.named(name).running:
        if time.monotonic() > until:
            raise Failure(
                f"{found.named(name).running} chunks are still in hand after {timeout_seconds:.0f} s;"
                " the stage stays paused, so wait on, or resume it",
                Exit.TRY_LATER,
            )
        time.sleep(_LOOK_EVERY)
        found = client.ask(administration.stages())
    _show_stages(found, is_json=is_json)


def list_slots(client: Client, *, is_json: bool) -> None:
    """Number, chunk, job, tenant, state, worker, how long; then, on stderr, how many and why no more."""
    found = client.ask(administration.slots())
    for slot in found.data:
        _show_slot(slot, is_json=is_json)
    if is_json:
        _print(found.model_dump_json(exclude={"data"}))
    else:
        sys.stderr.write(f"{_admission(found)}\n")


def list_calendar(client: Client, *, is_json: bool) -> None:
    """Name, schedule, when it was last due and will be next, how its newest run ended."""
    for entry in client.ask(administration.calendar()).data:
        _show_entry(entry, is_json=is_json)


def add_entry(
    client: Client,
    job: str,
    every_seconds: int | None,
    cron: str | None,
    reasons: Sequence[str] | None,
    kind: JobKind,
    gone: Gone | None,
    *,
    is_json: bool,
) -> None:
    if (every_seconds is None) == (cron is None):
        raise Failure("say how often: either --every-hours or --cron", Exit.USAGE)
    if kind not in (JobKind.RETRY, JobKind.REFRESH):
        raise Failure("the calendar can retry or refresh a dataset", Exit.USAGE)
    asked = administration.add_entry(
        job, every_seconds=every_seconds, cron=cron, reasons=reasons or None, kind=kind, gone=gone
    )
    _show_entry(client.ask(asked), is_json=is_json)


def remove_entry(client: Client, name: str) -> None:
    client.ask(administration.remove_entry(name))


def pause_entry(client: Client, name: str, *, is_json: bool) -> None:
    _show_entry(client.ask(administration.pause_entry(name)), is_json=is_json)


def resume_entry(client: Client, name: str, *, is_json: bool) -> None:
    _show_entry(client.ask(administration.resume_entry(name)), is_json=is_json)


def run_entry(client: Client, name: str, *, is_json: bool) -> None:
    _show_entry(client.ask(administration.run_entry(name)), is_json=is_json)


def _show_stages(found: Stages, *, is_json: bool) -> None:
    for stage in found.data:
        _show_stage(stage, is_json=is_json)
    if not found.is_led and not is_json:
        sys.stderr.write("No scheduler leads: nothing is let in or rung until one does.\n")


def _show_stage(stage: Stage, *, is_json: bool) -> None:
    workers = sum(worker.silent_seconds <= 20 for worker in stage.workers)
    _line(
        stage,
        stage.name,
        f"paused since {_when(stage.paused_at)} by {stage.paused_by}" if stage.paused_at else "open",
        "bells unknown" if stage.queued is None else f"{stage.queued} bells",
        f"{stage.ready} ready",
        f"{stage.running} running",
        f"oldest {stage.oldest_ready_seconds:.0f} s",
        f"{workers} workers",
        is_json=is_json,
    )


def _show_slot(slot: Slot, *, is_json: bool) -> None:
    _line(
        slot,
        str(slot.no),
        f"chunk {slot.chunk_id}",
        str(slot.job_id),
        f"{slot.tenant} ({slot.tier})",
        slot.state,
        slot.owner or "-",
        f"attempt {slot.attempt}",
        f"held {slot.held_seconds:.0f} s",
        is_json=is_json,
    )


def _admission(found: Slots) -> str:
    if not found.is_led:
        why = "no scheduler leads"
    elif found.admission_shut:
        why = f"nothing more is let in: {found.admission_shut}"
    else:
        why = "more may be let in"
    return f"{found.held} of {found.slots} slots are taken; {why}."


def _show_entry(entry: CalendarEntry, *, is_json: bool) -> None:
    _line(
        entry,
        entry.name,
        entry.schedule.get("cron") or f"every {entry.schedule.get('every_seconds')} s",
        f"last {_when(entry.last_due_at)}",
        f"next {_when(entry.next_due_at)}" if entry.is_enabled else "paused",
        "a run is open" if entry.is_open else entry.error or ("done" if entry.finished_at else "never run"),
        is_json=is_json,
    )


def _line(thing: BaseModel, *words: str, is_json: bool) -> None:
    _print(json.dumps(thing.model_dump(mode="json")) if is_json else "\t".join(words))


def _when(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment else "-"


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
