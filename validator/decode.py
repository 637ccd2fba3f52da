"""The decode child: `python -m validator.decode`, started by `validator/children.py` and by nobody else.

It decodes what strangers sent, so it is made to be killed: no secrets in its environment, no sockets, no
database, little memory, and a parent that watches each image. It reads chunks from stdin until that closes.
"""

import contextlib
import ctypes
import errno
import faulthandler
import json
import mmap
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from validator.judge import Verdict, judge
from validator.walk import Body
from validator.work import ChunkWork, Position, Reply, WorkRow

MEBIBYTE = 1 << 20
#: Bytes of the largest file a child may write: a chunk of 500 images of 16 MB.
MAX_FILE = 8 << 30
MAX_OPEN_FILES = 64

#: Decoders give way to what must answer: servers, downloads, the parent that watches the clock.
NICENESS = 5

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def main(arguments: list[str]) -> int:
    """Judges chunks until stdin closes. Arguments: the parent's id, the position's descriptor, memory in MiB."""
    parent, descriptor, memory_mb = (int(argument) for argument in arguments)
    faulthandler.enable()  # the operator's log shows which decoder crashed
    confine(parent)
    position = Position(descriptor)
    replies = _private_stdout()
    images = 0
    _say(replies, Reply(resident_kb=_resident_kb()))
    for line in sys.stdin.buffer:
        work = ChunkWork.model_validate_json(line)
        is_disk_full = False
        try:
            run(work, position, memory_mb)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            is_disk_full = True
        images += len(work.rows)
        _say(replies, Reply(images=images, resident_kb=_resident_kb(), is_disk_full=is_disk_full))
    return 0


def confine(parent: int) -> None:
    """Takes from this process what a decoder does not need. Dies with the parent's thread that started it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    # No process or thread more; the user's other ones are left alone, for only our own births are refused.
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    os.nice(NICENESS)
    if sys.platform == "linux":
        for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0), (_PR_SET_PDEATHSIG, signal.SIGKILL)):
            _prctl(option, value)
    if os.getppid() != parent:  # it died before it could be watched
        raise SystemExit(0)


def _prctl(option: int, value: int) -> None:
    """Raises OSError when the kernel refuses: a decoder that is not confined does not start."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} was refused")


def run(work: ChunkWork, position: Position, memory_mb: int) -> None:
    """Judges the rows in order and appends a line to the journal for each."""
    Image.MAX_IMAGE_PIXELS = work.recipe.max_pixels
    position.write(None, done=0, accepted=0, stored_bytes=0)
    with (
        _mapped(work.pack) as pack,
        work.derived.open("ab") as derived,
        work.journal.open("ab", buffering=0) as journal,
    ):
        limit_memory(memory_mb)
        _judge_all(work, pack, derived, journal, position)


def limit_memory(memory_mb: int) -> None:
    """Lets this process have so much address space beyond what it has now."""
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * mmap.PAGESIZE + memory_mb * MEBIBYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _judge_all(work: ChunkWork, pack: memoryview, derived: BinaryIO, journal: BinaryIO, position: Position) -> None:
    accepted = stored_bytes = 0
    for done, row in enumerate(work.rows):
        position.write(row.place, done=done, accepted=accepted, stored_bytes=stored_bytes)
        with pack[row.offset : row.offset + row.length] as body:
            verdict = judge(body, work.recipe)
            if verdict.stored is not None:
                verdict.columns["offset"] = _append(verdict.stored, row, derived)
                _add_thumbnail(verdict, row, derived)
                accepted += 1
                stored_bytes += len(verdict.stored)
        journal.write(json.dumps({"place": row.place, **verdict.columns}).encode() + b"\n")
    position.write(None, done=len(work.rows), accepted=accepted, stored_bytes=stored_bytes)


def _add_thumbnail(verdict: Verdict, row: WorkRow, derived: BinaryIO) -> None:
    if verdict.thumbnail is not None:
        verdict.columns["thumbnail_offset"] = _append(verdict.thumbnail, row, derived)
        verdict.columns["thumbnail_length"] = len(verdict.thumbnail)


def _append(stored: Body | bytes, row: WorkRow, derived: BinaryIO) -> int:
    """Where the stored bytes lie: in the fetched pack, or in the derived one once they are written there."""
    if not isinstance(stored, bytes):
        return row.offset
    at = derived.tell()
    derived.write(stored)
    derived.flush()  # before the journal speaks of it
    return at


@contextlib.contextmanager
def _mapped(pack: Path) -> Iterator[memoryview]:
    """The pack as read-only memory."""
    with (
        pack.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        yield view


def _private_stdout() -> BinaryIO:
    """The pipe to the parent; what a library prints goes to stderr instead."""
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return replies


def _say(replies: BinaryIO, reply: Reply) -> None:
    replies.write(reply.model_dump_json().encode() + b"\n")


def _resident_kb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "linux" else peak // 1024


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
