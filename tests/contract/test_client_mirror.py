"""The client imports no server code, so what it repeats of the server is compared here."""

from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from gateway import admin_schemas, check_schemas, schemas, webhook_schemas
from gateway.app import create_app
from gateway.images import ImageStatus
from gateway.problems import Code
from gateway.settings import GatewaySettings
from pixcrawler import administration, calls, errors, models, reasons, words
from pixcrawler.calls import Call
from pixcrawler.commands.options import Choices
from shared import notices, pipeline, recipe, statistics
from shared.blocklist import Kind
from shared.manifest import ListFormat, report
from shared.manifest.formats import ENDINGS
from shared.reasons import REASONS

JOB = "6d0dd1a5-3d0b-4b2e-9f1c-0d6f3c8f7a11"
TAKEDOWN, CHUNK, POISON, ROW = 77, 88, 99, 55
STAGE, ENTRY, KEY = "validate", "tidy_spool", "a1b2c3d4"
TENANT = "11111111-3d0b-4b2e-9f1c-0d6f3c8f7a11"
WEBHOOK, DELIVERY = "0c8b5a52-4b5f-4f0e-8a52-7d8f5f1e2a01", "0c8b5a52-4b5f-4f0e-8a52-7d8f5f1e2a02"
MANIFEST, CHECK = "22222222-3d0b-4b2e-9f1c-0d6f3c8f7a11", "33333333-3d0b-4b2e-9f1c-0d6f3c8f7a11"
UPLOAD = "44444444-3d0b-4b2e-9f1c-0d6f3c8f7a11"
UPLOADED = models.Upload(id=UUID(UPLOAD), filename="urls.csv", size_bytes=0, is_complete=False)
CHECKED = models.ListCheck(
    id=UUID(CHECK),
    manifest_id=UUID(MANIFEST),
    state=words.CheckState.WAITING,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    finished_at=None,
    report=None,
    error=None,
)
REQUEST = models.JobRequest(source=models.Source(), destination=models.Destination(url="/data/cats"))
CALLS: tuple[Call[Any], ...] = (
    calls.me(),
    calls.upload("urls.csv"),
    calls.begin_upload("urls.csv"),
    calls.upload_now(UPLOADED),
    calls.send_part(UPLOADED),
    calls.complete_upload(UPLOADED, "00" * 32),
    calls.abandon_upload(UPLOADED),
    calls.check(UUID(MANIFEST), models.CheckRequest()),
    calls.checked(CHECKED),
    calls.submit(REQUEST),
    calls.job(JOB),
    calls.jobs(
        models.JobFilter(
            state=words.JobState.RUNNING,
            kind=words.JobKind.RETRY,
            dataset=JOB,
            created_from=datetime(2026, 1, 1, tzinfo=UTC),
            created_before=datetime(2027, 1, 1, tzinfo=UTC),
        ),
        "cursor",
    ),
    calls.delete(JOB),
    calls.images(JOB, words.ImageStatus.REJECTED, "bad_url", "cursor"),
    calls.objects(JOB, 60, "cursor"),
    calls.statistics(JOB),
    calls.thumbnail(JOB, ROW),
    calls.move(JOB, "cancel"),
    calls.move(JOB, "pause"),
    calls.move(JOB, "resume"),
    calls.append(JOB, models.AppendRequest(source=models.Source())),
    calls.retry(JOB, models.RetryRequest(reasons=["too_slow"])),
    calls.refresh(JOB, models.RefreshRequest(gone=words.Gone.DROP)),
    calls.clone(JOB, models.CloneRequest(destination=models.Destination(url="/data/cats"))),
    calls.create_webhook(models.WebhookRequest(url="https://hooks.example.com")),
    calls.webhooks(),
    calls.webhook(WEBHOOK),
    calls.delete_webhook(WEBHOOK),
    calls.rotate_webhook(WEBHOOK, models.RotateSecretRequest(overlap_seconds=60)),
    calls.enable_webhook(WEBHOOK),
    calls.test_webhook(WEBHOOK),
    calls.deliveries(WEBHOOK, words.DeliveryState.DEAD, "cursor"),
    calls.redeliver(WEBHOOK, DELIVERY),
    calls.take_down(models.TakedownRequest(kind=words.TakedownKind.HOST, value="example.com")),
    calls.takedowns(words.TakedownKind.HOST, "cursor"),
    calls.lift_takedown(TAKEDOWN),
    calls.failed_chunks(JOB, "store_refused", "cursor"),
    calls.failed_chunk(CHUNK),
    calls.redrive(models.RedriveRequest(chunk=CHUNK, force=True)),
    calls.drop(models.FailedChoice(job=JOB)),
    calls.poison_messages("cursor"),
    calls.drop_poison(POISON),
    administration.stages(),
    administration.pause_stage(STAGE),
    administration.resume_stage(STAGE),
    administration.slots(),
    administration.calendar(),
    administration.add_entry(JOB, every_seconds=3600, reasons=["connect_timeout"]),
    administration.remove_entry(ENTRY),
    administration.pause_entry(ENTRY),
    administration.resume_entry(ENTRY),
    administration.run_entry(ENTRY),
    administration.tenants(),
    administration.tenant(TENANT),
    administration.create_tenant("cats"),
    administration.change_tenant(TENANT, suspended=True),
    administration.keys("cats"),
    administration.create_key("cats"),
    administration.rotate_key(KEY),
    administration.revoke_key(KEY),
)


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    described: dict[str, Any] = create_app(
        GatewaySettings.model_validate({"database_url": "postgresql://nobody@127.0.0.1/none"})
    ).openapi()
    return described


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_the_gateway_offers_each_call_with_its_parameters(call: Call[Any], openapi: dict[str, Any]) -> None:
    path = call.path.replace(JOB, "{job_id}").replace(str(TAKEDOWN), "{takedown_id}")
    path = path.replace(str(CHUNK), "{chunk_id}").replace(str(POISON), "{poison_id}")
    path = path.replace(f"/{ROW}/", "/{row}/")
    path = path.replace(STAGE, "{stage}").replace(ENTRY, "{name}")
    path = path.replace(UPLOAD, "{upload_id}")
    path = path.replace(MANIFEST, "{manifest_id}").replace(CHECK, "{check_id}")
    path = path.replace(TENANT, "{tenant_id}").replace(KEY, "{key_id}")
    path = path.replace(WEBHOOK, "{webhook_id}").replace(DELIVERY, "{delivery_id}")
    operation = openapi["paths"][path][call.method.lower()]

    known = {parameter["name"] for parameter in operation.get("parameters", ())}
    assert {*call.params, *call.headers} <= known


