"""What is opened for tests is told by every worker that starts with it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from downloader.settings import DownloaderSettings
from tests.architecture.tree import ROOT


def _started(folder: Path, **environment: str) -> list[dict[str, Any]]:
    """The lines a worker has logged when it is wired."""
    done = subprocess.run(
        [sys.executable, "-c", "import downloader.app"],
        cwd=ROOT,
        env=os.environ | {"PIXCRAWLER_WORK_DIR": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_worker_with_allowances_warns_when_it_starts(tmp_path: Path) -> None:
    lines = _started(
        tmp_path,
        PIXCRAWLER_ALLOW_NAMES='["fixtures"]',
        PIXCRAWLER_ALLOW_CIDRS='["127.0.0.0/8"]',
        PIXCRAWLER_ALLOW_PORTS="[0]",
    )

    assert [line["event"] for line in lines] == ["test_allowances_in_force"]
    assert lines[0]["level"] == "warning"
    assert lines[0]["allow_names"] == ["fixtures"]
    assert lines[0]["allow_cidrs"] == ["127.0.0.0/8"]
    assert lines[0]["allow_ports"] == ["0"]


def test_a_worker_without_allowances_has_nothing_to_tell(tmp_path: Path) -> None:
    assert _started(tmp_path) == []


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, {}),
        ({"allow_ports": {0}}, {"allow_ports": ["0"]}),
        ({"allow_names": {"b", "a"}}, {"allow_names": ["a", "b"]}),
    ],
)
def test_only_what_was_opened_is_named(chosen: dict[str, object], expected: dict[str, list[str]]) -> None:
    settings = DownloaderSettings.model_validate(chosen)

    assert settings.allowances() == expected
    assert settings.policy().has_allowances == bool(expected)
