"""PostgreSQL roles: each may run every statement of its service, and what is nobody's business is refused."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy.exc import ProgrammingError

from shared.blocklist import Kind
from shared.chunk import Claim, NewObject, StageResult
from shared.db import (
    api_keys,
    bells,
    blocked,
    calendar,
    cells,
    checks,
    chunks,
    deletions,
    deliveries,
    failed,
    figures,
    history,
    idempotency,
    jobs,
    leader,
    lifecycle,
    parts,
    poison,
    purges,
    recurring,
    remnants,
    renewals,
    retention,
    revisions,
    schema,
    slots,
    spooled,
    stages,
    strays,
    stumbles,
    sweeps,
    tenancy,
    tenants,
    uploads,
    webhooks,
)
from shared.db.session import Connection, open_engine, transaction
from shared.messages import Why
from shared.notices import Notice
from shared.pipeline import DOWNLOAD, PIPELINE, UPLOAD, VALIDATE, JobKind, JobState, Outcome, Stage, Tier
from tests.architecture.tree import SERVICES
from tests.core import NO_HOLD, ROOMY, board_at
from tests.privileges import database_url_for, with_database_roles

Statement = Callable[[Connection], Awaitable[Any]]


@dataclass(frozen=True)
class Scene:
    """A chunk that a stage has claimed, and whose it is; another waits."""

    stage: Stage
    tenant: UUID
    job: UUID
    claim: Claim
    ended: chunks.Ended


@pytest.fixture
async def scene(request: pytest.FixtureRequest, database_url: str, postgres_admin_url: str) -> AsyncIterator[Scene]:
    """The stage is that of the service the test is about, if it is a stage's."""
    service = request.node.callspec.params.get("service") if hasattr(request.node, "callspec") else None
    stage = next((stage for stage in PIPELINE if stage.service == service), UPLOAD)
    async with board_at(database_url) as board, with_database_roles(postgres_admin_url, database_url):
        job = await board.job(chunks=2)
        chunk, _ = await board.chunks_of(job)
        claim = await board.claimed(stage, chunk)
        tenant = await board.one("SELECT tenant_id FROM jobs")
        yield Scene(
            stage, tenant, job, claim, chunks.Ended(claim=claim, outcome=Outcome.FAILED, tries=0, may_have_stored=False)
        )


