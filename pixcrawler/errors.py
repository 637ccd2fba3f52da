"""What a client's call can fail with.

PixCrawlerError
├── ApiError                 the gateway answered with a problem: `code` is stable, `detail` is for people
│   ├── InvalidRequestError  the request, its list or its destination is wrong (400, 413, 422)
│   ├── AuthenticationError  no usable key, or one that may not do this (401, 403)
│   ├── NotFoundError        nothing of that id is yours (404)
│   ├── ConflictError        the destination is taken, its state is gone, the job has ended (409)
│   ├── UnavailableError     trouble that may pass, still there after the repeats (429, 502 to 504)
│   └── GatewayError         a bug of the gateway's (500), or an answer that is none of PixCrawler's
├── ConnectionFailed         nobody answers at the gateway's address
└── WaitTimeout              the job had not ended in time; it goes on
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class PixCrawlerError(Exception):
    """The root. `code` is what programs read; `str(error)` is what people read."""

    code: str = "client_error"


class ApiError(PixCrawlerError):
    """An answer other than success."""

    #: Used when the answer names no code.
    default_code: ClassVar[str] = "unexpected_answer"

    def __init__(
        self, status: int, code: str, detail: str, *, request_id: str = "", errors: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        #: Name it when you ask the operator for help.
        self.request_id = request_id
        #: Which fields are wrong: `pointer` and `detail` of each.
        self.errors = tuple(errors)


class InvalidRequestError(ApiError):
    pass


class AuthenticationError(ApiError):
    pass


class NotFoundError(ApiError):
    pass


class ConflictError(ApiError):
    pass


class UnavailableError(ApiError):
    pass


class GatewayError(ApiError):
    pass


class ConnectionFailed(PixCrawlerError):
    code = "connection_failed"


class WaitTimeout(PixCrawlerError):
    code = "wait_timeout"


_BY_STATUS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


def error_of(status: int, problem: object) -> ApiError:
    """The error of an answer: its problem document, or what stands in for one that is none."""
    kind = _BY_STATUS.get(status, InvalidRequestError if 400 <= status < 500 else GatewayError)
    if not isinstance(problem, Mapping) or not isinstance(problem.get("code"), str):
        return kind(status, ApiError.default_code, f"the answer (HTTP {status}) is not PixCrawler's; is the URL right?")
    errors = problem.get("errors")
    return kind(
        status,
        problem["code"],
        str(problem.get("detail", "")),
        request_id=str(problem.get("request_id", "")),
        errors=errors if isinstance(errors, list) else (),
    )
