"""The embedded PostgreSQL: the truth, on a loopback port, with a password and nothing switched off.

The folder is built beside and renamed, so a start that was interrupted is simply begun again. No Unix
socket is opened: a home with a long name would not fit into its address.
"""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import struct
import subprocess
from pathlib import Path

from pixcrawler.local.binaries import POSTGRES_MAJOR, own_system_folder, usable_postgres_binaries
from pixcrawler.local.errors import EXIT_CONFIG, LocalStackError
from pixcrawler.local.home import UNPRIVILEGED_USER, Home, is_root, write_private
from pixcrawler.local.leftovers import end_server_of
from pixcrawler.local.ports import LOOPBACK, ask
from pixcrawler.local.process import Command

ROLE = "pixcrawler"
DATABASE = "pixcrawler"
_PASSWORD = "postgres-password"
_INIT_SECONDS = 60.0
#: Version 3.0 of the protocol, as in a start-up packet.
_PROTOCOL = 196608
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "synchronous_commit": "on",
    # One server without standbys writes less.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Containers often have only 64 MB of /dev/shm.
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres:
    """Prepares the data and says how to start the server."""

    name = "PostgreSQL"
    ready_seconds = 60.0

    def __init__(self, home: Home) -> None:
        self._home = home
        self._user = UNPRIVILEGED_USER if is_root() else ""
        self._binaries = usable_postgres_binaries(home)

    @property
    def data(self) -> Path:
        return self._home.postgres / "data"

    @property
    def log(self) -> Path:
        return self._home.logs / "postgres.log"

    def url(self, port: int) -> str:
        return f"postgresql://{ROLE}:{self._home.secret(_PASSWORD)}@{LOOPBACK}:{port}/{DATABASE}"

    def prepare(self) -> bool:
        """Makes the data folder if there is none; True when it was made now.

        Raises LocalStackError for data of another version, or when it cannot be made.
        """
        self._own_folder()
        version = self.data / "PG_VERSION"
        if version.exists():
            self._check_version(version.read_text().strip())
            self.make_way()
            self._restore_password()
            return False
        self._initialise()
        return True

    def command(self, port: int) -> Command:
        """Starts it on the loopback port; SIGINT ends its clients' transactions and stops it cleanly."""
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        return Command(
            name=self.name,
            layer=0,
            program=(str(self._binaries / "postgres"), "-D", str(self.data), "-p", str(port), *settings),
            log=self.log,
            cwd=Path("/"),
            environment=_environment(),
            stop_signal=signal.SIGINT,
            user=self._user,
        )

    async def is_ready(self, port: int) -> bool:
        """Whether it takes connections: it answers a start-up packet by asking for a password."""
        pairs = f"user\0{ROLE}\0database\0{DATABASE}\0\0".encode()
        packet = struct.pack("!ii", len(pairs) + 8, _PROTOCOL) + pairs
        return (await ask(port, packet)).startswith(b"R")

    def recover(self, tail: str) -> bool:
        """Whether another start may succeed after one that left these last lines."""
        return "could not bind" in tail or "is still in use" in tail

    def make_way(self) -> None:
        """Ends or forgets a server that an earlier stack left on these data."""
        end_server_of(self.data / "postmaster.pid", self.data)

    def _own_folder(self) -> None:
        if not self._user:
            self._home.postgres.mkdir(mode=0o700, exist_ok=True)
            return
        own_system_folder(self._home.system_folder)
        folder = self._home.postgres
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            entry = pwd.getpwnam(self._user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)

    def _check_version(self, found: str) -> None:
        if found != str(POSTGRES_MAJOR):
            raise LocalStackError(
                f"The data in {self.data} belong to PostgreSQL {found}, and this PixCrawler carries {POSTGRES_MAJOR}: "
                "use the version that wrote them, or move the folder away to begin anew.",
                EXIT_CONFIG,
            )

    def _initialise(self) -> None:
        beside = self.data.with_name("data.new")
        # What an interrupted start left behind; it was never used.
        shutil.rmtree(beside, ignore_errors=True)
        password_file = self._password_file()
        try:
            self._run(
                "initdb", "-D", str(beside), "-U", ROLE, "-A", "scram-sha-256", f"--pwfile={password_file}",
                "-E", "UTF8", "--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8",
            )  # fmt: skip
        finally:
            password_file.unlink()
        self._single(beside, f"CREATE DATABASE {DATABASE}")
        beside.rename(self.data)

    def _restore_password(self) -> None:
        """Without its file the password is unknown; a new one is set while nobody is connected."""
        kept = self._home.secrets / _PASSWORD
        if not kept.exists():
            password = secrets.token_urlsafe(32)
            self._single(self.data, f"ALTER ROLE {ROLE} PASSWORD '{password}'")
            write_private(kept, password)

    def _password_file(self) -> Path:
        path = self._home.postgres / "password.new"
        write_private(path, self._home.secret(_PASSWORD))
        if self._user:
            entry = pwd.getpwnam(self._user)
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        return path

    def _single(self, data: Path, statement: str) -> None:
        self._run("postgres", "--single", "-D", str(data), "template1", statement=statement)

    def _run(self, program: str, *arguments: str, statement: str = "") -> None:
        entry = pwd.getpwnam(self._user) if self._user else None
        who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []} if entry else {}
        try:
            done = subprocess.run(
                [str(self._binaries / program), *arguments],
                input=f"{statement}\n",
                capture_output=True,
                text=True,
                cwd="/",
                env=_environment(),
                timeout=_INIT_SECONDS,
                **who,  # type: ignore[call-overload]
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LocalStackError(f"PostgreSQL's {program} cannot run: {error}.") from error
        if done.returncode != 0 or "ERROR:" in done.stderr:
            raise LocalStackError(f"PostgreSQL's {program} failed:\n{done.stderr.strip()[-2000:]}")


async def prepare(server: Postgres) -> bool:
    """`Postgres.prepare` beside other starts: it waits for programs (0.5 s the first time)."""
    return await asyncio.to_thread(server.prepare)


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