def gateway_statements(scene: Scene) -> dict[str, Statement]:
    new = jobs.NewJob(
        tenant_id=scene.tenant, name="", destination="/there", endpoint=None, recipe={}, source={}, digest=""
    )
    place: dict[str, Any] = {"tenant_id": scene.tenant, "job_id": scene.job}
    return {
        "key": partial(api_keys.get, key_id="none"),
        "is_alone": tenants.is_alone,
        "note_use": partial(api_keys.note_use, key_id="none"),
        "usage": partial(tenants.usage, tenant_id=scene.tenant),
        "take_turns": partial(tenants.take_turns, tenant_id=scene.tenant),
        "create": partial(jobs.create, new=new),
        "occupant": partial(jobs.occupant, destination="/there", endpoint=None, digest=""),
        "source_of": partial(jobs.source_of, job_id=scene.job),
        "is_left": partial(revisions.is_left, new=replace(_new_revision(scene), kind=JobKind.REFRESH)),
        "revise": partial(_adds_a_revision, scene=scene),
        "busy": partial(revisions.add, new=_new_revision(scene)),
        "sums": partial(lifecycle.sums, dataset_id=scene.claim.dataset_id),
        "take_over_failed": partial(revisions.take_over_failed, new=_new_revision(scene)),
        "newest": partial(jobs.newest, tenant_id=scene.tenant, wanted=jobs.Wanted(), before=None, limit=9),
        "chunks_ahead": partial(jobs.chunks_ahead, job_ids=[scene.job]),
        "ask_deletion": partial(_wishes_gone, scene=scene),
        "get": partial(jobs.get, **place),
        "get_many": partial(jobs.get_many, job_ids=[scene.job]),
        "pause": partial(jobs.pause, **place),
        "pause_and_resume": partial(_in_turn, moves=[jobs.pause, jobs.resume], place=place),
        "cancel": partial(jobs.cancel, **place),
        "in_flight": partial(jobs.in_flight, job_ids=[scene.job]),
        "objects": partial(jobs.objects, **place, after="", limit=9),
        "ended_chunk_with": partial(jobs.ended_chunk_with, job_id=scene.job, row=0),
        "ended_chunks": partial(jobs.ended_chunks, job_id=scene.job, start=0, limit=9),
        "forget": partial(_cancelled_and_forgotten, scene=scene),
        "upload": partial(uploads.add, tenant_id=scene.tenant, filename="", key="", size_bytes=0, sha256=""),
        "uploaded": partial(uploads.get, tenant_id=scene.tenant, upload_id=scene.job),
        "check": partial(_wishes_a_check, scene=scene),
        "checked": partial(checks.get, tenant_id=scene.tenant, upload_id=scene.job, check_id=scene.job),
        "upload_in_parts": partial(_uploads_in_parts, tenant_id=scene.tenant),
        "take_down": partial(blocked.add, kind=Kind.HOST, value="example.org", note=""),
        "taken_down": partial(blocked.newest, kind=None, before=None, limit=9),
        "taken_down_one": partial(blocked.get, takedown_id=1),
        "purge": partial(purges.order, takedown_id=1, asked_by="key"),
        "purge_progress": partial(purges.progress, takedown_ids=[1]),
        "lift": partial(blocked.remove, takedown_id=1),
        "failed": partial(failed.newest, choice=failed.Choice(), limit=9),
        "failed_chunk": partial(failed.get, chunk_id=scene.claim.chunk_id),
        "history": partial(failed.history, chunk_id=scene.claim.chunk_id),
        "count_open": failed.count_open,
        "ask_redrive": partial(failed.ask_redrive, choice=failed.Choice(), force=False),
        "drop": partial(failed.drop, choice=failed.Choice()),
        "claim_key": partial(idempotency.claim, tenant_id=scene.tenant, key="k", digest="d"),
        "keep_answer": partial(idempotency.answer, tenant_id=scene.tenant, key="k", status=200, response={}),
        "give_up_key": partial(idempotency.give_up, tenant_id=scene.tenant, key="k"),
        "webhooks": partial(_uses_webhooks, scene=scene),
        "poison": partial(poison.newest, before=None, limit=9),
        "drop_poison": partial(poison.remove, poison_id=1),
        "make_tenant": partial(tenants.ensure_tenant, name="x", tier=Tier.FREE),
        "change_tenant": partial(_changes_tenant, tenant_id=scene.tenant),
        "keys": api_keys.every,
        "make_key": partial(_makes_key, tenant_id=scene.tenant),
        "slots": slots.held,
        "counted": slots.counted,
        "leader_told": leader.told,
        "workers": cells.reports,
        "stages": stages.standings,
        "paused": stages.paused,
        "pause_and_resume_stage": _pauses_and_resumes,
        "calendar": calendar.listed,
        "calendar_entry": partial(calendar.get, name="x"),
        "enable_entry": partial(calendar.set_enabled, name="x", is_enabled=False),
        "ask_run": partial(calendar.ask_run, name="x"),
        "add_entry": partial(recurring.keep, new=_new_revision(scene), schedule={"every_seconds": 60}),
        "remove_entry": partial(recurring.remove, name="x"),
        "tenant_of": partial(jobs.tenant_of, job_id=scene.job),
    }


def _new_revision(scene: Scene) -> revisions.NewRevision:
    return revisions.NewRevision(
        tenant_id=scene.tenant,
        dataset_id=scene.claim.dataset_id,
        kind=JobKind.APPEND,
        name="",
        recipe={},
        source={},
        digest="another",
    )


async def _adds_a_revision(connection: Connection, *, scene: Scene) -> None:
    await _end_job(connection, scene.job)
    added = await revisions.add(connection, _new_revision(scene))
    assert added is not None
    assert added.is_new


async def _wishes_gone(connection: Connection, *, scene: Scene) -> None:
    await _end_job(connection, scene.job)
    assert await deletions.ask(connection, scene.tenant, scene.claim.dataset_id) is None


async def _uses_webhooks(connection: Connection, *, scene: Scene) -> None:
    made = await webhooks.create(connection, scene.tenant, url="", events=[Notice.JOB_FAILED], secret="")
    assert made is not None
    assert await webhooks.of_tenant(connection, scene.tenant)
    await webhooks.get(connection, scene.tenant, made)
    await webhooks.rotate(connection, scene.tenant, made, secret="", overlap=timedelta(0))
    await webhooks.enable(connection, scene.tenant, made)
    owed = await deliveries.owe_test(connection, made)
    assert owed is not None
    await deliveries.newest(connection, made, state=None, before=None, limit=9)
    await deliveries.deliver_anew(connection, made, owed.id)
    await webhooks.remove(connection, scene.tenant, made)


