"""What Sentry is told of an unexpected error, and what it is not; and what telemetry costs while nobody asks for it."""

import json
import subprocess
import sys
from typing import Any

import pytest

from shared.settings import Settings
from tests.collector import Collector

#: A stage that fails once for a reason nobody thought of, and once for one that has a code.
_PROGRAM = """
import sys
import structlog
from shared.logs import set_up_logs
from shared.sentry import sentry
from shared.settings import Settings

def fail(address, password):
    raise RuntimeError(f"cannot use {address}")

settings = Settings.model_validate({"sentry_dsn": sys.argv[1]})
set_up_logs(settings, service="uploader")
log = structlog.get_logger("a.stage")
with (
    sentry(settings, service="uploader"),
    structlog.contextvars.bound_contextvars(job="j-1", chunk=42, stage="upload"),
):
    try:
        fail("https://me:hunter2@store.example/a?sig=hunter3", "hunter4")
    except RuntimeError as error:
        log.error("stage_interrupted", exc_info=error)
    log.error("destination_refused", error="no stack, no report")
"""
_IMPORTED = """
import sys
import gateway.__main__, scheduler.app, uploader.app
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def told() -> str:
    """All that was sent."""
    with Collector() as collector:
        _run(_PROGRAM, f"http://key@127.0.0.1:{collector.port}/7")
        return b"\n".join(collector.bodies).decode()


def _run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_unexpected_error_is_told_with_what_it_was_about(told: str) -> None:
    events: list[dict[str, Any]] = [body for body in map(json.loads, told.splitlines()) if "exception" in body]

    (event,) = events
    assert event["exception"]["values"][0]["type"] == "RuntimeError"
    about = {"job": "j-1", "chunk": "42", "stage": "upload", "service": "uploader", "event": "stage_interrupted"}
    assert about.items() <= event["tags"].items()


def test_no_secret_rides_along_and_what_has_no_stack_is_not_told(told: str) -> None:
    assert "https://store.example/a" in told
    assert "hunter" not in told
    assert "destination_refused" not in told


def test_services_import_no_telemetry_unasked() -> None:
    imported = set(_run(_IMPORTED).split())

    assert imported & {"sentry_sdk", "opentelemetry.sdk.trace", "opentelemetry.exporter"} == set()


@pytest.mark.parametrize(("asked", "extra"), [({"tracing": True}, "otel"), ({"sentry_dsn": "http://k@h/1"}, "sentry")])
def test_what_is_asked_for_and_not_installed_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, object], extra: str
) -> None:
    monkeypatch.setattr("shared.settings.find_spec", lambda _name: None)

    with pytest.raises(ValueError, match=rf"pip install 'pixcrawler\[{extra}\]'"):
        Settings.model_validate(asked)
