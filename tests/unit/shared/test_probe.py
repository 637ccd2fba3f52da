"""The check that containers ask of themselves."""

from collections.abc import Iterator

import pytest

from shared import probe
from shared.health import HealthServer
from tests.servers import free_port


@pytest.fixture
def troubles() -> dict[str, str | None]:
    return {"database": None}


@pytest.fixture
def port(troubles: dict[str, str | None]) -> Iterator[int]:
    server = HealthServer("127.0.0.1", 0, {"database": lambda: troubles["database"]})
    yield server.port
    server.close()


def test_a_ready_service_is_healthy(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main([str(port)]) == 0
    assert capsys.readouterr().out == '{"database": "ok"}\n'


def test_a_service_that_is_not_ready_says_why(
    port: int, troubles: dict[str, str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    troubles["database"] = "it does not answer"

    assert probe.main([str(port)]) == 1
    assert "it does not answer" in capsys.readouterr().out


def test_a_service_that_does_not_listen_is_not_healthy() -> None:
    assert probe.main([str(free_port())]) == 1
