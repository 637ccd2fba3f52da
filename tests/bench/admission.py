"""How fast waiting chunks are let in and their first bells rung, by the scheduler's own hands on real servers."""

import asyncio
import tempfile
import time
from pathlib import Path

from scheduler.admitter import Admitter
from scheduler.caretaker import Caretaker
from scheduler.leadership import Leadership
from scheduler.settings import SchedulerSettings
from shared.broker import build_app
from shared.db import cells
from shared.db.leader import Term
from shared.db.session import transaction
from shared.logs import set_up_logs
from shared.resources import open_resources
from shared.waiting import WaitingSet
from tests import servers
from tests.bench.page import Section, Table, at_least
from tests.core import ROOMY, Board, board_at, scheduler_settings

#: What workers do meanwhile: each chunk that was rung is over, and its slot is free. Not counted.
_END_ALL = """
    WITH ended AS (UPDATE chunks SET state = 'completed' WHERE state = 'download_ready' RETURNING id)
    UPDATE slots SET chunk_id = NULL FROM ended WHERE slots.chunk_id = ended.id"""


def admission(chunks: int) -> Section:
    """All chunks of one job, as many at once as there are slots."""
    with (
        tempfile.TemporaryDirectory(prefix="pixcrawler-bench-") as folder,
        servers.postgres() as database_url,
        servers.redis() as redis_url,
    ):
        servers.migrate(database_url)
        settings = scheduler_settings(database_url, redis_url, Path(folder), log_level="warning")
        set_up_logs(settings, service="scheduler")
        seconds = asyncio.run(_admit_all(settings, chunks))
    return Section(
        title="Admission",
        text=(
            f"{chunks:,} waiting chunks of one job, let in {settings.max_chunks} at a time and rung, with a real "
            "PostgreSQL (which does not wait for its disk here) and Redis. Only the scheduler's own work is counted; "
            "that its chunks end is not."
        ),
        tables=[
            Table(
                ("chunks", "seconds", "chunks/s", "goal"),
                [(f"{chunks:,}", f"{seconds:.1f}", *at_least(chunks / seconds, 150, "{:.0f}"))],
            )
        ],
    )


async def _admit_all(settings: SchedulerSettings, chunks: int) -> float:
    """Seconds spent in admitting and ringing."""
    database_url = settings.database_url.get_secret_value()
    async with board_at(database_url) as board, open_resources(settings) as resources:
        await board.job(chunks=chunks)
        waiting, leadership = WaitingSet(resources.redis), Leadership(resources.engine)
        admitter = Admitter(settings, resources, waiting)
        caretaker = Caretaker(settings, resources, build_app(settings), leadership)
        await admitter.audit()
        seconds = 0.0
        while await board.one("SELECT count(*) FROM chunks WHERE state = 'pending'"):
            term = await _lead(board, leadership)
            began = time.monotonic()
            await admitter.admit(term)
            await caretaker.ring(term)
            seconds += time.monotonic() - began
            await board.run(_END_ALL)
    return seconds


async def _lead(board: Board, leadership: Leadership) -> Term:
    async with transaction(board.engine) as connection:
        await cells.report(connection, "main", "downloader-1", "here", ROOMY)
    term = await leadership.term()
    assert term is not None, "nobody else leads"
    return term
