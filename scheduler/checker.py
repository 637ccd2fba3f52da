"""Carries out dry runs of lists beside the loop: one at a time, each in a process of its own.

    oldest wish ──▶ list out of the spool ──▶ child reads it whole, within limits ──▶ a few rows tried ──▶ report

What is checked is not planned: nothing is stored. A child that dies, takes too long or outlives our term is killed
with its files; the wish stays, and whoever leads takes it up again.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from scheduler.sample import Sampler, estimate
from scheduler.surveyor import DISK_FULL, Order, Reply, Rules
from shared.db import checks, leader
from shared.db.checks import Begun
from shared.db.leader import Term
from shared.egress import NOTICE_PORTS, Egress, EgressSettings
from shared.errors import BadSource, PermanentError, PixCrawlerError, TransientError, WorkAreaFull
from shared.resources import Resources

_BLOCK_BYTES = 8 * 1024**2
#: Ten million rows take five minutes on a slow core.
LONGEST_SECONDS = 1800.0
#: What a child may know of our environment: where its code is.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TMPDIR")
#: The folder that holds our packages, so that the child runs the same code as we do.
_CODE = Path(__file__).resolve().parent.parent

log = structlog.get_logger(__name__)


class ListUncheckable(PermanentError):
    """The list cannot be checked here; its own words say why."""

    code = "list_uncheckable"


class Checker:
    """Looks for dry runs to carry out."""

    def __init__(self, resources: Resources, settings: EgressSettings, egress: Egress) -> None:
        self._resources = resources
        self._rules = _rules(settings)
        self._sampler = Sampler(egress, agent=settings.agent)

    async def check(self, term: Term) -> bool:
        """The next dry run. False: nobody wishes one."""
        async with leader.leading(self._resources.engine, term) as connection:
            begun = await checks.begin(connection)
        if begun is None:
            return False
        try:
            report = await self._report(begun)
        except PermanentError as error:
            await self._give_up(term, begun, error.code, str(error))
        except (TransientError, OSError):
            async with leader.leading(self._resources.engine, term) as connection:
                await checks.put_back(connection, begun.id)
            raise
        except Exception:  # a bug that this list brings out must not keep the others from being checked
            log.exception("check_failed", check=str(begun.id))
            await self._give_up(
                term, begun, PixCrawlerError.code, "The list could not be checked; this is our mistake."
            )
        else:
            async with leader.leading(self._resources.engine, term) as connection:
                await checks.finish(connection, begun.id, report)
            log.info("list_checked", check=str(begun.id), rows=report["rows"])
        return True

    async def _report(self, begun: Begun) -> Mapping[str, object]:
        source = begun.source
        with tempfile.TemporaryDirectory(prefix="pixcrawler-check-") as folder:
            path = Path(folder) / f"list{source['ending']}"
            await self._fetch(source["key"], path)
            order = Order.model_validate({**source, "path": path, "rules": self._rules})
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    reply = await _surveyed(order)
            except TimeoutError:
                raise ListUncheckable(
                    f"reading the list took longer than {LONGEST_SECONDS / 60:.0f} minutes; check a part of it"
                ) from None
        if reply.report is None:
            raise BadSource(reply.error or "the list cannot be read")
        tried = await self._sampler.tried(reply.sample)
        whole = reply.report.model_copy(update={"sample": tried, "estimate": estimate(reply.report, tried)})
        return whole.model_dump(mode="json")

    async def _fetch(self, key: str, path: Path) -> None:
        stored = await self._resources.spool.stat(key)
        if stored is None:
            raise BadSource("the list is not kept any more; upload it again")
        with path.open("wb") as file:
            for offset in range(0, stored.size_bytes, _BLOCK_BYTES):
                length = min(_BLOCK_BYTES, stored.size_bytes - offset)
                block = await self._resources.spool.get(key, offset=offset, length=length)
                await asyncio.to_thread(file.write, block)

    async def _give_up(self, term: Term, begun: Begun, code: str, error: str) -> None:
        log.warning("check_given_up", check=str(begun.id), error=error)
        async with leader.leading(self._resources.engine, term) as connection:
            await checks.fail(connection, begun.id, error_code=code, error=error)


def _rules(settings: EgressSettings) -> Rules:
    return Rules(
        deny_cidrs=tuple(str(block) for block in settings.policy_for(NOTICE_PORTS).deny_cidrs),
        deny_names=settings.deny_names,
        allow_names=settings.allow_names,
        allow_cidrs=settings.allow_cidrs,
        allow_ports=settings.allow_ports,
    )


async def _surveyed(order: Order) -> Reply:
    """What the child answers; killed when this is cancelled. Raises ListUncheckable when it dies, WorkAreaFull."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scheduler.surveyor", str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        process_group=0,
        cwd=_CODE,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )
    try:
        answer, _ = await process.communicate(order.model_dump_json().encode())
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode == DISK_FULL:
        raise WorkAreaFull("there is no room to check a list")
    if process.returncode:
        raise ListUncheckable("the program that reads lists ended while it read this one; split it, or ask for help")
    return Reply.model_validate_json(answer)