#: No delivery there is.
DUE = deliveries.Due(
    id=UUID(int=0), webhook_id=UUID(int=0), tenant_id=UUID(int=0), url="", signing=[], payload={}, attempts=0
)


async def _uploads_in_parts(connection: Connection, *, tenant_id: UUID) -> None:
    part = parts.StoredPart(key="x", size_bytes=1)
    for end in (parts.abandon, partial(parts.complete, key="x", size_bytes=1, sha256="")):
        begun = await parts.begin(connection, tenant_id=tenant_id, filename="", most_open=1)
        assert begun is not None
        assert await parts.add(connection, tenant_id, begun.id, at=0, part=part, most_parts=1)
        assert await parts.of_upload(connection, begun.id)
        assert await end(connection, tenant_id, begun.id)
        await parts.get(connection, tenant_id, begun.id)


async def _wishes_a_check(connection: Connection, *, scene: Scene) -> None:
    made = await uploads.add(connection, tenant_id=scene.tenant, filename="", key="", size_bytes=0, sha256="")
    wish = {"tenant_id": scene.tenant, "upload_id": made, "source": {}}
    assert await checks.ask(connection, **wish, most_open=1) is not None
    assert await checks.ask(connection, **wish, most_open=1) is None


async def _in_turn(
    connection: Connection, *, moves: Sequence[Callable[..., Awaitable[bool]]], place: Mapping[str, Any]
) -> None:
    for move in moves:
        assert await move(connection, **place)


async def _cancelled_and_forgotten(connection: Connection, *, scene: Scene) -> None:
    made = await jobs.create(
        connection,
        jobs.NewJob(
            tenant_id=scene.tenant, name="", destination="/gone", endpoint=None, recipe={}, source={}, digest=""
        ),
    )
    assert made is not None
    await _end_job(connection, made)
    found = await jobs.get(connection, scene.tenant, made)
    assert found is not None
    assert await jobs.forget_dataset(connection, found.dataset_id)


async def _end_job(connection: Connection, job: UUID) -> None:
    """As the scheduler ends it; the gateway may write a job's state too."""
    await connection.exec_driver_sql("UPDATE jobs SET state = 'cancelled' WHERE id = $1", (job,))


