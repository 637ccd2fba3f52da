"""Errors as the client sees them: problem documents (RFC 9457) with a stable `code`.

No text names an input's value, an address of ours, SQL or a stack: `detail` is for people, `code` for programs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from shared.errors import BadSource, DatabaseUnavailable, PixCrawlerError, StoreUnavailable, TransientError

MEDIA_TYPE = "application/problem+json"
#: Seconds after which trouble that may pass is worth another try.
_RETRY_AFTER = 5
_MOST_ERRORS = 50


class Code(StrEnum):
    """The codes. The comment says when it is answered."""

    MALFORMED_REQUEST = "malformed_request"  #: the body or a parameter cannot even be read
    UNAUTHORIZED = "unauthorized"  #: no key, or one that is mistyped, unknown, expired or revoked
    FORBIDDEN = "forbidden"  #: the key lacks the scope
    TENANT_SUSPENDED = "tenant_suspended"  #: the operator has shut the account out for now
    NOT_FOUND = "not_found"  #: no such page, or nothing of that id that is yours
    NO_STATISTICS = "no_statistics"  #: no job of the dataset has ended yet, or it ended before figures were kept
    NO_THUMBNAIL = "no_thumbnail"  #: the row is not accepted, or the recipe asked for no thumbnails
    METHOD_NOT_ALLOWED = "method_not_allowed"
    DESTINATION_TAKEN = "destination_taken"  #: another dataset is known to lie there
    DATASET_STATE_GONE = "dataset_state_gone"  #: a dataset lies there that this database does not know
    DESTINATION_NOT_EMPTY = "destination_not_empty"  #: other things bear the names a dataset needs
    DESTINATION_LOST = "destination_lost"  #: an unfinished job's objects are not there any more
    UPLOAD_OFFSET = "upload_offset"  #: the part does not begin where the upload ends; `Upload-Offset` says where
    UPLOAD_COMPLETE = "upload_complete"  #: the list is whole and takes no more parts
    NAME_TAKEN = "name_taken"  #: a tenant of that name exists
    KEY_NOT_VALID = "key_not_valid"  #: an API key that is revoked, expired or replaced cannot be rotated
    JOB_FINISHED = "job_finished"  #: a job that has ended cannot be moved
    CHUNK_NOT_FAILED = "chunk_not_failed"  #: the chunk is not failed, or it was decided about it before
    REDRIVEN_TOO_OFTEN = "redriven_too_often"  #: the chunk failed again and again; insist, or drop it
    DATASET_BUSY = "dataset_busy"  #: another job is changing the dataset
    NOTHING_TO_RETRY = "nothing_to_retry"  #: no row of the dataset is rejected for one of the reasons
    TOO_MANY_WEBHOOKS = "too_many_webhooks"  #: the tenant has as many as it may
    TOO_MANY_NOTICES = "too_many_notices"  #: as many deliveries wait for the webhook as may
    JOB_CANCELLING = "job_cancelling"  #: a job that is being cancelled cannot be paused or resumed
    IDEMPOTENCY_RUNNING = "idempotency_running"  #: the first request with that key has not ended yet
    PRECONDITION_FAILED = "precondition_failed"  #: it has changed since the ETag of If-Match was read
    BODY_TOO_LARGE = "body_too_large"
    INVALID_REQUEST = "invalid_request"  #: fields are wrong; `errors` points at them
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"  #: the key was used for another request
    BAD_SOURCE = "bad_source"  #: the list cannot be read
    BAD_DESTINATION = "bad_destination"  #: the destination is misspelt or not allowed here
    DESTINATION_REFUSED = "destination_refused"  #: the store does not let us write there
    RATE_LIMITED = "rate_limited"  #: too many requests; `Retry-After` says when to go on
    QUOTA_EXCEEDED = "quota_exceeded"  #: open jobs, or the day's rows or bytes, are used up
    OVER_QUOTA = "over_quota"  #: the list alone is longer than a day's quota
    TOO_MANY_STREAMS = "too_many_streams"
    INTERNAL = "internal"  #: a bug of ours
    DATABASE_UNAVAILABLE = "database_unavailable"
    STORE_UNAVAILABLE = "store_unavailable"
    UNAVAILABLE = "unavailable"  #: other trouble that may pass

    @property
    def status(self) -> HTTPStatus:
        return _STATUS[self]


_STATUS = {
    Code.MALFORMED_REQUEST: HTTPStatus.BAD_REQUEST,
    Code.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    Code.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Code.TENANT_SUSPENDED: HTTPStatus.FORBIDDEN,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.NO_STATISTICS: HTTPStatus.NOT_FOUND,
    Code.NO_THUMBNAIL: HTTPStatus.NOT_FOUND,
    Code.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    Code.DESTINATION_TAKEN: HTTPStatus.CONFLICT,
    Code.DATASET_STATE_GONE: HTTPStatus.CONFLICT,
    Code.DESTINATION_NOT_EMPTY: HTTPStatus.CONFLICT,
    Code.DESTINATION_LOST: HTTPStatus.CONFLICT,
    Code.UPLOAD_OFFSET: HTTPStatus.CONFLICT,
    Code.UPLOAD_COMPLETE: HTTPStatus.CONFLICT,
    Code.NAME_TAKEN: HTTPStatus.CONFLICT,
    Code.KEY_NOT_VALID: HTTPStatus.CONFLICT,
    Code.JOB_FINISHED: HTTPStatus.CONFLICT,
    Code.CHUNK_NOT_FAILED: HTTPStatus.CONFLICT,
    Code.REDRIVEN_TOO_OFTEN: HTTPStatus.CONFLICT,
    Code.DATASET_BUSY: HTTPStatus.CONFLICT,
    Code.NOTHING_TO_RETRY: HTTPStatus.CONFLICT,
    Code.TOO_MANY_WEBHOOKS: HTTPStatus.CONFLICT,
    Code.TOO_MANY_NOTICES: HTTPStatus.CONFLICT,
    Code.JOB_CANCELLING: HTTPStatus.CONFLICT,
    Code.IDEMPOTENCY_RUNNING: HTTPStatus.CONFLICT,
    Code.PRECONDITION_FAILED: HTTPStatus.PRECONDITION_FAILED,
    Code.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.INVALID_REQUEST: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.IDEMPOTENCY_MISMATCH: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.BAD_SOURCE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.BAD_DESTINATION: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.DESTINATION_REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.QUOTA_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.OVER_QUOTA: HTTPStatus.FORBIDDEN,
    Code.TOO_MANY_STREAMS: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.DATABASE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.STORE_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
_BY_STATUS = {
    400: Code.MALFORMED_REQUEST,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.BODY_TOO_LARGE,
}


class Mistake(BaseModel):
    """One wrong field of a request."""

    pointer: str = Field(description="JSON pointer into the body, or the parameter's name", examples=["/recipe/depth"])
    detail: str


class Problem(BaseModel):
    """What went wrong, and what to do."""

    type: str = Field(examples=["urn:pixcrawler:problem:bad_source"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(description="For people; wording may change", examples=["the list has no rows"])
    code: Code = Field(description="For programs; stable", examples=["bad_source"])
    request_id: str = Field(description="Name it when you ask for help")
    errors: list[Mistake] | None = None


@dataclass
class ApiError(Exception):
    """An answer other than success."""

    code: Code
    detail: str
    errors: Sequence[Mistake] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def not_found() -> ApiError:
    """The same for what never was and for what is somebody else's."""
    return ApiError(Code.NOT_FOUND, "there is nothing of that id; look at the list of your jobs")


