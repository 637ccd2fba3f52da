"""Becomes another program, tied to its parent: `python -I -S launch.py PARENT SIGNAL USER PROGRAM...`.

Linux sends the program SIGNAL when the parent dies, even by SIGKILL. The wish must be made after the
change of user, which clears it, and not in `preexec_fn`, which is unsafe beside threads. Standard library
only, and little of it: this runs before every process of the stack (about 10 ms).
"""

import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def _become(user: str) -> None:
    import pwd

    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def death_wish() -> Callable[[int], None]:
    """What asks the kernel to signal us when the parent dies; loaded while its library can still be read."""
    if sys.platform != "linux":
        return lambda number: None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda number: prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def main(arguments: list[str]) -> None:
    parent, number, user, *program = arguments
    die_with_parent = death_wish()
    if user:
        _become(user)
    die_with_parent(int(number))
    if os.getppid() != int(parent):
        raise SystemExit(f"the parent {parent} is gone")
    # Python ignores these for itself, and an ignored signal stays ignored over exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
