"""Runs a command to its end and tells what all of its processes used: `python -m tests.bench.measured OUT COMMAND...`.

Counted is every process that the command started, detached ones too: orphans come to us (PR_SET_CHILD_SUBREAPER),
and the kernel adds a process's CPU to whoever waits for it. Returns when the last one is gone.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    out, command = Path(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot take orphans in")
    began, began_at = time.monotonic(), time.time()
    with out.with_suffix(".out").open("wb") as said, out.with_suffix(".err").open("wb") as complained:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=complained)
    code, ended = _wait_for_all(child)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {
        "code": code,
        "began": began,
        "began_at": began_at,
        "ended": ended,
        "gone": time.monotonic(),
        "user_seconds": used.ru_utime,
        "system_seconds": used.ru_stime,
    }
    out.write_text(json.dumps(told))


def _wait_for_all(child: "subprocess.Popen[bytes]") -> tuple[int, float]:
    """The command's exit code and when it ended; returns when nobody is left."""
    code, ended = -1, 0.0
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return code, ended
        if pid == child.pid:
            code, ended = os.waitstatus_to_exitcode(status), time.monotonic()
            child.returncode = code


if __name__ == "__main__":
    main()
