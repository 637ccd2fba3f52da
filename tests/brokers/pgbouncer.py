"""PostgreSQL behind pgbouncer in transaction mode, as Supabase and others offer it."""

import contextlib
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.servers import free_port, spawned, wait_for_port

#: Fewer connections than clients, so that no two transactions of one client need meet the same server process.
_CONFIG = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 4
max_client_conn = 300
unix_socket_dir =
"""


class PgBouncer:
    """Stands before the database of an address; `url` is the same database through it."""

    def __init__(self, direct: str) -> None:
        self._direct = urlsplit(direct)
        self.port = free_port()
        login, _, _ = self._direct.netloc.rpartition("@")
        self.url = self._direct._replace(netloc=f"{login}@127.0.0.1:{self.port}", query="pgbouncer=true").geturl()
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            raise RuntimeError("pgbouncer is missing: sh infra/setup/brokers.sh")
        folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="pixcrawler-pgbouncer-")))
        folder.chmod(0o755)
        config = folder / "pgbouncer.ini"
        config.write_text(
            _CONFIG.format(host=self._direct.hostname, port=self._direct.port, own_port=self.port, folder=folder)
        )
        (folder / "users").write_text(f'"{self._direct.username}" "{self._direct.password}"\n')
        server = self._running.enter_context(spawned([program, config], folder / "log", stop_with=signal.SIGTERM))
        wait_for_port(self.port, server, folder / "log")
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()
