"""The gateway's operations as values, so that both clients say each of them once.

All may be repeated: the gateway finds an equal submission, and a repeated move changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, ValidationError

from pixcrawler.errors import ApiError, GatewayError
from pixcrawler.models import (
    AppendRequest,
    CheckRequest,
    CloneRequest,
    Decided,
    Deletion,
    Delivery,
    DeliveryPage,
    FailedChoice,
    FailedChunkDetail,
    FailedChunkPage,
    ImagePage,
    Job,
    JobFilter,
    JobPage,
    JobRequest,
    ListCheck,
    Manifest,
    Me,
    ObjectPage,
    PoisonMessage,
    PoisonPage,
    RedriveRequest,
    RefreshRequest,
    RetryRequest,
    RotateSecretRequest,
    Statistics,
    Submission,
    Takedown,
    TakedownPage,
    TakedownRequest,
    Thumbnail,
    Upload,
    Webhook,
    WebhookList,
    WebhookRequest,
    WebhookWithSecret,
)
from pixcrawler.words import DeliveryState, ImageStatus, TakedownKind

Answer = TypeVar("Answer", bound=BaseModel)
JobId = UUID | str
WebhookId = UUID | str
#: Rows, jobs or takedowns asked for at a time.
_IMAGES_A_PAGE = 500
_JOBS_A_PAGE = 50
_TAKEDOWNS_A_PAGE = 500
_FAILED_A_PAGE = 100
_DELIVERIES_A_PAGE = 100
#: What every JPEG begins with.
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request, and how its answer reads."""

    method: str
    path: str
    answer: type[Answer]
    params: Mapping[str, str | int] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def read(self, status: int, body: bytes) -> Answer:
        """Raises GatewayError for an answer that is not PixCrawler's."""
        try:
            return self.answer.model_validate_json(body)
        except ValidationError as error:
            raise GatewayError(
                status,
                ApiError.default_code,
                "the answer is not PixCrawler's, or of another version; is the URL right?",
            ) from error


class _PictureCall(Call[Thumbnail]):
    """One whose answer is a picture."""

    def read(self, status: int, body: bytes) -> Thumbnail:
        if not body.startswith(_JPEG):
            raise GatewayError(status, ApiError.default_code, "the answer is no picture; is the URL right?")
        return Thumbnail(jpeg=body)


def me() -> Call[Me]:
    return Call("GET", "/v1/me", Me)


def upload(filename: str) -> Call[Manifest]:
    return Call("POST", "/v1/manifests", Manifest, params={"filename": filename})


def begin_upload(filename: str) -> Call[Upload]:
    return Call("POST", "/v1/uploads", Upload, json={"filename": filename})


def upload_now(upload: Upload) -> Call[Upload]:
    return Call("GET", f"/v1/uploads/{upload.id}", Upload)


def send_part(upload: Upload) -> Call[Upload]:
    """The body is what follows in the list."""
    return Call("PATCH", f"/v1/uploads/{upload.id}", Upload, headers={"Upload-Offset": str(upload.size_bytes)})


def complete_upload(upload: Upload, sha256: str) -> Call[Manifest]:
    return Call("POST", f"/v1/uploads/{upload.id}/complete", Manifest, json={"sha256": sha256})


def abandon_upload(upload: Upload) -> Call[Upload]:
    return Call("DELETE", f"/v1/uploads/{upload.id}", Upload)


def check(manifest_id: UUID, request: CheckRequest) -> Call[ListCheck]:
    return Call("POST", f"/v1/manifests/{manifest_id}/check", ListCheck, json=request.body())


def checked(check: ListCheck) -> Call[ListCheck]:
    return Call("GET", f"/v1/manifests/{check.manifest_id}/checks/{check.id}", ListCheck)


def submit(request: JobRequest) -> Call[Job]:
    return Call("POST", "/v1/jobs", Job, json=request.body())


def submission(status: int, job: Job) -> Submission:
    return Submission(job, is_new=status == 202)


def job(job_id: JobId) -> Call[Job]:
    return Call("GET", path_of(job_id), Job)


def jobs(wanted: JobFilter, cursor: str | None) -> Call[JobPage]:
    params = _given(
        state=wanted.state,
        kind=wanted.kind,
        dataset=None if wanted.dataset is None else str(wanted.dataset),
        created_from=None if wanted.created_from is None else wanted.created_from.isoformat(),
        created_before=None if wanted.created_before is None else wanted.created_before.isoformat(),
        cursor=cursor,
        limit=_JOBS_A_PAGE,
    )
    return Call("GET", "/v1/jobs", JobPage, params=params)


def delete(job_id: JobId) -> Call[Deletion]:
    return Call("DELETE", path_of(job_id), Deletion)


def images(job_id: JobId, status: ImageStatus | None, reason: str | None, cursor: str | None) -> Call[ImagePage]:
    params = _given(status=status, reason=reason, cursor=cursor, limit=_IMAGES_A_PAGE)
    return Call("GET", f"{path_of(job_id)}/images", ImagePage, params=params)


def objects(job_id: JobId, link_seconds: int, cursor: str | None) -> Call[ObjectPage]:
    params = _given(link_seconds=link_seconds, cursor=cursor, limit=_IMAGES_A_PAGE)
    return Call("GET", f"{path_of(job_id)}/objects", ObjectPage, params=params)


