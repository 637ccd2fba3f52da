"""The embedded Valkey: broker, priority set and manners, on a loopback port with a password.

It holds nothing that PostgreSQL cannot restore, so data that it cannot read are set aside.
"""

import contextlib
import os
import shutil
from pathlib import Path

from pixcrawler.local.binaries import valkey_binary
from pixcrawler.local.home import Home, write_private
from pixcrawler.local.ports import LOOPBACK, ask
from pixcrawler.local.process import Command

_PASSWORD = "valkey-password"
#: What it says about data that it cannot load.
_UNREADABLE = ("append only file", "AOF", "RDB", "Bad file format")


class Valkey:
    """Writes the configuration and says how to start the server."""

    name = "Valkey"
    ready_seconds = 30.0

    def __init__(self, home: Home) -> None:
        self._home = home
        self._program = valkey_binary()

    @property
    def log(self) -> Path:
        return self._home.logs / "valkey.log"

    def url(self, port: int) -> str:
        return f"redis://:{self._home.secret(_PASSWORD)}@{LOOPBACK}:{port}/0"

    def command(self, port: int) -> Command:
        """Starts it on the loopback port. The password stands in a private file, not among the arguments."""
        configuration = self._home.run / "valkey.conf"
        write_private(configuration, self._configuration(port))
        return Command(
            name=self.name,
            layer=0,
            program=(str(self._program), str(configuration)),
            log=self.log,
            cwd=self._home.empty,
            environment={"PATH": os.defpath, "LC_ALL": "C"},
        )

    async def is_ready(self, port: int) -> bool:
        """Whether it has loaded its data and answers."""
        answer = await ask(port, f"AUTH {self._home.secret(_PASSWORD)}\r\nPING\r\n".encode())
        return answer.endswith(b"+PONG\r\n")

    def recover(self, tail: str) -> bool:
        """Whether another start may succeed after one that left these last lines."""
        if "in use" in tail:
            return True
        is_unreadable = any(word in tail for word in _UNREADABLE)
        if is_unreadable:
            self._set_aside()
        return is_unreadable

    def _set_aside(self) -> None:
        aside = self._home.valkey.with_name("valkey.unreadable")
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            self._home.valkey.rename(aside)
        self._home.valkey.mkdir(mode=0o700, exist_ok=True)

    def _configuration(self, port: int) -> str:
        lines = {
            "bind": LOOPBACK,
            "port": str(port),
            "requirepass": self._home.secret(_PASSWORD),
            "dir": _quoted(str(self._home.valkey)),
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            # Far above what the largest job needs; a bound all the same.
            "maxmemory": "512mb",
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