def scheduler_statements(scene: Scene) -> dict[str, Statement]:
    silent = timedelta(minutes=5)
    statements: dict[str, Statement] = {
        "lead": _leads,
        "plan": _plans,
        "provide": partial(slots.provide, max_chunks=9),
        "admit": partial(slots.admit, wanted=[scene.claim.chunk_id], cells=["main"]),
        "slots_in_flight": partial(slots.in_flight, most_bytes=1),
        "counted": slots.counted,
        "recent_work_bytes": slots.recent_work_bytes,
        "count_waiting": slots.count_waiting,
        "next_waiting": partial(slots.next_waiting, count=9),
        "next_start": slots.next_start,
        "all_waiting": slots.all_waiting,
        "take_unanswered": bells.take_unanswered,
        "ended_nowhere": partial(chunks.ended_nowhere, dead_after=silent, limit=9),
        "stop_planning": partial(lifecycle.stop_planning, job_id=scene.job, error_code="x", error="x"),
        "note_waiting": partial(lifecycle.note_waiting, why="x"),
        "begin_finishing": lifecycle.begin_finishing,
        "to_finish": lifecycle.to_finish,
        "first_source": partial(lifecycle.first_source, job_id=scene.job),
        "finish": partial(lifecycle.finish, job_id=scene.job, start=JobState.RUNNING, to=JobState.COMPLETED),
        "sums": partial(lifecycle.sums, dataset_id=scene.claim.dataset_id, but=scene.job),
        "past_chunks": partial(
            revisions.past_chunks, dataset_id=scene.claim.dataset_id, before=9, after=(-1, -1), reasons=[], limit=9
        ),
        "owe": partial(deliveries.owe, job_id=scene.job, state=JobState.FAILED),
        "due": partial(deliveries.due, without=[], limit=9),
        "note_delivered": partial(deliveries.note_delivered, delivery=DUE, status=204),
        "note_failure": partial(deliveries.note_failure, delivery=DUE, status=None, error="x", pause=NO_HOLD),
        "give_up": partial(deliveries.note_failure, delivery=DUE, status=None, error="x", pause=None),
        "forget_deliveries": partial(deliveries.forget, keep=silent),
        "next_doomed": partial(deletions.next_doomed, without=[]),
        "delete": partial(deletions.forget, dataset_id=scene.claim.dataset_id),
        "objects_of": partial(lifecycle.objects_of, dataset_id=scene.claim.dataset_id),
        "revisions_of": partial(history.revisions_of, dataset_id=scene.claim.dataset_id),
        "seconds_by_state": partial(history.seconds_by_state, job_id=scene.job),
        "image_sums": figures.image_sums,
        "jobs_by_state": figures.jobs_by_state,
        "chunks_by_state": figures.chunks_by_state,
        "oldest_ready": figures.oldest_ready,
        "owed": figures.owed,
        "backlog_by_tier": figures.backlog_by_tier,
        "cancel_chunks": _cancels_chunks,
        "leave_dead_cells": partial(sweeps.leave_dead_cells, silent_for=silent),
        "slot_mismatches": sweeps.slot_mismatches,
        "reports": cells.reports,
        "paused": stages.paused,
        "forget_silent": cells.forget_silent,
        "forget_uploads": partial(spooled.forget_uploads, keep=silent, keep_unfinished=silent),
        "lists_in_use": partial(spooled.lists_in_use, keys=["x"], keep=silent),
        "unfinished_uploads": partial(parts.unfinished, uploads=[scene.job]),
        "needed_plans": partial(spooled.needed_plans, jobs=[scene.job], keep=silent),
        "count_open": failed.count_open,
        "count_poison": poison.count,
        "forget_answers": idempotency.forget,
        "grant_redrives": partial(_grants_redrives, scene=scene),
        "remnants_left": partial(remnants.left, without=[], limit=9),
        "remnants_cleared": partial(remnants.cleared, claim=scene.claim),
        "check": checks.begin,
        "put_check_back": partial(checks.put_back, check_id=scene.job),
        "finish_check": partial(checks.finish, check_id=scene.job, report={}),
        "fail_check": partial(checks.fail, check_id=scene.job, error_code="x", error="x"),
        "keep_calendar": _keeps_calendar,
        "renew": partial(_renews, scene=scene),
        "sweep_strays": partial(_sweeps_strays, scene=scene),
        "forget_keys": partial(retention.forget_keys, keep=silent),
        "forget_moves": partial(retention.forget_moves, keep=NO_HOLD, after=0),
        "forget_fingerprints": partial(retention.forget_fingerprints, keep=silent),
    }
    expiring: dict[str, Statement] = {
        f"expire_{stage.name}": partial(sweeps.expire_leases, stage=stage) for stage in PIPELINE
    }
    return statements | expiring | ringing(scene) | closing(scene) | purging(scene)


def purging(scene: Scene) -> dict[str, Statement]:
    asked_at = datetime(2026, 11, 21, tzinfo=UTC)
    purge = purges.Purge(
        takedown_id=1, number=1, kind=Kind.HOST, value="example.org", asked_at=asked_at, asked_by="key"
    )
    left = purges.Remainder(counts={"accepted": 0, "rejected": {}}, stored_bytes=0, objects=[], emptied_rows=[0])
    removals = [purges.Removal(row=0, purge=purge, was_stored=True)]
    return {
        "open_purges": purges.open_purges,
        "unpurged": partial(purges.unpurged, newest=purge, after=0, without=[], limit=9),
        "objects_of_chunk": partial(purges.objects_of_chunk, chunk_id=scene.claim.chunk_id),
        "note_removals": partial(purges.note_removals, claim=scene.claim, removals=removals),
        "record_purge": partial(purges.record, claim=scene.claim, left=left, number=1),
        "stale": partial(purges.stale, without=[]),
        "refreshed": partial(purges.refreshed, dataset_id=scene.claim.dataset_id),
        "conclude": partial(purges.conclude, purges=[purge]),
        "renewals_due": partial(renewals.due, without=[], limit=9),
        "conclude_renewal": partial(
            renewals.conclude, renewal=renewals.Renewal(by=scene.claim, of=scene.claim), left=left
        ),
    }


