"""A process's temporary files are gone with it, also when it was killed, and never while it lives."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OWNER = """
import multiprocessing.util, os, sys, tempfile
from pathlib import Path
from shared.scratch import keep_temporary_files_in, own_folder
folder = own_folder()
keep_temporary_files_in(folder)
tempfile.mkdtemp()
multiprocessing.util.get_temp_dir()  # removes its folder itself
{more}
print(folder, flush=True)
sys.stdin.readline()
"""
#: A child that ends when its parent's input does.
WITH_CHILD = "if os.fork() == 0:\n    sys.stdin.readline()\n    os._exit(0)"


@contextmanager
def owner(temporary: Path, more: str = "") -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that holds a folder until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(more=more)],
        env={"TMPDIR": str(temporary), "PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def folders(temporary: Path) -> set[Path]:
    return set((temporary / f"pixcrawler-{os.geteuid()}").iterdir())


def test_it_goes_with_its_process_and_without_a_word(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, folder):
        assert len(list(folder.iterdir())) == 2

        _, said = process.communicate("\n", timeout=30)

        assert (process.returncode, said) == (0, "")
    assert folders(tmp_path) == set()


def test_what_a_killed_process_left_goes_with_the_next_start(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, left):
        process.kill()
        process.wait(timeout=30)
        assert folders(tmp_path) == {left}

        with owner(tmp_path) as (_, folder):
            assert folders(tmp_path) == {folder}


def test_what_a_living_process_has_stays(tmp_path: Path) -> None:
    with owner(tmp_path) as (_, first), owner(tmp_path) as (_, second):
        assert folders(tmp_path) == {first, second}
        assert list(first.iterdir())


def test_what_a_living_child_of_a_killed_process_has_stays(tmp_path: Path) -> None:
    with owner(tmp_path, WITH_CHILD) as (process, first):
        process.kill()
        process.wait(timeout=30)

        with owner(tmp_path) as (_, second):
            assert folders(tmp_path) == {first, second}


def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    taken = tmp_path / f"pixcrawler-{os.geteuid()}"
    taken.mkdir()
    taken.chmod(0o777)

    with owner(tmp_path) as (_, folder):
        assert folder.parent != taken
        assert folder.parent.parent == tmp_path
