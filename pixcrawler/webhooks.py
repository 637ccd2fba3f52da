"""For receivers of webhooks: is this notice PixCrawler's, whole, and fresh?

    notice = verify(request.headers, request.body, secret)      # what `create_webhook` told
    if notice["type"] == "job.completed": ...

A notice may come twice, under the same `webhook-id`: remember the ids you have acted on. Any library for Standard
Webhooks does the same. The standard library only.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

#: How far a receiver's clock and the sender's may differ.
TOLERANCE_SECONDS = 300


class BadNotice(ValueError):
    """Not PixCrawler's, altered, or too old: answer 400 and do nothing."""


def verify(
    headers: Mapping[str, str], body: bytes, secret: str, *, clock: Callable[[], float] = time.time
) -> dict[str, Any]:
    """The notice, once it was found to be signed with the secret lately. Raises BadNotice."""
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message, stamp = given["webhook-id"], given["webhook-timestamp"]
        signatures = given["webhook-signature"].split()
        age = abs(clock() - int(stamp))
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (KeyError, ValueError, binascii.Error) as error:
        raise BadNotice("a header of Standard Webhooks is missing or wrong, or the secret is") from error
    if age > TOLERANCE_SECONDS:
        raise BadNotice("the notice is too old, or a clock is wrong")
    digest = hmac.new(key, f"{message}.{stamp}.".encode() + body, hashlib.sha256).digest()
    wanted = f"v1,{base64.b64encode(digest).decode()}"
    if not any(hmac.compare_digest(wanted.encode(), signature.encode()) for signature in signatures):
        raise BadNotice("the signature is not of this secret and body")
    notice: dict[str, Any] = json.loads(body)
    return notice