async def _leads(connection: Connection) -> None:
    term = await leader.acquire(connection, "test")
    assert term is not None
    await leader.set_clock(connection, term, offset=1.0)
    await leader.clock(connection)
    await leader.tell(connection, term, {"shut": None})
    await connection.exec_driver_sql("SELECT FROM leader FOR SHARE")
    await leader.resign(connection, term)


async def _changes_tenant(connection: Connection, *, tenant_id: UUID) -> None:
    await tenants.change_plan(connection, tenant_id, Tier.ENTERPRISE)
    await tenants.set_quotas(connection, tenant_id, {})
    await tenants.suspend(connection, tenant_id)
    await tenants.let_in(connection, tenant_id)
    await tenants.usage(connection, tenant_id)


async def _makes_key(connection: Connection, *, tenant_id: UUID) -> None:
    new = api_keys.NewKey(id="x", secret_hash=b"", tenant_id=tenant_id, name="", scopes=[])
    await api_keys.add(connection, new)
    assert await api_keys.rotate(connection, "x", new_id="y", secret_hash=b"", overlap=NO_HOLD)
    assert await api_keys.revoke(connection, "x")


async def _pauses_and_resumes(connection: Connection) -> None:
    await stages.pause(connection, DOWNLOAD, by="key")
    await stages.resume(connection, DOWNLOAD)


async def _keeps_calendar(connection: Connection) -> None:
    await calendar.provide(connection, {"x": {"every_seconds": 60}})
    now, (entry,) = await calendar.entries(connection)
    await calendar.note_next(connection, entry, now)
    assert await calendar.claim(connection, entry, due_at=now, next_due_at=now)
    (run,) = await calendar.open_runs(connection)
    assert await calendar.begin(connection, run)
    await calendar.finish(connection, run)
    await calendar.forget_runs(connection, keep=NO_HOLD)
    await calendar.remember(connection, "x", {"after": 1})


async def _renews(connection: Connection, *, scene: Scene) -> None:
    await tenants.get(connection, scene.tenant)
    await tenants.take_turns(connection, scene.tenant)
    await tenants.usage(connection, scene.tenant)
    await _end_job(connection, scene.job)
    added = await revisions.add(connection, _new_revision(scene))
    assert added is not None
    assert added.is_new
    await revisions.take_over_failed(connection, _new_revision(scene))
    await recurring.remove(connection, "x")


async def _sweeps_strays(connection: Connection, *, scene: Scene) -> None:
    await strays.at_rest(connection, after=0, ended_for=NO_HOLD, limit=9)
    await strays.note(connection, scene.claim, {"data/x": 1})
    await strays.removable(connection, scene.claim, seen_for=NO_HOLD)
    await strays.forget(connection, scene.claim, ["data/x"])


async def _plans(connection: Connection) -> None:
    await connection.exec_driver_sql("UPDATE jobs SET state = 'queued', planned_at = NULL, planned_chunks = 1")
    unfinished = await lifecycle.to_plan(connection)
    assert unfinished is not None
    plan = await lifecycle.to_plan(connection, job_id=unfinished.job_id)
    assert plan is not None
    await lifecycle.add_chunks(connection, plan, [_later_chunk()], cursor={"rows": 8}, is_last=False)
    await lifecycle.add_chunks(connection, plan, [], cursor={"rows": 8}, is_last=True, replaced={"too_slow": 4})


def _later_chunk() -> lifecycle.NewChunk:
    return lifecycle.NewChunk(
        ordinal=2,
        first_row=8,
        rows=4,
        part_key="x",
        part_offset=0,
        part_length=0,
        tier=Tier.FREE,
        virtual_start=0.0,
        score=0.0,
    )


async def _cancels_chunks(connection: Connection) -> None:
    await connection.exec_driver_sql("UPDATE jobs SET state = 'cancelling'")
    assert await sweeps.cancel_chunks(connection) == 1


async def _grants_redrives(connection: Connection, *, scene: Scene) -> None:
    await connection.exec_driver_sql(
        "UPDATE chunks SET state = 'failed', redrive_asked_at = now() WHERE id = $1", (scene.claim.chunk_id,)
    )
    assert await failed.grant_redrives(connection) == 1


