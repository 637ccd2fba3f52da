"""Entity tags (RFC 9110): look only at what has changed, change only what one has seen.

    ETag: "<version of the job>-<digest of the answer>"

The whole tag tells whether the answer is the same (If-None-Match, 304). For a change (If-Match, 412) the version
decides alone: progress does not make stale what a client knows about a job, but a move of it does.
"""

import hashlib
import re
from collections.abc import Collection
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from pydantic import BaseModel

from gateway.openapi import Responses, header
from gateway.problems import ApiError, Code

_TAG = re.compile(r'(?:W/)?"([!#-~]*)"')
_VERSION = re.compile(r"(\d{1,9})-[0-9a-f]{16}")
ETAG: dict[str, Any] = {"ETag": header("Names the answer; see If-Match and If-None-Match", '"7-9f86d081884c7d65"')}
NOT_MODIFIED: Responses = {304: {"description": "It is as it was when you read that ETag", "headers": ETAG}}

IfNoneMatch = Annotated[
    str | None, Header(alias="If-None-Match", max_length=1000, description="ETags; answers 304 if one is of now")
]


def _versions(
    if_match: Annotated[
        str | None, Header(alias="If-Match", max_length=1000, description="ETags; refused (412) if none is of now")
    ] = None,
) -> frozenset[int] | None:
    """Versions that the client knows, one of which must be of now; None when it does not care."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = (_VERSION.fullmatch(tag) for tag in _TAG.findall(if_match))
    return frozenset(int(each[1]) for each in found if each is not None)


#: Of If-Match: what the client has seen.
KnownVersions = Annotated[frozenset[int] | None, Depends(_versions)]


def tagged(shown: BaseModel, version: int, if_none_match: str | None = None) -> Response:
    """The answer with its tag; 304 when the client has it already."""
    body = shown.model_dump_json().encode()
    tag = f"{version}-{hashlib.sha256(body).hexdigest()[:16]}"
    headers = {"ETag": f'"{tag}"'}
    if is_known(tag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def is_known(tag: str, if_none_match: str | None) -> bool:
    """Whether If-None-Match names that tag."""
    return if_none_match is not None and (if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match))


def check_known(version: int, known: Collection[int] | None) -> None:
    """Raises ApiError (412) when the client has not seen this version."""
    if known is not None and version not in known:
        raise ApiError(Code.PRECONDITION_FAILED, "it has changed since you looked; look again, then decide")
