"""Being the lone scheduler: the lease, renewed in time, and given up on any doubt."""

import asyncio
import os
import socket
import time
from datetime import timedelta
from uuid import uuid4

import structlog

from scheduler.truth import withdraw_truth
from shared import metrics
from shared.db import leader
from shared.db.leader import Term
from shared.db.session import Engine, transaction
from shared.errors import DatabaseUnavailable
from shared.pipeline import LEADER_LEASE

#: We stop trusting the lease when this share of it is left.
_MARGIN = 1 / 15

log = structlog.get_logger(__name__)


class Leadership:
    """This process's claim to lead. Safety does not rest on it alone: every admission is conditional."""

    def __init__(self, engine: Engine, *, lease: timedelta = LEADER_LEASE) -> None:
        self._engine = engine
        self._lease = lease
        self._holder = f"scheduler-{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._asking = asyncio.Lock()
        self._term: Term | None = None
        self._renew_at = float("-inf")
        self._trusted_until = float("-inf")
        #: When this stretch of leadership began, monotonic seconds.
        self.since = float("inf")

    async def term(self) -> Term | None:
        """The term we lead in; None while another leads or the database is away. Renews the lease when it is time."""
        async with self._asking:  # of two who ask at once, one takes it, and the other finds it taken
            asked_at = time.monotonic()
            if self._term and asked_at < min(self._renew_at, self._trusted_until):
                return self._term
            return await self._ask(asked_at)

    async def _ask(self, asked_at: float) -> Term | None:
        try:
            async with transaction(self._engine) as connection:
                term = await leader.acquire(connection, self._holder, lease=self._lease)
            metrics.dependency_up.labels(server="postgresql").set(1)
        except DatabaseUnavailable:
            term = None
            metrics.dependency_up.labels(server="postgresql").set(0)
        self._note(term, asked_at)
        return term

    async def resign(self) -> None:
        """Lets another lead at once."""
        if self._term:
            try:
                async with transaction(self._engine) as connection:
                    await leader.resign(connection, self._term)
            except DatabaseUnavailable:
                log.warning("leadership_not_resigned")
        self._note(None, time.monotonic())

    def doubt(self) -> None:
        """Somebody else was seen leading, or the database was away: ask before anything else is done."""
        self._note(None, time.monotonic())

    def _note(self, term: Term | None, asked_at: float) -> None:
        if term != self._term:
            log.info("leadership_changed", leads=term is not None, term=term.number if term else None)
            self.since = asked_at if term else float("inf")
        self._term = term
        self._renew_at = asked_at + self._lease.total_seconds() / 3
        self._trusted_until = asked_at + self._lease.total_seconds() * (1 - _MARGIN)
        metrics.leader.set(1 if term else 0)
        if term:
            metrics.term.set(term.number)
        else:
            withdraw_truth()
