"""The embedded stack with its real PostgreSQL and Valkey, and small services in place of the five."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pixcrawler.local import Event, Home, LocalStack, LocalStackError
from pixcrawler.local.binaries import usable_postgres_binaries
from pixcrawler.local.errors import EXIT_CONFIG, EXIT_TRY_LATER
from pixcrawler.local.home import is_root
from pixcrawler.local.services import SERVICES

SUPERVISOR = (sys.executable, "-P", str(Path(__file__).parent / "embedded" / "supervisor.py"))
SECONDS = 20.0
RUN = """
import sys
from pathlib import Path
from pixcrawler.local import Home, LocalStack
with LocalStack(home=Home(Path(sys.argv[1])), supervisor=sys.argv[2:]) as stack:
    print(stack.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / ("a home with spaces " + "and a long name " * 6))
    yield home
    home.erase()


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each service appends its process number when it starts."""
    folder = tmp_path / "pids"
    folder.mkdir()
    monkeypatch.setenv("PIXCRAWLER_TEST_PIDS", str(folder))
    return folder


def stack_of(home: Home, **choices: object) -> LocalStack:
    return LocalStack(home=home, supervisor=SUPERVISOR, **choices)  # type: ignore[arg-type]


def eventually(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def registered(home: Home) -> dict[str, int]:
    """The process numbers, once the services that may come later have come."""
    assert eventually(lambda: _pids_in(home).keys() >= {"PostgreSQL", "Valkey", *SERVICES})
    return _pids_in(home)


def supervisor_of(home: Home) -> int:
    return int(json.loads((home.run / "state.json").read_text())["pid"])


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def environment_of(home: Home, name: str) -> dict[str, str]:
    text = Path(f"/proc/{registered(home)[name]}/environ").read_text()
    return dict(part.split("=", 1) for part in text.split("\0") if "=" in part)


@contextlib.contextmanager
def another_run(home: Home) -> Iterator["subprocess.Popen[str]"]:
    """A run in a process of its own; it leaves when its input ends."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(home.folder), *SUPERVISOR],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        assert run.stdout.readline().startswith("http://")
        yield run


def test_a_stack_comes_up_and_everything_ends_with_its_only_run(home: Home) -> None:
    events: list[Event] = []

    with stack_of(home, on_event=events.append) as stack:
        processes = registered(home)
        assert stack.url.startswith("http://127.0.0.1:")
        assert stack.api_key == (home.secrets / "api-key").read_text()
        assert all(is_alive(processes[name]) for name in ("PostgreSQL", "Valkey", *SERVICES))

    assert not any(is_alive(pid) for pid in processes.values())
    assert not (home.run / "state.json").exists()
    assert [event.text for event in events][:1] == ["starting PostgreSQL and Valkey"]