def stage_statements(scene: Scene) -> dict[str, Statement]:
    stage = scene.stage
    own: dict[str, Any] = {"stage": stage, "claim": scene.claim}
    told = {"error_code": "x", "error": "x"}
    statements: dict[str, Statement] = {
        "claim": partial(chunks.claim, stage=stage, chunk_id=scene.claim.chunk_id, owner="x", hold=NO_HOLD),
        "stumble": partial(stumbles.note, stage=stage, chunk_id=scene.claim.chunk_id, actor="x", **told),
        "beat": partial(chunks.beat, **own, done=1, work_bytes=1),
        "advance": partial(chunks.advance, **own, result=StageResult(passed=4, size_bytes=1)),
        "hand_back": partial(chunks.hand_back, **own, pause=NO_HOLD, burns_attempt=True, **told),
        "end": partial(chunks.end, **own, outcome=Outcome.FAILED, **told),
        "restart": partial(chunks.restart, **own, error="x"),
        "pause_for": partial(lifecycle.pause_for, job_id=scene.job, **told),
        "is_published": partial(chunks.is_published, claim=scene.claim),
        "active": partial(chunks.active, chunk_ids=[scene.claim.chunk_id]),
        "ended": partial(chunks.ended, cell="main"),
        "report": partial(cells.report, cell="main", worker="x", host="x", measured=ROOMY),
        "withdraw": partial(cells.withdraw, cell="main", worker="x"),
        "keep_poison": partial(poison.keep, queue="x", message="x", error="x"),
    }
    if stage is UPLOAD:
        statements["settle"] = partial(chunks.settle, claim=scene.claim, stage=stage, rows={0: "00" * 32})
    if stage is not VALIDATE:
        statements["takedowns"] = lambda connection: connection.exec_driver_sql("SELECT * FROM blocked")
    return statements | ringing(scene) | closing(scene)


def ringing(scene: Scene) -> dict[str, Statement]:
    bell = bells.Bell(
        chunk_id=scene.claim.chunk_id,
        job_id=scene.job,
        stage=DOWNLOAD,
        cell="main",
        attempt=0,
        why=Why.DISPATCHED,
        traceparent=None,
    )
    return {
        "take": partial(bells.take, hold=NO_HOLD, why=Why.DISPATCHED),
        "put_back": partial(bells.put_back, bells=[bell]),
    }


def closing(scene: Scene) -> dict[str, Statement]:
    made = NewObject(key="x", size_bytes=1, sha256="00" * 32)
    return {
        "record_objects": partial(chunks.record_objects, claim=scene.claim, objects=[made]),
        "set_counts": partial(chunks.set_counts, ended=scene.ended, accepted=0, rejected={"cancelled": 4}),
        "put_off_closing": partial(chunks.put_off_closing, ended=scene.ended),
        "close": partial(_ends_and_closes, scene=scene),
    }


async def _ends_and_closes(connection: Connection, *, scene: Scene) -> None:
    await chunks.end(connection, scene.stage, scene.claim, Outcome.FAILED)
    assert await chunks.close(connection, scene.ended, actor="test")


def statements_of(service: str, scene: Scene) -> dict[str, Statement]:
    if service == "gateway":
        return gateway_statements(scene)
    if service == "scheduler":
        return scheduler_statements(scene)
    return stage_statements(scene)


class _Undo(Exception):
    """Takes back what a statement did, so that the next finds the same scene."""


@pytest.mark.parametrize("service", SERVICES)
async def test_a_role_may_run_every_statement_of_its_service(service: str, scene: Scene, database_url: str) -> None:
    engine = open_engine(SecretStr(database_url_for(service, database_url)), connections=1)
    refused = {}
    assert await schema.version(engine) == schema.HEAD
    for name, statement in statements_of(service, scene).items():
        try:
            tenancy.see_only(scene.tenant)  # as a request does; other services are not asked
            async with transaction(engine) as connection:
                await statement(connection)
                raise _Undo
        except _Undo:
            continue
        except ProgrammingError as error:
            refused[name] = str(error.orig)
    await engine.dispose()

    assert refused == {}


