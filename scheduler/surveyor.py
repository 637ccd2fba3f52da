"""The child that reads a list: `python -m scheduler.surveyor`, started by `scheduler/checker.py` and by nobody else.

It reads what a stranger wrote, all of it, so it is a process of its own: no secrets in its environment, little memory,
and it gives way to the scheduler. One order comes in on stdin, one answer goes out on stdout.
"""

import ctypes
import errno
import mmap
import os
import resource
import signal
import sys
from pathlib import Path

from pydantic import BaseModel

from shared.errors import BadSource, WorkAreaFull
from shared.guard import Guard, Policy, networks
from shared.manifest import ListFormat, open_list
from shared.manifest.guess import column_names, likely_caption, likely_url
from shared.manifest.report import BadRowOut, ColumnsOut, HostOut, ListReport
from shared.manifest.survey import Survey, survey, with_lines

#: Beyond what the process has when it begins: Parquet decodes 2,000 rows at once, 128 MB a column at worst.
_MEMORY_BYTES = 1024**3
_NICENESS = 10
_MOST_NAMES = 1000
_TOP_HOSTS = 20


class Rules(BaseModel):
    """What the operator forbids and allows beside the guard's table; see `shared.egress.EgressSettings`."""

    deny_cidrs: tuple[str, ...] = ()
    deny_names: frozenset[str] = frozenset()
    allow_names: frozenset[str] = frozenset()
    allow_cidrs: tuple[str, ...] = ()
    allow_ports: frozenset[int] = frozenset()

    def policy(self) -> Policy:
        return Policy(
            deny_cidrs=networks(self.deny_cidrs),
            deny_names=self.deny_names,
            allow_names=self.allow_names,
            allow_cidrs=networks(self.allow_cidrs),
            allow_ports=self.allow_ports,
        )


class Order(BaseModel):
    """Which list is to be read, and how."""

    path: Path
    format: ListFormat
    url_col: str | None = None
    caption_col: str | None = None
    save_columns: list[str] = []
    rules: Rules = Rules()


class Drawn(BaseModel):
    """A row to try."""

    row: int
    url: str


class Reply(BaseModel):
    """What was found, or why the list cannot be read."""

    report: ListReport | None = None
    sample: list[Drawn] = []
    error: str | None = None


#: The exit code for want of room: it may pass.
DISK_FULL = 75
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PR_SET_PDEATHSIG = 1


def main(parent: int) -> int:
    """`parent` is who started this process, and with whom it dies."""
    _confine(parent)
    order = Order.model_validate_json(sys.stdin.buffer.read())
    try:
        reply = read(order)
    except BadSource as error:
        reply = Reply(error=str(error))
    except MemoryError:
        reply = Reply(error="the list needs more memory than a check may take; split it, or write smaller row groups")
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return DISK_FULL
    except WorkAreaFull:
        return DISK_FULL
    sys.stdout.write(reply.model_dump_json())
    return 0


def read(order: Order) -> Reply:
    """Reads the list to its end. Raises BadSource."""
    columns = _columns(order)
    with open_list(
        order.path,
        list_format=order.format,
        url_col=columns.url,
        caption_col=columns.caption,
        save_columns=order.save_columns,
        scratch=order.path.parent,
    ) as reader:
        found = survey(reader, Guard(order.rules.policy()), scratch=order.path.parent)
    found.bad = with_lines(order.path, found.bad)
    return Reply(report=_report(found, columns), sample=[Drawn(row=each.row, url=each.url) for each in found.sample])


def _columns(order: Order) -> ColumnsOut:
    names = column_names(order.path, order.format, scratch=order.path.parent)
    url = order.url_col or likely_url(names) or "url"
    caption = order.caption_col or likely_caption([name for name in names if name != url])
    return ColumnsOut(
        format=order.format,
        names=list(names[:_MOST_NAMES]),
        url=url,
        caption=caption,
        url_is_guessed=order.url_col is None,
        caption_is_guessed=order.caption_col is None and caption is not None,
    )


def _report(found: Survey, columns: ColumnsOut) -> ListReport:
    return ListReport(
        rows=found.rows,
        bad_rows=found.bad_rows,
        rejected=dict(found.rejected),
        bad=[BadRowOut(row=each.row, line=each.line, reason=each.reason, detail=each.detail) for each in found.bad],
        duplicates=found.duplicates,
        duplicates_are_exact=found.duplicates_are_exact,
        hosts=len(found.hosts),
        hosts_are_exact=found.hosts_are_exact,
        top_hosts=[HostOut(host=host, rows=rows) for host, rows in found.hosts.most_common(_TOP_HOSTS)],
        columns=columns,
    )


def _confine(parent: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICENESS)
    if sys.platform == "linux":  # elsewhere the limit counts otherwise, or not at all
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = pages * mmap.PAGESIZE + _MEMORY_BYTES
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    if os.getppid() != parent:  # it died before it could be noticed
        raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
