import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pixcrawler.local import leftovers, ports
from pixcrawler.local.home import Home
from pixcrawler.local.keeper import backoff_seconds
from pixcrawler.local.process import Command, Process
from pixcrawler.local.state import Lock, digests
from pixcrawler.local.tasks import together, until_first

LAUNCH = Path(leftovers.__file__).with_name("launch.py")
SLEEP = (sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()")


def command(tmp_path: Path, *program: str, **choices: object) -> Command:
    return Command(
        name="it",
        program=program,
        log=tmp_path / "it.log",
        cwd=tmp_path,
        environment=dict(os.environ),
        **choices,  # type: ignore[arg-type]
    )


async def wrote(process: Process, text: str) -> bool:
    async def has() -> bool:
        return text in process.tail()

    return await ports.until(has, 10)


@pytest.mark.parametrize(("deaths", "seconds"), [(1, 0.2), (2, 0.4), (3, 0.8), (4, 1.6), (9, 5.0)])
def test_a_process_that_keeps_dying_waits_longer_up_to_a_bound(deaths: int, seconds: float) -> None:
    assert backoff_seconds(deaths) == pytest.approx(seconds)


async def test_a_process_stops_by_its_signal(tmp_path: Path) -> None:
    process = await Process.start(command(tmp_path, *SLEEP, stop_signal=signal.SIGINT))
    assert await wrote(process, "up")

    await process.stop()

    assert process.exit_code != 0
    assert not process.is_running


async def test_a_process_that_does_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
        "print('child', child.pid, 'up', flush=True); signal.pause()"
    )
    process = await Process.start(command(tmp_path, sys.executable, "-c", stubborn, stop_seconds=0.1))
    assert await wrote(process, "up")
    child = int(process.tail().split()[1])

    await process.stop()

    async def is_gone() -> bool:
        return not leftovers.started(child)

    assert process.exit_code == -signal.SIGKILL
    assert await ports.until(is_gone, 10)


async def test_a_tail_shows_this_run_only(tmp_path: Path) -> None:
    (tmp_path / "it.log").write_text("an older run\n")

    process = await Process.start(command(tmp_path, sys.executable, "-c", "print('a'); print('b'); print('c')"))
    await process.wait()

    assert process.tail(lines=2) == "b\nc"
    assert "older" not in process.tail()


async def test_a_command_that_is_asked_gives_its_output(tmp_path: Path) -> None:
    asking = command(tmp_path, sys.executable, "-c", "print('the key')", is_asked=True)

    process = await Process.start(asking)

    assert await process.output(10) == "the key\n"


def test_a_launched_program_has_python_s_ignored_signals_back() -> None:
    shown = subprocess.run(
        [sys.executable, "-I", "-S", LAUNCH, str(os.getpid()), "15", "", "/bin/cat", "/proc/self/status"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    (ignored,) = (line.split()[1] for line in shown.splitlines() if line.startswith("SigIgn"))
    assert not int(ignored, 16) >> (signal.SIGPIPE - 1) & 1


def test_nothing_is_launched_for_a_parent_that_is_gone() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", LAUNCH, "1", "15", "", "/bin/echo", "up"], capture_output=True, text=True
    )

    assert done.returncode == 1
    assert done.stdout == ""


def test_a_process_number_given_to_another_is_left_alone(tmp_path: Path) -> None:
    register = tmp_path / "processes.json"
    register.write_text(f'[{{"name": "it", "pid": {os.getpid()}, "started": "long ago", "stop_signal": 15}}]')

    assert leftovers.end_leftovers(register) == []
    assert not register.exists()


def test_a_spoilt_register_is_as_good_as_none(tmp_path: Path) -> None:
    register = tmp_path / "processes.json"
    register.write_text('[{"name": ')

    assert leftovers.end_leftovers(register) == []


def test_a_lock_is_shared_or_had_alone(tmp_path: Path) -> None:
    first, second, alone = (Lock(tmp_path / "lock") for _ in range(3))

    assert first.take(alone=False)
    assert second.take(alone=False)
    assert not alone.could_take(alone=True)
    first.release()
    second.release()
    assert alone.could_take(alone=True)


def test_digests_tell_values_apart_without_telling_them(tmp_path: Path) -> None:
    home, other = Home(tmp_path / "a"), Home(tmp_path / "b")
    home.create()
    other.create()

    digest = digests(home, {"AWS_SECRET_ACCESS_KEY": "x"})

    assert digest == digests(home, {"AWS_SECRET_ACCESS_KEY": "x"})
    assert digest != digests(home, {"AWS_SECRET_ACCESS_KEY": "y"})
    assert digest != digests(other, {"AWS_SECRET_ACCESS_KEY": "x"})


async def test_the_first_error_of_several_cancels_the_others() -> None:
    cancelled = asyncio.Event()

    async def fail() -> None:
        raise OSError("no")

    async def last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(OSError, match="no"):
        await together(last(), fail())
    assert cancelled.is_set()


async def test_the_first_that_ends_ends_the_others() -> None:
    cancelled = asyncio.Event()

    async def last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def first() -> None:
        return None

    await until_first(last(), first())

    assert cancelled.is_set()


def test_free_ports_differ() -> None:
    assert len(set(ports.free_ports(20))) == 20


async def test_nobody_who_answers_is_status_zero() -> None:
    (port,) = ports.free_ports(1)

    assert await ports.http_status(port, "/readyz") == 0
