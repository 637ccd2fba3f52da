"""Rings bells that were taken: after the commit, best effort, put back when the broker does not take them."""

import asyncio
from collections.abc import Sequence

import structlog
from celery import Celery

from shared import metrics
from shared.broker import BrokerUnavailable, ring
from shared.db import bells
from shared.db.bells import Bell
from shared.db.session import Engine, transaction

log = structlog.get_logger(__name__)


async def ring_all(app: Celery, engine: Engine, taken: Sequence[Bell]) -> None:
    """Rings each bell; from the first that fails on, they are put back for the scheduler's next look."""
    unrung = await asyncio.to_thread(_ring_while_it_works, app, taken)
    if unrung:
        log.warning("bells_not_rung", count=len(unrung))
        async with transaction(engine) as connection:
            await bells.put_back(connection, unrung)


def _ring_while_it_works(app: Celery, taken: Sequence[Bell]) -> Sequence[Bell]:
    for place, bell in enumerate(taken):
        try:
            ring(app, bell)
        except BrokerUnavailable:
            _count(bell, "failed")
            return taken[place:]
        _count(bell, "rung")
    return ()


def _count(bell: Bell, result: str) -> None:
    metrics.bells.labels(stage=bell.stage.name, why=bell.why, result=result).inc()
