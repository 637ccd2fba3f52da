"""What the OpenAPI document needs beyond what FastAPI derives: problem documents and the server's name."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from gateway.problems import MEDIA_TYPE, Code, Problem

Responses = dict[int | str, dict[str, Any]]

_REF = "#/components/schemas/{model}"
#: What every operation that needs a key may answer.
_COMMON = (
    Code.MALFORMED_REQUEST,
    Code.UNAUTHORIZED,
    Code.FORBIDDEN,
    Code.TENANT_SUSPENDED,
    Code.INVALID_REQUEST,
    Code.INTERNAL,
    Code.DATABASE_UNAVAILABLE,
)


def problems(*codes: Code) -> Responses:
    """The error responses of an operation: the common ones and these, grouped by status."""
    by_status: dict[int, list[Code]] = {}
    for code in dict.fromkeys((*_COMMON, *codes)):
        by_status.setdefault(code.status.value, []).append(code)
    schema = {"$ref": _REF.format(model=Problem.__name__)}
    return {
        status: {"description": ", ".join(listed), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, listed in sorted(by_status.items())
    }


def install(app: FastAPI) -> None:
    """Makes the app's document complete; it is built once, when first asked for."""
    derive = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = derive()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(_schemas_of_problems())
        assert app.openapi_schema is not None, "derived above"
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]


def _schemas_of_problems() -> Mapping[str, Any]:
    schema = Problem.model_json_schema(ref_template=_REF)
    return {**schema.pop("$defs", {}), Problem.__name__: schema}
