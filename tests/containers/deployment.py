"""docker-compose.yml as an operator uses it: built, started, scaled, and taken away with its volumes."""

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.architecture.tree import ROOT
from tests.servers import free_port, has_docker_engine

BUILD_LIMIT_SECONDS = 600.0
START_LIMIT_SECONDS = 240.0
_COMMAND_LIMIT_SECONDS = 120.0
_LOOK_EVERY = 0.25
#: Of the tests' own environment; a developer's passwords and settings are not.
_PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_BUILDKIT", "COMPOSE_BAKE")
#: Images of tests never stand in the way of an operator's.
TAG = "test"


@cache
def compose_command() -> tuple[str, ...] | None:
    """Compose 2 where Docker has it, else docker-compose 1.29, unless `PIXCRAWLER_TEST_COMPOSE` says; None: neither."""
    asked = os.environ.get("PIXCRAWLER_TEST_COMPOSE")
    candidates = [tuple(asked.split())] if asked else [("docker", "compose"), ("docker-compose",)]
    return next((command for command in candidates if _answers(command)), None)


def what_is_missing() -> str | None:
    """Why no container can be tested on this machine; None when they can."""
    if not has_docker_engine():
        return "no Docker engine answers"
    if compose_command() is None:
        return "there is neither docker compose nor docker-compose"
    return None


def _answers(command: Sequence[str]) -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run([*command, "version"], capture_output=True, check=False, timeout=30).returncode == 0
    return False


def docker(*arguments: str, limit_seconds: float = _COMMAND_LIMIT_SECONDS) -> str:
    """What the docker command prints. Fails the test with what it complained of."""
    return _run(["docker", *arguments], limit_seconds=limit_seconds)


def inspect(container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", container))[0]
    return found


def bridge_address() -> str:
    """Where containers reach this machine."""
    network = json.loads(docker("network", "inspect", "bridge"))[0]
    return str(network["IPAM"]["Config"][0].get("Gateway") or "172.17.0.1")


def wait_until(claim: str, holds: Callable[[], bool], *, limit_seconds: float = START_LIMIT_SECONDS) -> None:
    """Returns when it holds; fails the test when it does not within the limit."""
    until = time.monotonic() + limit_seconds
    while not holds():
        assert time.monotonic() < until, f"waited {limit_seconds:.0f} s in vain: {claim}"
        time.sleep(_LOOK_EVERY)


def _last_words(container: str) -> str:
    logs = ["docker", "logs", "--tail", "40", container]
    said = subprocess.run(logs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=30)
    return said.stdout


def wait_until_healthy(container: str) -> None:
    """Returns when the container's own check says so; fails the test when it ends instead."""

    def is_healthy() -> bool:
        state = inspect(container)["State"]
        assert state["Running"], f"it ended: {_last_words(container)}"
        return bool(state["Health"]["Status"] == "healthy")

    image = inspect(container)["Config"]["Image"]
    wait_until(f"{image} is healthy", is_healthy)


@dataclass(frozen=True)
class Deployment:
    """One project of docker-compose, with an .env of its own."""

    project: str
    env_file: Path
    profiles: tuple[str, ...]
    gateway_port: int
    azurite_port: int

    def compose(self, *arguments: str, limit_seconds: float = _COMMAND_LIMIT_SECONDS) -> str:
        """What docker-compose prints. Fails the test with what it complained of."""
        command = compose_command()
        assert command is not None, what_is_missing()
        files = (ROOT / "docker-compose.yml", Path(__file__).with_name("settings.yml"))
        options = [
            *("--project-name", self.project, "--project-directory", str(ROOT), "--env-file", str(self.env_file)),
            *(part for file in files for part in ("--file", str(file))),
            *(part for profile in self.profiles for part in ("--profile", profile)),
        ]
        return _run([*command, *options, *arguments], limit_seconds=limit_seconds)

    def build(self) -> None:
        self.compose("build", limit_seconds=BUILD_LIMIT_SECONDS)

    def up(self, *options: str) -> None:
        """Returns when the services are ready."""
        self.compose("up", "--detach", *options, limit_seconds=START_LIMIT_SECONDS)
        for service in ("gateway", "scheduler", "downloader", "validator", "uploader"):
            for container in self.containers(service):
                wait_until_healthy(container)

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", limit_seconds=START_LIMIT_SECONDS)

    def containers(self, service: str) -> list[str]:
        """The ids of its running containers."""
        labels = {"project": self.project, "service": service, "oneoff": "False"}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        return docker("ps", "--quiet", "--no-trunc", *filters).split()

    def query(self, statement: str) -> list[str]:
        """The lines that PostgreSQL answers, columns separated by |."""
        shown = self.compose("exec", "-T", "postgres", "psql", "-U", "pixcrawler", "-At", "-c", statement)
        return shown.split()

    def api_key(self, tenant: str) -> str:
        """A new key, made by the command that operators use."""
        return self.compose("run", "--rm", "-T", "keys", "create", "--tenant", tenant).split()[-1]

    def setting(self, name: str) -> str:
        """A value of its .env."""
        lines = (line.partition("=") for line in self.env_file.read_text().splitlines())
        return next(value for key, _, value in lines if key == name)


@contextlib.contextmanager
def deployment(folder: Path, *, profiles: tuple[str, ...], settings: Mapping[str, str]) -> Iterator[Deployment]:
    """A project that is built but not started; at the end nothing of it is left but its images."""
    gateway, azurite, env_file = free_port(), free_port(), folder / ".env"
    own = {"PIXCRAWLER_TAG": TAG, "PIXCRAWLER_PORT": f"127.0.0.1:{gateway}", "AZURITE_PORT": str(azurite)}
    env_file.write_text("".join(f"{name}={value}\n" for name, value in (own | dict(settings)).items()))
    _run(["sh", str(ROOT / "infra" / "setup" / "env.sh"), str(env_file)])
    made = Deployment(f"pixcrawler-test-{secrets.token_hex(3)}", env_file, profiles, gateway, azurite)
    made.build()
    try:
        yield made
    finally:
        made.down()


def _run(command: Sequence[str], *, limit_seconds: float = _COMMAND_LIMIT_SECONDS) -> str:
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=limit_seconds, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done.stdout
