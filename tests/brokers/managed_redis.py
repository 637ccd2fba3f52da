"""A Redis as clouds rent it out: TLS only, a password, commands of 6.0, no CONFIG or ACL, idle connections cut."""

import contextlib
import re
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from tests.servers import free_port, spawned, wait_for_server
from tests.tls import make_authority

#: What a tenant may not do, and what came with 6.2 and 7.0.
_REFUSED = (
    "CONFIG",
    "ACL",
    "DEBUG",
    "MODULE",
    "SHUTDOWN",
    "REPLICAOF",
    "SLAVEOF",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "BLMOVE",
    "LMOVE",
    "COPY",
    "FAILOVER",
    "GEOSEARCH",
    "GEOSEARCHSTORE",
    "GETDEL",
    "GETEX",
    "HRANDFIELD",
    "RESET",
    "SMISMEMBER",
    "XAUTOCLAIM",
    "ZDIFF",
    "ZDIFFSTORE",
    "ZINTER",
    "ZMSCORE",
    "ZRANDMEMBER",
    "ZRANGESTORE",
    "ZUNION",
    "BLMPOP",
    "BZMPOP",
    "EVALSHA_RO",
    "EVAL_RO",
    "EXPIRETIME",
    "FCALL",
    "FCALL_RO",
    "FUNCTION",
    "LCS",
    "LMPOP",
    "PEXPIRETIME",
    "SINTERCARD",
    "SORT_RO",
    "SPUBLISH",
    "SSUBSCRIBE",
    "SUNSUBSCRIBE",
    "ZINTERCARD",
    "ZMPOP",
)
#: Options that came with 6.2 or later, to commands that are older. (CLIENT SETINFO is asked for by redis-py itself,
#: which does without where it is refused.)
_NEWER = re.compile(
    r"^(ZADD \S+ .*\b(GT|LT)\b|Z?RANGE \S+ .*\b(BYSCORE|BYLEX|REV)\b|SET \S+ .* (EXAT|PXAT|GET)\b"
    r"|P?EXPIRE(AT)? \S+ \S+ (NX|XX|GT|LT)\b|[LR]POP \S+ \d+$|XADD \S+ NOMKSTREAM)",
    re.IGNORECASE,
)
#: Seconds; Azure waits ten minutes.
_IDLE_SECONDS = 2

_CONFIG = """\
port 0
tls-port {port}
bind 127.0.0.1
tls-cert-file {authority}/server.pem
tls-key-file {authority}/server.key
tls-auth-clients no
requirepass {password}
timeout {idle}
save ""
appendonly no
maxmemory-policy noeviction
dir {folder}
"""


class ManagedRedis:
    """A server of a test's own; `newer` is what was asked of it that a 6.0 does not know."""

    def __init__(self) -> None:
        self.port = free_port()
        self._running = contextlib.ExitStack()
        self._password = secrets.token_hex(8)
        self.newer: set[str] = set()
        self.asked: set[str] = set()

    def __enter__(self) -> Self:
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is missing: sh infra/setup/brokers.sh")
        folder = Path(self._running.enter_context(tempfile.TemporaryDirectory(prefix="pixcrawler-redis-")))
        authority = make_authority(folder / "authority")
        self.url = f"rediss://:{self._password}@localhost:{self.port}/0?ssl_ca_certs={authority.certificate}"
        config = folder / "redis.conf"
        values = {"port": self.port, "password": self._password, "idle": _IDLE_SECONDS, "folder": folder}
        refused = "".join(f'rename-command {name} ""\n' for name in _REFUSED)
        config.write_text(_CONFIG.format(authority=authority.folder, **values) + refused)
        server = self._running.enter_context(
            spawned([program, config], folder / "log", stop_with=signal.SIGTERM, drop_privileges=False)
        )
        wait_for_server("Redis answers", self._answers, server, folder / "log")
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _answers(self) -> bool:
        with contextlib.suppress(RedisError, OSError), Redis.from_url(self.url) as client:
            return bool(client.ping())
        return False

    def mend(self) -> None:
        """It is never broken."""

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Notes what is asked of it meanwhile."""
        with Redis.from_url(self.url) as client, client.monitor() as monitor:
            reader = threading.Thread(target=self._read, args=(monitor,), daemon=True)
            reader.start()
            yield
            with Redis.from_url(self.url) as last:
                last.echo("the end of the watch")
            reader.join(30)
            assert not reader.is_alive(), "the monitor did not come to an end"

    def _read(self, monitor: object) -> None:
        for entry in monitor.listen():  # type: ignore[attr-defined]
            command = str(entry["command"])
            if command.startswith("ECHO the end"):
                return
            self.asked.add(command.partition(" ")[0].upper())
            if _NEWER.match(command):
                self.newer.add(command[:100])