def statistics(job_id: JobId) -> Call[Statistics]:
    return Call("GET", f"{path_of(job_id)}/statistics", Statistics)


def thumbnail(job_id: JobId, row: int) -> Call[Thumbnail]:
    return _PictureCall("GET", f"{path_of(job_id)}/images/{row}/thumbnail", Thumbnail)


def move(job_id: JobId, verb: str) -> Call[Job]:
    return Call("POST", f"{path_of(job_id)}/{verb}", Job)


def append(job_id: JobId, request: AppendRequest) -> Call[Job]:
    return Call("POST", f"{path_of(job_id)}/append", Job, json=request.body())


def refresh(job_id: JobId, request: RefreshRequest) -> Call[Job]:
    return Call("POST", f"{path_of(job_id)}/refresh", Job, json=request.body())


def retry(job_id: JobId, request: RetryRequest) -> Call[Job]:
    return Call("POST", f"{path_of(job_id)}/retry", Job, json=request.body())


def clone(job_id: JobId, request: CloneRequest) -> Call[Job]:
    return Call("POST", f"{path_of(job_id)}/clone", Job, json=request.body())


def create_webhook(request: WebhookRequest) -> Call[WebhookWithSecret]:
    return Call("POST", "/v1/webhooks", WebhookWithSecret, json=request.body())


def webhooks() -> Call[WebhookList]:
    return Call("GET", "/v1/webhooks", WebhookList)


def webhook(webhook_id: WebhookId) -> Call[Webhook]:
    return Call("GET", _webhook_path(webhook_id), Webhook)


def delete_webhook(webhook_id: WebhookId) -> Call[Webhook]:
    return Call("DELETE", _webhook_path(webhook_id), Webhook)


def rotate_webhook(webhook_id: WebhookId, request: RotateSecretRequest) -> Call[WebhookWithSecret]:
    return Call("POST", f"{_webhook_path(webhook_id)}/rotate", WebhookWithSecret, json=request.body())


def enable_webhook(webhook_id: WebhookId) -> Call[Webhook]:
    return Call("POST", f"{_webhook_path(webhook_id)}/enable", Webhook)


def test_webhook(webhook_id: WebhookId) -> Call[Delivery]:
    return Call("POST", f"{_webhook_path(webhook_id)}/test", Delivery)


def deliveries(webhook_id: WebhookId, state: DeliveryState | None, cursor: str | None) -> Call[DeliveryPage]:
    params = _given(state=state, cursor=cursor, limit=_DELIVERIES_A_PAGE)
    return Call("GET", f"{_webhook_path(webhook_id)}/deliveries", DeliveryPage, params=params)


def redeliver(webhook_id: WebhookId, delivery_id: UUID | str) -> Call[Delivery]:
    place = f"{_webhook_path(webhook_id)}/deliveries/{quote(str(delivery_id), safe='')}"
    return Call("POST", f"{place}/redeliver", Delivery)


def _webhook_path(webhook_id: WebhookId) -> str:
    return f"/v1/webhooks/{quote(str(webhook_id), safe='')}"


def take_down(request: TakedownRequest) -> Call[Takedown]:
    return Call("POST", "/v1/admin/takedowns", Takedown, json=request.body())


def takedowns(kind: TakedownKind | None, cursor: str | None) -> Call[TakedownPage]:
    params = _given(kind=kind, cursor=cursor, limit=_TAKEDOWNS_A_PAGE)
    return Call("GET", "/v1/admin/takedowns", TakedownPage, params=params)


def lift_takedown(takedown_id: int) -> Call[Takedown]:
    return Call("DELETE", f"/v1/admin/takedowns/{takedown_id}", Takedown)


def failed_chunks(job: JobId | None, code: str | None, cursor: str | None) -> Call[FailedChunkPage]:
    params = _given(job=None if job is None else str(job), code=code, cursor=cursor, limit=_FAILED_A_PAGE)
    return Call("GET", "/v1/admin/failed-chunks", FailedChunkPage, params=params)


def failed_chunk(chunk_id: int) -> Call[FailedChunkDetail]:
    return Call("GET", f"/v1/admin/failed-chunks/{chunk_id}", FailedChunkDetail)


def redrive(request: RedriveRequest) -> Call[Decided]:
    return Call("POST", "/v1/admin/failed-chunks/redrive", Decided, json=request.body())


def drop(request: FailedChoice) -> Call[Decided]:
    return Call("POST", "/v1/admin/failed-chunks/drop", Decided, json=request.body())


def poison_messages(cursor: str | None) -> Call[PoisonPage]:
    params = _given(cursor=cursor, limit=_FAILED_A_PAGE)
    return Call("GET", "/v1/admin/poison-messages", PoisonPage, params=params)


def drop_poison(poison_id: int) -> Call[PoisonMessage]:
    return Call("DELETE", f"/v1/admin/poison-messages/{poison_id}", PoisonMessage)


def path_of(job_id: JobId) -> str:
    return f"/v1/jobs/{quote(str(job_id), safe='')}"


def _given(**params: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in params.items() if value is not None}
