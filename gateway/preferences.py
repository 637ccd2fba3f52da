"""`Prefer: wait=N` (RFC 7240): the answer comes when the job has ended, or after N seconds."""

import asyncio
import re
from typing import Annotated
from uuid import UUID

from fastapi import Header, Request, Response

from gateway.addresses import base_url
from gateway.openapi import header
from gateway.services import services_of
from shared.pipeline import FINAL_JOB_STATES

#: Seconds at most: proxies give up on a silent connection soon after.
LONGEST_WAIT = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait=\"?(\d{1,9})\"?\s*(?=[,;]|$)")

Prefer = Annotated[
    str | None,
    Header(max_length=1000, description=f"`wait=N`: answers when the job has ended, or after N s (≤ {LONGEST_WAIT})"),
]
APPLIED = {"Preference-Applied": header("What was preferred and heeded", "wait=30")}


def wanted_wait(prefer: str | None) -> int:
    """Seconds; 0 when nothing is preferred that we know. Preferences that are not understood are no mistake."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT) if found else 0


async def wait_for_end(request: Request, response: Response, job_id: UUID, prefer: str | None) -> bool:
    """Waits as the client prefers, and says so in Preference-Applied; whether it waited."""
    services, seconds = services_of(request), wanted_wait(prefer)
    if not seconds or services.watch.streams >= services.settings.max_streams:
        return False
    response.headers["Preference-Applied"] = f"wait={seconds}"
    ended = asyncio.create_task(_ended(request, job_id))
    closing = asyncio.create_task(services.closing.wait())
    try:
        await asyncio.wait({ended, closing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (ended, closing):
            task.cancel()
        await asyncio.gather(ended, closing, return_exceptions=True)
    return True


async def _ended(request: Request, job_id: UUID) -> None:
    with services_of(request).watch.subscribed(job_id, base_url(request)) as subscription:
        while (await subscription.next()).state not in FINAL_JOB_STATES:
            pass