def test_the_client_knows_every_ending_of_a_list() -> None:
    assert words.LIST_ENDINGS == ENDINGS


def test_progress_is_streamed_where_the_client_looks(openapi: dict[str, Any]) -> None:
    assert "get" in openapi["paths"][f"{calls.path_of('x')}/events".replace("/x/", "/{job_id}/")]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (models.Recipe, recipe.Recipe),
        (models.Source, schemas.Source),
        (models.ListOptions, schemas.ListOptions),
        (models.Destination, schemas.DestinationIn),
        (models.JobRequest, schemas.JobIn),
        (models.AppendRequest, schemas.AppendIn),
        (models.RetryRequest, schemas.RetryIn),
        (models.CheckRequest, check_schemas.CheckIn),
        (models.CloneRequest, schemas.CloneIn),
        (models.WebhookRequest, webhook_schemas.WebhookIn),
        (models.RotateSecretRequest, webhook_schemas.RotateSecretIn),
        (models.TakedownRequest, schemas.TakedownIn),
        (models.FailedChoice, schemas.FailedChoice),
        (models.RedriveRequest, schemas.RedriveIn),
    ],
)
def test_requests_have_the_gateways_fields(ours: type[BaseModel], theirs: type[BaseModel]) -> None:
    assert set(ours.model_fields) == set(theirs.model_fields)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (models.Job, schemas.JobOut),
        (models.JobError, schemas.JobError),
        (models.StageProgress, schemas.StageProgress),
        (models.Place, schemas.Destination),
        (models.Manifest, schemas.ManifestOut),
        (models.Upload, schemas.UploadOut),
        (models.ListCheck, check_schemas.CheckOut),
        (models.ListReport, report.ListReport),
        (models.Tried, report.Tried),
        (models.Estimate, report.Estimate),
        (models.ListColumns, report.ColumnsOut),
        (models.BadRow, report.BadRowOut),
        (models.HostRows, report.HostOut),
        (models.JobPage, schemas.JobPage),
        (models.Webhook, webhook_schemas.WebhookOut),
        (models.WebhookWithSecret, webhook_schemas.WebhookWithSecret),
        (models.WebhookList, webhook_schemas.WebhookList),
        (models.Delivery, webhook_schemas.DeliveryOut),
        (models.DeliveryPage, webhook_schemas.DeliveryPage),
        (models.Deletion, schemas.DeletionOut),
        (models.ImagePage, schemas.ImagePage),
        (models.StoredObject, schemas.ObjectOut),
        (models.ObjectPage, schemas.ObjectPage),
        (models.Statistics, statistics.Statistics),
        (models.Spread, statistics.Spread),
        (models.Hosts, statistics.Hosts),
        (models.HostFigures, statistics.HostFigures),
        (models.StageTime, statistics.StageTime),
        (models.Me, schemas.Me),
        (models.Purge, schemas.PurgeOut),
        (models.Takedown, schemas.TakedownOut),
        (models.TakedownPage, schemas.TakedownPage),
        (models.FailedChunk, schemas.FailedChunkOut),
        (models.FailedChunkDetail, schemas.FailedChunkDetail),
        (models.ChunkEvent, schemas.ChunkEventOut),
        (models.FailedChunkPage, schemas.FailedChunkPage),
        (models.Decided, schemas.DecidedOut),
        (models.PoisonMessage, schemas.PoisonOut),
        (models.PoisonPage, schemas.PoisonPage),
        (administration.Tenants, admin_schemas.TenantsOut),
        (administration.Tenant, admin_schemas.TenantOut),
        (administration.TenantDetail, admin_schemas.TenantDetail),
        (administration.Usage, admin_schemas.UsageOut),
        (administration.Keys, admin_schemas.KeysOut),
        (administration.Key, admin_schemas.KeyOut),
        (administration.NewKey, admin_schemas.NewKeyOut),
        (administration.Stages, admin_schemas.StagesOut),
        (administration.Stage, admin_schemas.StageOut),
        (administration.Worker, admin_schemas.WorkerOut),
        (administration.Slots, admin_schemas.SlotsOut),
        (administration.Slot, admin_schemas.SlotOut),
        (administration.Calendar, admin_schemas.CalendarOut),
        (administration.CalendarEntry, admin_schemas.CalendarEntryOut),
    ],
)
def test_answers_hold_what_the_client_reads(ours: type[BaseModel], theirs: type[BaseModel]) -> None:
    assert set(ours.model_fields) <= set(theirs.model_fields)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (words.JobState, pipeline.JobState),
        (words.JobKind, pipeline.JobKind),
        (words.Notice, notices.Notice),
        (words.DeliveryState, notices.DeliveryState),
        (words.Trial, report.Trial),
        (words.CheckState, pipeline.CheckState),
        (words.ListFormat, ListFormat),
        (words.OutputFormat, recipe.OutputFormat),
        (words.Depth, recipe.Depth),
        (words.ImageKind, recipe.ImageKind),
        (words.ImageFormat, recipe.ImageFormat),
        (words.ResizeMode, recipe.ResizeMode),
        (words.TakedownKind, Kind),
    ],
)
def test_words_are_the_same(ours: type[StrEnum], theirs: type[StrEnum]) -> None:
    assert [word.value for word in ours] == [word.value for word in theirs]


