"""What the OpenAPI document needs beyond what FastAPI derives: problem documents, and headers all answers have."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI

from gateway.problems import MEDIA_TYPE, Code, Problem

Responses = dict[int | str, dict[str, Any]]
_FIRST_ERROR = 400

_REF = "#/components/schemas/{model}"


def header(description: str, example: str) -> dict[str, Any]:
    """A header of an answer, described."""
    return {"description": description, "schema": {"type": "string"}, "example": example}


_HEADERS = {
    "X-Request-ID": header("The request's id; yours, if you sent a harmless one", "f00dfeedf00dfeed"),
    "RateLimit-Policy": header("So many requests (q) in so many seconds (w)", '"requests";q=12000;w=60'),
    "RateLimit": header("What is left (r), and seconds until the window ends (t)", '"requests";r=11999;t=42'),
    "Link": header("Where the next page is, if there is one (RFC 8288)", '<https://gateway/…>; rel="next"'),
    "Retry-After": header("Seconds after which another try is worth it", "5"),
    "Idempotent-Replayed": header("`true` when this is the answer to an earlier request with that key", "true"),
}
_HEADER_REF = "#/components/headers/"
IDEMPOTENCY_KEY = "Idempotency-Key"
#: What every operation that needs a key may answer.
_COMMON = (
    Code.MALFORMED_REQUEST,
    Code.UNAUTHORIZED,
    Code.FORBIDDEN,
    Code.TENANT_SUSPENDED,
    Code.INVALID_REQUEST,
    Code.RATE_LIMITED,
    Code.INTERNAL,
    Code.DATABASE_UNAVAILABLE,
)


def problems(*codes: Code) -> Responses:
    """The error responses of an operation: the common ones and these, grouped by status."""
    return with_problems({}, *_COMMON, *codes)


def with_problems(responses: Responses, *codes: Code) -> Responses:
    """These responses, and those of the codes; a status lists all its codes."""
    successes = {status: response for status, response in responses.items() if int(status) < _FIRST_ERROR}
    refusals = {status: response for status, response in responses.items() if status not in successes}
    listed = {int(status): str(response["description"]).split(", ") for status, response in refusals.items()}
    for code in codes:
        known = listed.setdefault(code.status.value, [])
        if code not in known:
            known.append(code)
    schema = {"$ref": _REF.format(model=Problem.__name__)}
    made: Responses = {
        status: {"description": ", ".join(known), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, known in sorted(listed.items())
    }
    return successes | made


def install(app: FastAPI) -> None:
    """Makes the app's document complete; it is built once, when first asked for."""
    derive = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = derive()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(_schemas_of_problems())
            _describe_headers(document)
        assert app.openapi_schema is not None, "derived above"
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]


def _schemas_of_problems() -> Mapping[str, Any]:
    schema = Problem.model_json_schema(ref_template=_REF)
    return {**schema.pop("$defs", {}), Problem.__name__: schema}


def _describe_headers(document: dict[str, Any]) -> None:
    """The headers that all answers have, and those that every answer of their status has."""
    document["components"]["headers"] = _HEADERS
    for operation in (each for methods in document["paths"].values() for each in methods.values()):
        for status, response in operation["responses"].items():
            names = _headers_of(operation, status)
            response["headers"] = {
                **response.get("headers", {}),
                **{name: {"$ref": _HEADER_REF + name} for name in names},
            }


def _headers_of(operation: Mapping[str, Any], status: str) -> Iterator[str]:
    is_success = status.startswith("2")
    yield "X-Request-ID"
    if "security" in operation and (is_success or status == "429"):
        yield from ("RateLimit-Policy", "RateLimit")
    if status in ("429", "503"):
        yield "Retry-After"
    if is_success and _schema_of(operation, status).endswith("Page"):
        yield "Link"
    if is_success and any(parameter["name"] == IDEMPOTENCY_KEY for parameter in operation.get("parameters", ())):
        yield "Idempotent-Replayed"


def _schema_of(operation: Mapping[str, Any], status: str) -> str:
    content = operation["responses"][status].get("content", {}).get("application/json", {})
    found: str = content.get("schema", {}).get("$ref", "")
    return found
