"""Live and ready checks, over HTTP."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest

from shared.errors import PermanentError
from shared.health import HealthServer

HOST = "127.0.0.1"


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def wrong() -> dict[str, str | None]:
    """What each check finds."""
    return {"database": None, "loop": None, "live": None}


@pytest.fixture
def port(wrong: dict[str, str | None]) -> Iterator[int]:
    checks = {"database": lambda: wrong["database"], "loop": lambda: wrong["loop"]}
    with closing(HealthServer(HOST, 0, checks, is_live=lambda: wrong["live"])) as server:
        yield server.port


def test_all_is_well(port: int) -> None:
    assert get(port, "/livez") == (200, '{"live": "ok"}')
    assert get(port, "/readyz") == (200, '{"database": "ok", "loop": "ok"}')


def test_ready_names_what_is_wrong_and_alive_stays_alive(port: int, wrong: dict[str, str | None]) -> None:
    wrong["database"] = "it does not answer"

    status, body = get(port, "/readyz")

    assert (status, json.loads(body)) == (503, {"database": "it does not answer", "loop": "ok"})
    assert get(port, "/livez")[0] == 200


def test_a_loop_that_stands_still_is_not_alive(port: int, wrong: dict[str, str | None]) -> None:
    wrong["live"] = "the loop has not turned"

    assert get(port, "/livez") == (503, '{"live": "the loop has not turned"}')


def test_metrics_are_told(port: int) -> None:
    status, body = get(port, "/metrics")

    assert status == 200
    assert "# HELP pixcrawler_claims_total" in body


def test_other_pages_are_not_there(port: int) -> None:
    assert get(port, "/etc/passwd")[0] == 404


def test_a_port_that_is_taken_is_told_in_a_sentence(port: int) -> None:
    with pytest.raises(PermanentError, match=f"{HOST}:{port}.*HTTP_PORT"):
        HealthServer(HOST, port, {})