def test_final_states_and_filters_are_the_same() -> None:
    assert {state.value for state in words.JobState if state.is_final} == {
        state.value for state in pipeline.FINAL_JOB_STATES
    }
    assert {status.value for status in words.ImageStatus} <= {status.value for status in ImageStatus}


def test_every_field_of_the_recipe_has_an_option_of_its_name() -> None:
    options = {each.name.removeprefix("no_") for each in fields(Choices)}

    assert set(recipe.Recipe.model_fields) <= options


def test_an_option_and_its_field_mean_the_same() -> None:
    chosen = Choices(depth=words.Depth.FULL, formats=["jpg"], no_robots=True, max_aspect_ratio=2.5, keep_metadata=True)

    read = recipe.Recipe.model_validate_json(chosen.recipe().model_dump_json(exclude_none=True), strict=True)

    assert read == recipe.Recipe(
        depth=recipe.Depth.FULL,
        formats=(recipe.ImageKind.JPEG,),
        robots=False,
        max_aspect_ratio=2.5,
        keep_metadata=True,
    )


def test_the_advice_is_the_servers() -> None:
    assert {reason.value: about.advice for reason, about in REASONS.items()} == reasons.ADVICE


@pytest.mark.parametrize("code", list(Code))
def test_every_problem_is_an_error_of_its_kind(code: Code) -> None:
    error = errors.error_of(code.status.value, {"code": code.value, "detail": "x", "request_id": "r"})

    assert error.code == code
    assert type(error) is not errors.ApiError
    assert isinstance(error, errors.GatewayError) == (code is Code.INTERNAL)


def test_the_client_is_typed_for_those_who_use_it() -> None:
    assert (Path(models.__file__).parent / "py.typed").exists()
