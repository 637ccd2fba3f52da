import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixcrawler.local import ports
from pixcrawler.local.environment import of_fork_server
from pixcrawler.local.keeper import Keeper
from pixcrawler.local.process import PYTHON, Command, Process
from pixcrawler.local.services import installed_programs

ROOT = Path(__file__).parents[3]
SERVER = (*PYTHON, "pixcrawler.local.forkserver")
TELL = """
import atexit, json, os, sys
atexit.register(lambda: print("tidied up", file=sys.stderr, flush=True))
print(json.dumps({
    "arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd(), "name": __name__,
    "leads": os.getsid(0) == os.getpid(), "parent": os.getppid(), "input": sys.stdin.read(),
}))
raise SystemExit(7)
"""
SHOW_IMPORTED = """
import json, os, sys
from pixcrawler.local.forkserver import preload
preload(sys.argv[1:])
names = [open(f"/proc/self/task/{number}/comm").read().strip() for number in os.listdir("/proc/self/task")]
assert names.count(names[0]) == 1, names
print(json.dumps([names, list(sys.modules)]))
"""
WAIT = """
import signal, sys
def end(*_):
    print("asked to end", flush=True)
    raise SystemExit(5)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    """One that forks what it starts."""
    (tmp_path / "tell.py").write_text(TELL)
    (tmp_path / "wait.py").write_text(WAIT)
    keeper = Keeper(tmp_path / "processes.json")
    await keeper.fork_from(command(tmp_path, *SERVER, "json", name="forkserver"))
    yield keeper
    await keeper.stop_all()


def command(tmp_path: Path, *program: str, **choices: object) -> Command:
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    wanted = {"name": "it", "environment": {"PYTHONPATH": path}, **choices}
    return Command(program=program, log=tmp_path / "it.log", cwd=tmp_path, **wanted)  # type: ignore[arg-type]


def fork_server_of(tmp_path: Path) -> int:
    entries = json.loads((tmp_path / "processes.json").read_text())
    return next(int(entry["pid"]) for entry in entries if entry["name"] == "forkserver")


async def wrote(process: Process, text: str) -> bool:
    async def has() -> bool:
        return text in process.tail()

    return await ports.until(has, 30)


async def test_a_fork_finds_what_a_program_of_its_own_would_find(keeper: Keeper, tmp_path: Path) -> None:
    asking = command(tmp_path, *PYTHON, "tell", "-x", "y z", environment={"ONLY": "this"}, is_asked=True)

    process = await keeper.start(asking)
    told = json.loads(await process.output(30))

    assert told.pop("parent") != os.getpid()
    assert told == {
        "arguments": ["-x", "y z"],
        "environment": {"ONLY": "this"},
        "folder": str(tmp_path),
        "name": "__main__",
        "leads": True,
        "input": "",
    }
    assert process.exit_code == 7
    assert "tidied up" in process.tail()


async def test_a_fork_stops_by_its_signal_and_is_seen_to(keeper: Keeper, tmp_path: Path) -> None:
    process = await keeper.start(command(tmp_path, *PYTHON, "wait"))
    assert await wrote(process, "up")

    await keeper.stop(process)

    assert process.exit_code == 5
    assert "asked to end" in process.tail()


async def test_the_end_of_a_fork_is_told(keeper: Keeper, tmp_path: Path) -> None:
    process, other = [await keeper.start(command(tmp_path, *PYTHON, "wait")) for _ in range(2)]

    os.kill(process.pid, signal.SIGKILL)

    assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL
    assert other.is_running


async def test_a_fork_server_that_dies_takes_its_forks_along_and_the_next_ones_do_without(
    keeper: Keeper, tmp_path: Path
) -> None:
    process = await keeper.start(command(tmp_path, *PYTHON, "wait"))
    assert await wrote(process, "up")

    os.kill(fork_server_of(tmp_path), signal.SIGKILL)
    await asyncio.wait_for(process.wait(), 30)
    assert await wrote(process, "asked to end")
    next_one = await keeper.start(command(tmp_path, *PYTHON, "tell", is_asked=True))

    assert json.loads(await next_one.output(30))["parent"] == os.getpid()


def test_what_the_services_share_is_imported_with_no_thread_and_no_setting() -> None:
    libraries = installed_programs().fork_server[len(SERVER) :]

    shown = subprocess.run(
        [*PYTHON[:-1], "-c", SHOW_IMPORTED, *libraries],
        env=of_fork_server(os.environ) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    threads, modules = map(set, json.loads(shown))

    # The allocator of pyarrow has a thread, stops it before a fork, and starts it after.
    assert len(threads - {"jemalloc_bg_thd"}) == 1
    # Celery's reads how to take SIGTERM, and whether metrics are counted in files.
    assert not modules & {"billiard.common", "celery.apps.worker", "shared"}
    assert modules >= {"sqlalchemy", "pyarrow", "celery", "fastapi"}
