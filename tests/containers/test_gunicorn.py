"""Gunicorn with uvicorn's worker class serves the gateway, for those who must have it."""

import json
from collections.abc import Iterator

import pytest

from tests.architecture.tree import ROOT
from tests.containers.deployment import BUILD_LIMIT_SECONDS, TAG, Deployment, docker, inspect, wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

_IMAGE = f"pixcrawler-gunicorn:{TAG}"
#: Prints the status and the body that a path is answered with.
_ASK = """
import sys
from urllib.error import HTTPError
from urllib.request import urlopen
try:
    answer = urlopen("http://127.0.0.1:8080" + sys.argv[1], timeout=10)
except HTTPError as refused:
    answer = refused
except OSError:
    sys.exit("0 nobody")
print(answer.status, answer.read().decode())
"""


@pytest.fixture
def gunicorn(system: Deployment) -> Iterator[str]:
    """A container beside the gateway's, with its settings."""
    system.up()
    folder = str(ROOT / "tests" / "containers" / "gunicorn")
    gateway_image = f"--build-arg=GATEWAY_IMAGE=pixcrawler-gateway:{TAG}"
    docker("build", "--quiet", "--tag", _IMAGE, gateway_image, folder, limit_seconds=BUILD_LIMIT_SECONDS)
    (gateway,) = system.containers("gateway")
    settings = [value for value in inspect(gateway)["Config"]["Env"] if value.startswith("PIXCRAWLER_")]
    options = [
        *("--detach", "--init", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", f"--network={system.project}_inner"),
        *(f"--volume={system.project}_{name}:/var/lib/pixcrawler/{name}" for name in ("spool", "scratch")),
        *(f"--env={setting}" for setting in settings),
    ]
    container = docker("run", *options, _IMAGE).strip()
    try:
        yield container
    finally:
        docker("rm", "--force", container)


def ask(container: str, path: str) -> tuple[int, str]:
    status, _, body = docker("exec", container, "sh", "-c", f'python -c "$0" {path} || echo 0', _ASK).partition(" ")
    return int(status), body


def test_gunicorn_serves_the_gateway_and_stops_when_asked(gunicorn: str) -> None:
    wait_until("it is ready", lambda: ask(gunicorn, "/readyz")[0] == 200, limit_seconds=240)
    status, body = ask(gunicorn, "/v1/me")
    served_by = docker("top", gunicorn, "-eo", "pid,args").count("gunicorn gateway.asgi:app()")

    assert (status, json.loads(body)["code"]) == (401, "unauthorized")
    assert served_by >= 5, "one that watches, four that serve"
    docker("stop", "--time=60", gunicorn)
    assert inspect(gunicorn)["State"]["ExitCode"] == 0