async def test_both_servers_want_their_passwords(home: Home) -> None:
    with stack_of(home):
        given = environment_of(home, "gateway")
        database, cache = given["PIXCRAWLER_DATABASE_URL"], given["PIXCRAWLER_REDIS_URL"]

        connection = await asyncpg.connect(database)
        assert await connection.fetchval("SELECT current_setting('synchronous_commit')") == "on"
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
        await connection.close()
        with redis.Redis.from_url(cache) as client:
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}

        once = Retry(NoBackoff(), 0)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(database.replace(urlsplit(database).password or "", "wrong"))
        with (
            redis.Redis(port=urlsplit(cache).port or 0, retry=once) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


async def test_data_and_key_are_kept_for_the_next_run(home: Home) -> None:
    with stack_of(home) as stack:
        key = stack.api_key
        connection = await asyncpg.connect(environment_of(home, "gateway")["PIXCRAWLER_DATABASE_URL"])
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        await connection.close()

    with stack_of(home) as stack:
        connection = await asyncpg.connect(environment_of(home, "gateway")["PIXCRAWLER_DATABASE_URL"])
        assert await connection.fetchval("SELECT answer FROM kept") == 42
        await connection.close()
        assert stack.api_key == key


def test_all_that_is_kept_is_for_this_user_alone(home: Home) -> None:
    with stack_of(home):
        pass

    for path in (home.folder, *home.folder.iterdir(), *home.secrets.iterdir(), *home.logs.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE(home.postgres.stat().st_mode) == 0o700


def test_services_run_in_an_empty_folder_with_a_chosen_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-user")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    monkeypatch.setenv("PIXCRAWLER_REDIS_URL", "redis://elsewhere")

    with stack_of(home):
        given = environment_of(home, "downloader")
        where = get(int(given["PIXCRAWLER_HTTP_PORT"]), "/livez").decode().split(maxsplit=1)[1]

    assert Path(where) == home.empty.resolve()
    assert not list(home.empty.iterdir())
    assert given["AWS_ACCESS_KEY_ID"] == "from-the-user"
    assert "CELERY_BROKER_URL" not in given
    assert given["PIXCRAWLER_REDIS_URL"].startswith("redis://:")


def test_a_second_run_joins_and_the_last_one_that_leaves_stops_the_stack(home: Home) -> None:
    first = stack_of(home)
    first.start()
    with another_run(home) as second:
        processes = {name: registered(home)[name] for name in ("PostgreSQL", "Valkey", *SERVICES)}

        first.stop()

        assert all(is_alive(pid) for pid in processes.values())
        second.communicate("")
        assert second.returncode == 0
    assert not any(is_alive(pid) for pid in processes.values())


def test_two_runs_that_start_at_once_share_one_stack(home: Home) -> None:
    home.create()

    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(home.folder), *SUPERVISOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    urls = {run.stdout.readline() for run in runs if run.stdout}

    assert len(urls) == 1
    for run in runs:
        with run:
            run.communicate("")
        assert run.returncode == 0


def test_a_killed_run_leaves_nothing_behind(home: Home) -> None:
    with another_run(home) as run:
        processes = registered(home)
        run.kill()

    assert eventually(lambda: not any(is_alive(pid) for pid in processes.values()))


def test_processes_die_with_a_killed_supervisor_and_the_next_run_recovers(home: Home) -> None:
    with stack_of(home):
        processes = registered(home)
        os.kill(supervisor_of(home), signal.SIGKILL)
        assert eventually(lambda: not any(is_alive(pid) for pid in processes.values()))

    with stack_of(home) as stack:
        assert stack.api_key


def test_what_survives_a_killed_supervisor_is_ended_by_the_next_one(home: Home) -> None:
    with stack_of(home):
        processes = registered(home)
        # Stopped processes do not act on the signal they get when the supervisor dies.
        for name in ("PostgreSQL", "gateway"):
            os.kill(processes[name], signal.SIGSTOP)
        os.kill(supervisor_of(home), signal.SIGKILL)
        assert eventually(lambda: not is_alive(processes["uploader"]))
        os.kill(processes["PostgreSQL"], signal.SIGCONT)

    with stack_of(home):
        assert not is_alive(processes["gateway"])


@pytest.mark.parametrize("name", ["downloader", "Valkey", "PostgreSQL"])
def test_a_process_that_is_killed_is_started_again(home: Home, name: str) -> None:
    with stack_of(home):
        before = registered(home)[name]

        os.kill(before, signal.SIGKILL)

        assert eventually(lambda: registered(home)[name] != before and is_alive(registered(home)[name]))


def test_a_service_that_dies_at_start_is_explained_by_its_log(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXCRAWLER_TEST_DEAD", "scheduler")

    with pytest.raises(LocalStackError) as caught, stack_of(home):
        pass

    assert "scheduler has no wish to live" in caught.value.message
    assert str(home.logs / "scheduler.log") in caught.value.message
    assert not any(is_alive(pid) for pid in _pids_in(home).values())


def test_a_later_service_that_dies_at_start_is_told_to_the_run_that_waits(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXCRAWLER_TEST_DEAD", "validator")

    with stack_of(home) as stack, pytest.raises(LocalStackError, match="validator has no wish to live"):
        stack.wait(SECONDS)


def test_a_service_that_dies_too_often_ends_the_stack_with_a_sentence(home: Home, pids: Path) -> None:
    def is_over() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            get(port, "/die")
        return not (home.run / "state.json").exists()

    with stack_of(home) as stack:
        port = int(environment_of(home, "downloader")["PIXCRAWLER_HTTP_PORT"])

        assert eventually(is_over)

        with pytest.raises(LocalStackError, match="downloader ended 5 times within a minute"):
            stack.wait(SECONDS)
    assert len((pids / "downloader").read_text().splitlines()) == 5


def test_a_run_with_other_credentials_is_told_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []

    with another_run(home):
        monkeypatch.setenv("AZURE_STORAGE_KEY", "mine")
        with stack_of(home, on_event=events.append):
            pass

    (event,) = events
    assert event.is_notice
    assert "AZURE_STORAGE_KEY" in event.text
    assert "mine" not in event.text + (home.logs / "stack.log").read_text()


def test_a_run_that_needs_other_allowances_is_refused(home: Home) -> None:
    with (
        another_run(home),
        pytest.raises(LocalStackError, match="PIXCRAWLER_ALLOW_PORTS") as caught,
        stack_of(home, extra_environment={"PIXCRAWLER_ALLOW_PORTS": "[1]"}),
    ):
        pass

    assert caught.value.exit_code == EXIT_TRY_LATER


def test_data_of_another_postgresql_are_refused(home: Home) -> None:
    with stack_of(home):
        pass
    (home.postgres / "data" / "PG_VERSION").write_text("17\n")

    with pytest.raises(LocalStackError, match="belong to PostgreSQL 17") as caught, stack_of(home):
        pass

    assert caught.value.exit_code == EXIT_CONFIG


def test_an_interrupted_first_start_is_begun_again(home: Home) -> None:
    with stack_of(home):
        pass
    (home.postgres / "data").rename(home.postgres / "data.new")

    with stack_of(home) as stack:
        assert stack.api_key


def test_a_lock_file_that_names_a_stranger_is_removed(home: Home) -> None:
    with stack_of(home):
        pass
    pid_file = home.postgres / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{home.postgres / 'data'}\n0\n")
    shutil.chown(pid_file, *_owner(home.postgres))

    with stack_of(home) as stack:
        assert stack.api_key


def test_a_lost_password_is_replaced(home: Home) -> None:
    with stack_of(home):
        pass
    (home.secrets / "postgres-password").unlink()

    with stack_of(home):
        assert is_alive(registered(home)["PostgreSQL"])


def test_valkey_data_that_cannot_be_read_are_set_aside(home: Home) -> None:
    with stack_of(home):
        pass
    (log,) = (home.valkey / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*9\r\nthis is no append only file\r\n" * 9)

    with stack_of(home):
        assert home.valkey.with_name("valkey.unreadable").is_dir()


def test_a_port_in_use_is_named(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(LocalStackError, match=f"Port {port}"), stack_of(home, gateway_port=port):
            pass


@pytest.mark.skipif(not is_root(), reason="an ordinary user runs the installed programs")
def test_programs_out_of_reach_are_copied_where_nobody_can_run_them() -> None:
    with tempfile.TemporaryDirectory(prefix="pixcrawler-") as folder:
        system = Path(folder)
        system.chmod(0o711)

        from pixcrawler.local.binaries import _copied, postgres_binaries

        programs = _copied(postgres_binaries(), system)

        shown = subprocess.run(
            [programs / "postgres", "--version"], user="nobody", capture_output=True, text=True, check=True, cwd="/"
        )
        assert shown.stdout.startswith("postgres (PostgreSQL) 18")
        assert stat.S_IMODE(system.stat().st_mode) == 0o711
        assert usable_postgres_binaries(Home(system, system)).name == "bin"


def _owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


def _pids_in(home: Home) -> dict[str, int]:
    with contextlib.suppress(FileNotFoundError):
        return {entry["name"]: entry["pid"] for entry in json.loads((home.run / "processes.json").read_text())}
    return {}
