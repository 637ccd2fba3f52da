"""A real Prometheus for tests: a container where an engine answers, else the programs of the system's package.

It is never left out: where neither is to be had, its tests fail and say so.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import servers

PROMETHEUS_IMAGE = os.environ.get("PIXCRAWLER_TEST_PROMETHEUS_IMAGE", "prom/prometheus:latest")
_START_LIMIT_SECONDS = 60.0
_RUN_LIMIT_SECONDS = 120
#: Where the image looks for its configuration; it exists in every version of it.
_FOLDER = "/etc/prometheus"


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query. Raises AssertionError with what Prometheus says of a bad one."""
        found: list[dict[str, Any]] = self._ask("query", query=expression)["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every alert, with its health and state."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, what: str, **values: str) -> dict[str, Any]:
        address = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(values)}"
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                data: dict[str, Any] = json.load(answer)["data"]
                return data
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{values}: {error.read().decode()}") from None


@contextlib.contextmanager
def prometheus(files: Mapping[str, str]) -> Iterator[Prometheus]:
    """One that runs with these files, of which one is prometheus.yml. Its targets are this machine's."""
    port = servers.free_port()
    flags = [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    running = _in_container(files, flags) if servers.has_docker_engine() else _from_package(files, flags)
    with running:
        _wait_until_ready(f"http://127.0.0.1:{port}")
        yield Prometheus(f"http://127.0.0.1:{port}")


def promtool(files: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Its exit code and all it said, run in a folder with these files."""
    if servers.has_docker_engine():
        return _promtool_in_container(files, arguments)
    with _folder_of(files) as folder:
        ran = subprocess.run(
            [_program("promtool"), *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_RUN_LIMIT_SECONDS,
        )
    return ran.returncode, ran.stdout + ran.stderr


@contextlib.contextmanager
def _folder_of(files: Mapping[str, str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pixcrawler-prometheus-") as name:
        for file, text in files.items():
            (Path(name) / file).write_text(text)
        yield Path(name)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"neither a Docker engine answers nor is {name} installed (package prometheus)")
    return found


@contextlib.contextmanager
def _from_package(files: Mapping[str, str], flags: list[str]) -> Iterator[None]:
    with _folder_of(files) as folder:
        command = [_program("prometheus"), "--config.file=prometheus.yml", f"--storage.tsdb.path={folder}/data", *flags]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.terminate()
                process.wait(20)


@contextlib.contextmanager
def _in_container(files: Mapping[str, str], flags: list[str]) -> Iterator[None]:
    command = [f"--config.file={_FOLDER}/prometheus.yml", "--storage.tsdb.path=/tmp/prometheus", *flags]
    with _container(files, command=command, network_mode="host") as container:
        container.start()
        yield


def _promtool_in_container(files: Mapping[str, str], arguments: tuple[str, ...]) -> tuple[int, str]:
    with _container(files, entrypoint="promtool", command=list(arguments), working_dir=_FOLDER) as container:
        container.start()
        code: int = container.wait(timeout=_RUN_LIMIT_SECONDS)["StatusCode"]
        return code, container.logs().decode()


@contextlib.contextmanager
def _container(files: Mapping[str, str], **options: Any) -> Iterator[Any]:
    import docker

    with contextlib.closing(docker.from_env(timeout=_RUN_LIMIT_SECONDS)) as client:
        container = client.containers.create(PROMETHEUS_IMAGE, user="0:0", **options)
        try:
            container.put_archive(_FOLDER, _archive(files))
            yield container
        finally:
            container.remove(force=True, v=True)


def _archive(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(text.encode())
            archive.addfile(about, io.BytesIO(text.encode()))
    return packed.getvalue()


def _wait_until_ready(url: str) -> None:
    ends_at = time.monotonic() + _START_LIMIT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
                return
        except OSError:
            assert time.monotonic() < ends_at, "Prometheus does not become ready"
            time.sleep(0.1)


def read_all(folder: Path) -> dict[str, str]:
    """The folder's files by name."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
