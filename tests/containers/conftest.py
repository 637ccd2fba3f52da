"""Where container tests run: always in CI, and elsewhere wherever Docker is to be had. And what they share."""

import os
from collections.abc import Iterator

import pytest

from pixcrawler import Client
from pixcrawler.sample import Origin, sample_origin
from tests.containers.deployment import Deployment, bridge_address, deployment, what_is_missing

_FOLDER = "tests/containers/"
#: Three chunks, which take a third of a minute at that pace.
_ROWS = 1100
_ROWS_A_SECOND = 60

_is_ci = os.environ.get("CI") == "true"
_left_out = pytest.StashKey[str]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without Docker they are left out, not skipped; CI has no such choice, there they fail."""
    ours = [item for item in items if item.nodeid.startswith(_FOLDER)]
    if ours and not _is_ci and (missing := what_is_missing()):
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]
        config.stash[_left_out] = f"{len(ours)} container tests left out: {missing}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if note := config.stash.get(_left_out, None):
        terminalreporter.write_line(note, yellow=True)


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    """A web server on this machine that containers can reach."""
    assert what_is_missing() is None, what_is_missing()
    with sample_origin(rows=_ROWS, host=bridge_address()) as running:
        yield running


@pytest.fixture(scope="session")
def system(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Built and started, with an emulator of Azure, and allowed to fetch from the origin."""
    allowed = origin.extra_environment
    settings = {
        "TEST_ALLOW_CIDRS": allowed["PIXCRAWLER_ALLOW_CIDRS"],
        "TEST_ALLOW_PORTS": allowed["PIXCRAWLER_ALLOW_PORTS"],
        "TEST_ROWS_A_SECOND": str(_ROWS_A_SECOND),
    }
    with deployment(tmp_path_factory.mktemp("compose"), profiles=("azure",), settings=settings) as made:
        made.up()
        yield made


@pytest.fixture(scope="session")
def client(system: Deployment) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{system.gateway_port}", system.api_key("cats")) as client:
        yield client
