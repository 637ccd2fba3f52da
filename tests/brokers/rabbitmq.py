"""A RabbitMQ of a test's own, on one port for its whole life: it may be stopped, killed, frozen and started again."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import amqp
from amqp.exceptions import AMQPError

from tests.servers import START_LIMIT_SECONDS, free_port, spawned, wait_for_port, wait_for_server

#: Debian's own script checks who calls it; this is what it starts.
_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = warning
"""


class RabbitMQ:
    """What it holds outlives a restart."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._owned = contextlib.ExitStack()
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._folder = Path(self._owned.enter_context(tempfile.TemporaryDirectory(prefix="pixcrawler-rabbit-")))
        (self._folder / "rabbitmq.conf").write_text(_CONFIG.format(port=self.port))
        (self._folder / "plugins").write_text("[].\n")
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        self._environment = self._make_environment()
        self._owned.enter_context(self._names())
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._owned.close()

    def _make_environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": folder,
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"pixcrawler{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOGS": "-",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the server, and a signal reaches it
            "RABBITMQ_PID_FILE": f"{folder}/pid",
        }

    def _names(self) -> contextlib.ExitStack:
        """Erlang's register of names, which a node would otherwise start and leave behind."""
        epmd = shutil.which("epmd")
        if epmd is None or not _PROGRAM.exists():
            raise RuntimeError("RabbitMQ is missing: sh infra/setup/brokers.sh")
        with contextlib.ExitStack() as stack:
            names = stack.enter_context(self._spawned([epmd], "names"))
            wait_for_port(int(self._environment["ERL_EPMD_PORT"]), names, self._folder / "names")
            return stack.pop_all()

    def _spawned(
        self, command: list[str | Path], log: str
    ) -> contextlib.AbstractContextManager["subprocess.Popen[bytes]"]:
        return spawned(
            command,
            self._folder / log,
            stop_with=signal.SIGTERM,
            drop_privileges=False,
            environment=self._environment,
        )

    def start(self) -> None:
        """Returns when it answers."""
        self._server = self._running.enter_context(self._spawned([_PROGRAM], "log"))
        wait_for_server("RabbitMQ answers", self.answers, self._server, self._folder / "log")

    def answers(self) -> bool:
        with contextlib.suppress(OSError, AMQPError), self.connected():
            return True
        return False

    @contextlib.contextmanager
    def connected(self) -> "contextlib.Iterator[amqp.Connection]":
        """A plain connection, beside whatever the product does."""
        connection = amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=5)
        connection.connect()
        try:
            yield connection
        finally:
            connection.close()

    def stop(self) -> None:
        """As an operator stops it."""
        self._running.close()

    def kill(self) -> None:
        """As a crash ends it; `start` brings it back."""
        self._server.kill()
        self._server.wait(START_LIMIT_SECONDS)
        self._running.close()

    def pause(self) -> None:
        """It keeps its connections and answers none of them; `resume` lets it go on."""
        self._server.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._server.send_signal(signal.SIGCONT)

    def mend(self) -> None:
        """It runs and answers, whatever was done to it."""
        if self._server.poll() is None:
            self.resume()
        else:
            self._running.close()
            self.start()

    def unacknowledged(self, queue: str) -> int:
        """Messages that are out at workers."""
        lines = (line.split() for line in self.control("list_queues", "name", "messages_unacknowledged").splitlines())
        return next(int(count) for name, count in lines if name == queue)

    def control(self, *arguments: str) -> str:
        """What rabbitmqctl prints."""
        command = [_PROGRAM.with_name("rabbitmqctl"), "--quiet", *arguments]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=START_LIMIT_SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
