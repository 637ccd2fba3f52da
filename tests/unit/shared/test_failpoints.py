import subprocess
import sys
from pathlib import Path

import pytest

REACH_TWICE = """
from shared.failpoints import reach
reach("download.result", 0)
print("once", flush=True)
reach("download.result", 1)
print("twice", flush=True)
"""


def run(folder: Path, asked: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", REACH_TWICE],
        env={"PIXCRAWLER_FAILPOINTS": asked, "PIXCRAWLER_FAILPOINTS_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )


def test_nothing_happens_where_no_test_asks(tmp_path: Path) -> None:
    assert run(tmp_path, "").stdout == "once\ntwice\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "printed", "code"),
    [
        ("download.result:kill", "", -9),
        ("download.result:kill:2", "once\n", -9),
        ("download.result:kill:3", "once\ntwice\n", 0),
        ("download.result@1:kill", "once\n", -9),
        ("download.result@2:kill", "once\ntwice\n", 0),
        ("upload.result:kill", "once\ntwice\n", 0),
        ("download.result:bug", "", 1),
    ],
)
def test_the_asked_point_fails_at_the_asked_time(tmp_path: Path, asked: str, printed: str, code: int) -> None:
    done = run(tmp_path, asked)

    assert (done.stdout, done.returncode) == (printed, code)


def test_a_point_fails_once_over_all_processes_unless_always(tmp_path: Path) -> None:
    assert [run(tmp_path, "download.result:die").returncode for _ in range(2)] == [-9, 0]
    assert (tmp_path / "download.result").exists()
    assert [run(tmp_path, "download.result:die:1:always").returncode for _ in range(2)] == [-9, -9]


@pytest.mark.parametrize("asked", ["nowhere.result:kill", "download.result:explode", "download.result"])
def test_a_point_that_does_not_exist_ends_the_process(tmp_path: Path, asked: str) -> None:
    done = run(tmp_path, asked)

    assert done.returncode == 1