#: What would be an intruder's first tries, and for each role what is another's.
REFUSED_TO_ALL = (
    "CREATE TABLE public.mine (a int)",
    "CREATE TEMP TABLE mine (a int)",
    "DROP TABLE chunks",
    "TRUNCATE chunks",
    "ALTER TABLE jobs ADD COLUMN mine int",
    "CREATE ROLE mine SUPERUSER",
    "ALTER ROLE pixcrawler_gateway SUPERUSER",
    "SET ROLE pixcrawler",
    "COPY jobs TO PROGRAM 'id'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT rolpassword FROM pg_authid",
    "UPDATE api_keys SET scopes = '{admin}'",
    "UPDATE jobs SET tenant_id = gen_random_uuid()",
    "UPDATE jobs SET recipe = '{}'",
    "UPDATE datasets SET destination = '/etc'",
    "UPDATE chunks SET part_key = 'x'",
    "DELETE FROM chunks",
    "UPDATE chunk_events SET actor = 'x'",
    "UPDATE alembic_version SET version_num = 'x'",
    "DELETE FROM removals",
    "UPDATE removals SET row = 0",
)
REFUSED = {
    "gateway": ("UPDATE chunks SET state = 'completed'", "UPDATE chunks SET round = 0",
                "UPDATE tenants SET rows_planned = 0", "DELETE FROM tenants", "DELETE FROM api_keys",
                "UPDATE api_keys SET secret_hash = ''", "UPDATE tenants SET created_at = now()",
                "SELECT * FROM fingerprints", "UPDATE leader SET holder = 'x'", "UPDATE slots SET chunk_id = NULL",
                "DELETE FROM chunk_events", "UPDATE calendar SET schedule = '{}'",
                """INSERT INTO calendar (name, schedule, arguments) VALUES ('x', '{}', '{"errand": "forget_keys"}')""",
                "UPDATE calendar_runs SET error = ''", "UPDATE list_checks SET state = 'done'"),
    "scheduler": ("SELECT * FROM api_keys", "DELETE FROM tenants", "INSERT INTO tenants (name) VALUES ('x')",
                  "UPDATE tenants SET plan = 'enterprise'",
                  "INSERT INTO api_keys (id, tenant_id, secret_hash) SELECT 'x', id, '' FROM tenants",
                  "SELECT * FROM uploads", "SELECT * FROM fingerprints", "DELETE FROM blocked",
                  "SELECT body FROM poison_messages", "SELECT to_state FROM chunk_events"),
}  # fmt: skip
REFUSED_TO_STAGES = (
    "DELETE FROM paused_stages",
    "DELETE FROM chunk_events",
    "SELECT * FROM calendar",
    "SELECT id FROM poison_messages",
    "UPDATE chunks SET redrive_asked_at = NULL",
    "SELECT * FROM api_keys",
    "SELECT * FROM tenants",
    "INSERT INTO api_keys (id, tenant_id, secret_hash) VALUES ('x', gen_random_uuid(), '')",
    "UPDATE tenants SET plan = 'enterprise'",
    "SELECT * FROM uploads",
    "SELECT * FROM leader",
    "DELETE FROM jobs",
    "DELETE FROM slots",
    "DELETE FROM blocked",
    "INSERT INTO jobs (tenant_id, dataset_id, revision, recipe, source, digest) "
    "SELECT tenant_id, dataset_id, 9, recipe, source, digest FROM jobs",
    "INSERT INTO blocked (kind, value) VALUES ('host', 'example.org')",
    "UPDATE blocked SET purge_no = 1",
    "UPDATE chunks SET purged_to = 9",
    "SELECT * FROM removals",
    "UPDATE datasets SET next_row = 0",
    "UPDATE chunks SET score = 0",
)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_role_is_refused_what_is_anothers(service: str, scene: Scene, database_url: str) -> None:
    connection = await asyncpg.connect(database_url_for(service, database_url))
    more = REFUSED.get(service, REFUSED_TO_STAGES)
    try:
        for statement in (*REFUSED_TO_ALL, *more):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_stages_without_a_need_for_them_see_no_fingerprints(scene: Scene, database_url: str) -> None:
    for service in ("downloader", "validator"):
        connection = await asyncpg.connect(database_url_for(service, database_url))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT * FROM fingerprints")
        await connection.close()


async def test_other_roles_cannot_even_connect(scene: Scene, database_url: str, postgres_admin_url: str) -> None:
    admin = await asyncpg.connect(postgres_admin_url)
    await admin.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    try:
        stranger = database_url_for("gateway", database_url).split("@")[1]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(f"postgresql://stranger:stranger@{stranger}")
    finally:
        await admin.execute("DROP ROLE stranger")
        await admin.close()


async def test_the_file_may_be_run_again(scene: Scene, database_url: str, postgres_admin_url: str) -> None:
    async with with_database_roles(postgres_admin_url, database_url):
        connection = await asyncpg.connect(database_url_for("validator", database_url))
        assert await connection.fetchval("SELECT count(*) FROM chunks") == 2
        await connection.close()
