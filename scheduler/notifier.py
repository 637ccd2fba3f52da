"""Tells tenants by their webhooks what became of their jobs, beside the loop.

    due deliveries, one for each tenant ──▶ signed, posted through the guard ──▶ noted: delivered, later, or given up

A crash between the answer and its note sends a notice twice, under the same id; that is what the id is for. A receiver
that hangs holds one thread of the notifier's own for some seconds, and no other tenant's notices: its webhook rests
after each attempt in vain, and the notice is tried again after the pauses of `shared/notices.py`.
"""

import asyncio
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from uuid import UUID

import structlog

from shared import metrics
from shared.db import deliveries, leader
from shared.db.deliveries import Due
from shared.db.leader import Term
from shared.db.session import transaction
from shared.egress import Egress
from shared.errors import PixCrawlerError, PlaceRefused, PlaceUnavailable
from shared.notices import headers, message_id, pause_after
from shared.resources import Resources

#: Receivers asked at once, and how long one may take.
_AT_ONCE = 8
_SECONDS = 10.0
#: For what is under way when the scheduler stops; afterwards it is begun again by whoever leads next.
_LAST_SECONDS = 3.0
#: The receiver wants no more, for good.
_GONE = 410

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """How an attempt to deliver ended."""

    DELIVERED = "delivered"
    PUT_OFF = "put_off"  #: to be tried again after a pause
    GIVEN_UP = "given_up"  #: the webhook is disabled


class Notifier:
    """Sends what is owed."""

    def __init__(self, resources: Resources, egress: Egress) -> None:
        self._resources = resources
        self._egress = egress
        self._busy: dict[UUID, asyncio.Task[None]] = {}
        # The scheduler's other work uses the loop's own threads, and must not wait for a receiver.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="notice")

    async def notify(self, term: Term) -> bool:
        """Begins to send what is due. False: there was nothing to begin."""
        if len(self._busy) >= _AT_ONCE:
            return False
        async with transaction(self._resources.engine) as connection:
            owed = await deliveries.due(connection, without=list(self._busy), limit=_AT_ONCE - len(self._busy))
        for delivery in owed:
            self._busy[delivery.tenant_id] = asyncio.create_task(self._deliver(term, delivery))
        return bool(owed)

    async def settle(self, *, seconds: float) -> None:
        """Waits for what is under way, for so long."""
        if self._busy:
            await asyncio.wait(list(self._busy.values()), timeout=seconds)

    async def close(self) -> None:
        """Stops; what cannot be noted any more is sent again, under the same id."""
        await self.settle(seconds=_LAST_SECONDS)
        left = list(self._busy.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _deliver(self, term: Term, delivery: Due) -> None:
        try:
            await self._note(term, delivery, *await self._attempt(delivery))
        except Exception as error:  # one receiver's trouble, a bug too, must not stop the others
            log.warning(
                "notice_not_noted",
                delivery=str(delivery.id),
                error=str(error) or type(error).__name__,
                exc_info=None if isinstance(error, PixCrawlerError) else error,
            )
        finally:
            del self._busy[delivery.tenant_id]

    async def _attempt(self, delivery: Due) -> tuple[int | None, str]:
        """What the receiver answered, if it did, and what was wrong with that."""
        try:
            status = await asyncio.get_running_loop().run_in_executor(self._threads, self._post, delivery)
        except (PlaceRefused, PlaceUnavailable) as trouble:
            return None, str(trouble)
        except Exception:  # a bug of ours: noted like any failure, or it would be tried without a pause
            log.exception("notice_failed", delivery=str(delivery.id))
            return None, "it could not be sent; the operator's log says why"
        return status, "" if 200 <= status < 300 else f"the receiver answers {status}"

    def _post(self, delivery: Due) -> int:
        body = json.dumps(delivery.payload, separators=(",", ":"), ensure_ascii=False).encode()
        signed = headers(message_id(str(delivery.id)), int(time.time()), body, delivery.signing)
        return self._egress.post(delivery.url, body, signed, seconds=_SECONDS)

    async def _note(self, term: Term, delivery: Due, status: int | None, error: str) -> None:
        outcome = Outcome.DELIVERED
        async with leader.leading(self._resources.engine, term) as connection:
            if not error and status is not None:
                await deliveries.note_delivered(connection, delivery, status=status)
            else:
                pause = None if status == _GONE else pause_after(delivery.attempts + 1, random.random())
                await deliveries.note_failure(connection, delivery, status=status, error=error, pause=pause)
                outcome = Outcome.GIVEN_UP if pause is None else Outcome.PUT_OFF
        metrics.notices.labels(outcome=outcome.value).inc()
        log.info("notice_not_sent" if error else "notice_sent", delivery=str(delivery.id), status=status)
