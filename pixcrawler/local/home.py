"""Where the embedded stack keeps its things: `$PIXCRAWLER_HOME`, by default in the user's data folder.

As root, PostgreSQL refuses to run, so it runs as `nobody` and its data lie in a folder of the system
(`/var/lib/pixcrawler-postgres/data-<digest of the home>`); no mode above that folder is changed.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pixcrawler.local.errors import EXIT_CANNOT_CREATE, LocalStackError

HOME_VARIABLE = "PIXCRAWLER_HOME"
SYSTEM_FOLDER = Path("/var/lib/pixcrawler-postgres")
#: Who runs PostgreSQL when we are root: it looks its user up by name, so the user must exist.
UNPRIVILEGED_USER = "nobody"


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


@dataclass(frozen=True)
class Home:
    """One embedded stack's folders. Reading a path creates nothing; `create` does."""

    folder: Path
    system_folder: Path = SYSTEM_FOLDER

    @classmethod
    def find(cls, environment: Mapping[str, str] | None = None) -> "Home":
        """The home that this user's commands share."""
        variables = os.environ if environment is None else environment
        chosen = variables.get(HOME_VARIABLE)
        return cls(Path(chosen).expanduser().absolute() if chosen else _data_folder(variables) / "pixcrawler")

    @property
    def postgres(self) -> Path:
        return self.system_data if is_root() else self.folder / "postgres"

    @property
    def system_data(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]
        return self.system_folder / f"data-{digest}"

    @property
    def valkey(self) -> Path:
        return self.folder / "valkey"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def run(self) -> Path:
        """Locks and the state of the running stack."""
        return self.folder / "run"

    @property
    def empty(self) -> Path:
        """The services' working directory, so that a folder named `shared` elsewhere is never imported."""
        return self.run / "empty"

    def create(self) -> None:
        """Makes the folders, for this user only.

        Raises LocalStackError when that is not possible.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in (self.valkey, self.spool, self.work, self.logs, self.secrets, self.run, self.empty):
                part.mkdir(mode=0o700, exist_ok=True)
            probe = self.run / f"probe-{os.getpid()}"
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            raise LocalStackError(
                f"The folder {self.folder} cannot be written ({error.strerror}); "
                f"set {HOME_VARIABLE} to one that belongs to you.",
                EXIT_CANNOT_CREATE,
            ) from error

    def erase(self) -> None:
        """Deletes everything, also what lies in the system's folder. Nothing may be running."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if is_root():
            shutil.rmtree(self.system_data, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.system_folder.rmdir()

    def secret(self, name: str) -> str:
        """The random secret of this name, made at first use and kept for this user only."""
        path = self.secrets / name
        with contextlib.suppress(FileNotFoundError):
            return path.read_text().strip()
        beside = path.with_name(f"{name}.{secrets.token_hex(4)}.candidate")
        write_private(beside, secrets.token_urlsafe(32))
        # Of two that come at once the first decides; where there are no hard links, the last.
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
        except OSError:
            beside.replace(path)
        beside.unlink(missing_ok=True)
        return path.read_text().strip()


def write_private(path: Path, text: str) -> str:
    """Replaces the file's text in one step, readable by this user only; returns the text."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return text


def append_private(path: Path) -> BinaryIO:
    """Opens a log to append to, readable by this user only."""
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))


def _data_folder(variables: Mapping[str, str]) -> Path:
    user = Path(variables.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return user / "Library" / "Application Support"
    configured = variables.get("XDG_DATA_HOME", "")
    # The XDG rules say that a relative path is to be ignored.
    return Path(configured) if configured.startswith("/") else user / ".local" / "share"
