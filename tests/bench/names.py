"""Host names that only the benchmark knows: an /etc/hosts of its own for this process and all that it starts."""

import ctypes
import os
import zlib
from pathlib import Path

#: Many hosts, as in a list from the web, all of them the origin.
NAMES = tuple(f"host{number:02d}.origin.test" for number in range(64))
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18


def name_of(path: str) -> str:
    """The host a path lies on."""
    return NAMES[zlib.crc32(path.encode()) % len(NAMES)]


def make_names_known(folder: Path) -> None:
    """Lets every name resolve to loopback, here and in children. Raises OSError where namespaces are forbidden.

    The machine's own file is hidden in a mount namespace, not changed: no root needed where users may have
    namespaces. Call it before any thread is started.
    """
    hosts = folder / "hosts"
    hosts.write_text(Path("/etc/hosts").read_text() + "".join(f"127.0.0.1 {name} {name}.\n" for name in NAMES))
    if os.geteuid() == 0:
        _unshare(_CLONE_NEWNS)
        _bind(hosts)
        return
    user, group = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWNS | _CLONE_NEWUSER)
    _map(inside=(0, 0), outside=(user, group))
    _bind(hosts)
    # Back to the user we were, so that nothing takes us for root.
    _unshare(_CLONE_NEWUSER)
    _map(inside=(user, group), outside=(0, 0))


def _bind(hosts: Path) -> None:
    _mount(b"none", b"/", _MS_REC | _MS_PRIVATE)
    _mount(os.fsencode(hosts), b"/etc/hosts", _MS_BIND)


def _unshare(flags: int) -> None:
    _checked(ctypes.CDLL(None, use_errno=True).unshare(flags), "unshare")


def _mount(source: bytes, target: bytes, flags: int) -> None:
    _checked(ctypes.CDLL(None, use_errno=True).mount(source, target, None, flags, None), "mount")


def _map(*, inside: tuple[int, int], outside: tuple[int, int]) -> None:
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{inside[0]} {outside[0]} 1")
    (own / "gid_map").write_text(f"{inside[1]} {outside[1]} 1")


def _checked(answer: int, call: str) -> None:
    if answer:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}; the benchmark needs root or user namespaces")