def problem_response(error: ApiError, request_id: str) -> JSONResponse:
    status = error.code.status
    problem = Problem(
        type=f"urn:pixcrawler:problem:{error.code}",
        title=status.phrase,
        status=status.value,
        detail=error.detail,
        code=error.code,
        request_id=request_id,
        errors=list(error.errors) or None,
    )
    headers = dict(error.headers)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", str(_RETRY_AFTER))
    body = problem.model_dump(mode="json", exclude_none=True)
    return JSONResponse(body, status_code=status.value, media_type=MEDIA_TYPE, headers=headers)


def translated(error: Exception) -> ApiError:
    """The answer to an exception; anything unknown is a bug of ours, and the client learns no more than that."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return _of_http(error)
        case BadSource():
            return ApiError(Code.BAD_SOURCE, str(error))
        case DatabaseUnavailable():
            return ApiError(Code.DATABASE_UNAVAILABLE, "the database does not answer; try again in a moment")
        case StoreUnavailable():
            return ApiError(Code.STORE_UNAVAILABLE, f"{error}; try again in a moment")
        case TransientError():
            return ApiError(Code.UNAVAILABLE, f"{error}; try again in a moment")
        case _:
            return ApiError(Code.INTERNAL, "something went wrong here; the operator's log has it under this request id")


def is_bug(error: Exception) -> bool:
    """Whether an exception belongs in the log with its trace."""
    return translated(error).code is Code.INTERNAL


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler for what `translated` knows."""
    refusal = translated(error)
    if refusal.code is Code.METHOD_NOT_ALLOWED:
        refusal.headers = {"Allow": ", ".join(_allowed(request))}
    return problem_response(refusal, request.state.request_id)


def _allowed(request: Request) -> list[str]:
    """The methods of the page; the framework names those of its first route only."""
    scope, routes = request.scope, request.app.routes
    return [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]


#: What FastAPI hands to `on_error`; the rest is caught by the outermost middleware.
HANDLED = (ApiError, RequestValidationError, HTTPException, PixCrawlerError)


def _of_http(error: HTTPException) -> ApiError:
    code = _BY_STATUS.get(error.status_code, Code.MALFORMED_REQUEST)
    sentences = {
        Code.NOT_FOUND: "there is no such page; see /openapi.json",
        Code.METHOD_NOT_ALLOWED: "this page does not know that method; see /openapi.json",
        Code.BODY_TOO_LARGE: "the body is too large; upload long lists by POST /v1/manifests",
    }
    detail = sentences.get(code, "the request cannot be read")
    return ApiError(code, detail, headers=error.headers or {})


def _invalid(error: RequestValidationError) -> ApiError:
    found: Sequence[Mapping[str, Any]] = error.errors()
    if any(mistake["type"] == "json_invalid" for mistake in found):
        return ApiError(Code.MALFORMED_REQUEST, "the body is not JSON")
    mistakes = [Mistake(pointer=_pointer(item["loc"]), detail=item["msg"]) for item in found[:_MOST_ERRORS]]
    first = mistakes[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return ApiError(Code.INVALID_REQUEST, f"{first.pointer or 'body'}: {first.detail}{more}", errors=mistakes)


def _pointer(loc: Sequence[object]) -> str:
    """Where the mistake is: a JSON pointer for the body, a name for a parameter. Names of ours only."""
    place, *rest = loc
    steps = [str(part).replace("~", "~0").replace("/", "~1") for part in rest]
    return "".join(f"/{step[:64]}" for step in steps) if place == "body" else f"{place} {'.'.join(steps)}"
