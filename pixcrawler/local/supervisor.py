"""Owns a stack: `python -m pixcrawler.local.supervisor`, started by `stack.py`, alone in its home.

Reads one line of JSON, the `Request`; tells what it does as lines of JSON until the stack is ready; then
watches: a process that died is started again, and when the last run is gone everything is stopped in
reverse order.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixcrawler.local import services, state
from pixcrawler.local.environment import Place, common, counting
from pixcrawler.local.errors import EXIT_TRY_LATER, LocalStackError
from pixcrawler.local.home import Home, write_private
from pixcrawler.local.keeper import Keeper, log
from pixcrawler.local.leftovers import end_leftovers
from pixcrawler.local.ports import LOOPBACK, free_ports, http_status, until
from pixcrawler.local.postgres import Postgres, prepare
from pixcrawler.local.process import Process
from pixcrawler.local.tasks import together, until_first
from pixcrawler.local.valkey import Valkey

#: How often it looks whether any run is left.
_LOOK_SECONDS = 0.2
_SERVER_STARTS = 3

Tell = Callable[[dict[str, object]], None]
Ready = Callable[[], Coroutine[Any, Any, bool]]


@dataclass(frozen=True)
class Request:
    """What the starting run asks for. Credentials come along in the environment."""

    folder: str
    system_folder: str
    version: str
    gateway_port: int | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        return Home(Path(self.folder), Path(self.system_folder))


class Supervisor:
    """One stack from its start to its end."""

    def __init__(self, request: Request, tell: Tell, programs: services.Programs) -> None:
        self._request = request
        self._programs = programs
        self._home = request.home
        self._tell = tell
        self._keeper = Keeper(self._home.run / "processes.json")

    async def run(self) -> None:
        """Returns when it was stopped; raises LocalStackError when the stack cannot be had or kept."""
        users = state.users_lock(self._home)
        try:
            await until_first(self._start_and_keep(), self._last_user_left(users), _terminated())
        finally:
            state.forget(self._home, "state.json")
            await self._keeper.stop_all()
            users.release()

    async def _start_and_keep(self) -> None:
        await asyncio.to_thread(end_leftovers, self._home.run / "processes.json")
        base, places = await self._start()
        later = {name: place for name, place in places.items() if name not in services.FIRST}
        await together(self._keeper.keep(self._keeper.processes), self._start_and_keep_later(base, later))

    async def _start_and_keep_later(self, base: dict[str, str], places: dict[str, Place]) -> None:
        await self._keeper.keep(await self._start_services(base, places))

    async def _last_user_left(self, users: state.Lock) -> None:
        # Once taken it is kept to the end, so no new run attaches to a stack that is stopping.
        while True:
            if users.take(alone=True):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _start(self) -> tuple[dict[str, str], dict[str, Place]]:
        """Brings up what a run needs to begin; returns what the later services need."""
        began = time.monotonic()
        if self._programs.fork_server:
            command = services.fork_server_command(self._programs.fork_server, home=self._home)
            await self._keeper.fork_from(command)
        postgres, valkey = Postgres(self._home), Valkey(self._home)
        is_new, database_url, redis_url = await self._start_servers(postgres, valkey)
        environment = {**os.environ, **self._request.extra}
        base = common(environment, self._home, database_url=database_url, redis_url=redis_url)
        if is_new:
            self._forget_database()
        await self._migrate(base)
        port = self._request.gateway_port or free_ports(1)[0]
        places = services.places(port)
        self._tell({"event": "starting", "what": "services"})
        first = {name: places[name] for name in services.FIRST}
        await together(self._make_key(base), self._start_services(base, first))
        current = state.State(
            version=self._request.version,
            pid=os.getpid(),
            url=f"http://{LOOPBACK}:{port}",
            health_port=places[services.GATEWAY].health_port,
            settings=state.digests(self._home, counting(os.environ)),
            extra=state.digests(self._home, self._request.extra),
        )
        state.write_state(self._home, current)
        log(f"ready after {time.monotonic() - began:.2f} s at {current.url}")
        self._tell({"event": "ready"})
        return base, places

    async def _start_servers(self, postgres: Postgres, valkey: Valkey) -> tuple[bool, str, str]:
        """Whether the database is new, and the addresses of both."""
        self._tell({"event": "starting", "what": "PostgreSQL and Valkey"})

        async def start_postgres() -> tuple[bool, int]:
            is_new = await prepare(postgres)
            return is_new, await self._serve(postgres)

        (is_new, postgres_port), valkey_port = await together(start_postgres(), self._serve(valkey))
        return is_new, postgres.url(postgres_port), valkey.url(valkey_port)

    async def _serve(self, server: Postgres | Valkey) -> int:
        for port in free_ports(_SERVER_STARTS):
            process = await self._keeper.start(server.command(port))

            async def is_ready(port: int = port) -> bool:
                return await server.is_ready(port)

            if await self._came_up(process, is_ready, server.ready_seconds):
                return port
            tail = process.tail()
            await self._keeper.stop(process)
            if not server.recover(tail):
                break
        raise _did_not_come_up(process)

    async def _came_up(self, process: Process, is_ready: Ready, seconds: float) -> bool:
        """Whether it got ready before it ended or the time was over."""

        async def answered_or_ended() -> bool:
            return not process.is_running or await is_ready()

        return await until(answered_or_ended, seconds) and process.is_running

    def _forget_database(self) -> None:
        """What was learned from another database does not hold for a new one."""
        for name in ("api-key", "schema"):
            (self._home.secrets / name).unlink(missing_ok=True)

    async def _migrate(self, base: dict[str, str]) -> None:
        stamp = self._home.secrets / "schema"
        wanted = self._programs.schema_digest()
        if stamp.exists() and stamp.read_text() == wanted:
            return
        self._tell({"event": "starting", "what": "schema"})
        await self._ask("migrate", self._programs.migrate, base, services.MIGRATE_SECONDS)
        write_private(stamp, wanted)

    async def _make_key(self, base: dict[str, str]) -> None:
        path = self._home.secrets / "api-key"
        if not path.exists():
            write_private(path, await self._ask("keys", self._programs.make_key, base, services.KEY_SECONDS))

    async def _ask(self, name: str, program: tuple[str, ...], base: dict[str, str], seconds: float) -> str:
        process = await self._keeper.start(services.one_off(name, program, home=self._home, base=base))
        try:
            printed = await process.output(seconds)
        except TimeoutError as error:
            raise _did_not_come_up(process) from error
        await self._keeper.stop(process)
        if process.exit_code != 0 or not printed.strip():
            raise _did_not_come_up(process)
        return printed.strip()

    async def _start_services(self, base: dict[str, str], places: dict[str, Place]) -> tuple[Process, ...]:
        async def start(name: str, place: Place) -> Process:
            program = self._programs.services[name]
            command = services.service_command(name, program, place, home=self._home, base=base)
            process = await self._keeper.start(command)

            async def is_ready() -> bool:
                return await http_status(place.health_port, "/readyz") == 200

            if not await self._came_up(process, is_ready, services.READY_SECONDS):
                raise _did_not_come_up(process)
            return process

        return await together(*(start(name, place) for name, place in places.items()))


def main(programs: services.Programs | None = None) -> int:
    """Exit code 0 when it was stopped, else that of the error, which is also told."""
    request = Request(**json.loads(sys.stdin.readline()))
    home = request.home
    lock = state.stack_lock(home)
    if not lock.take(alone=True):
        _tell({"event": "busy"})
        return EXIT_TRY_LATER
    state.forget(home, "state.json", "failure.json")
    try:
        asyncio.run(Supervisor(request, _tell, programs or services.installed_programs()).run())
    except LocalStackError as error:
        log(error.message)
        return _fail(home, error)
    except Exception:
        log(traceback.format_exc())
        return _fail(home, LocalStackError(f"The embedded stack has a bug; please report {home.logs / 'stack.log'}."))
    finally:
        lock.release()
    return 0


def _fail(home: Home, error: LocalStackError) -> int:
    state.write_failure(home, state.Failure(error.message, error.exit_code))
    _tell({"event": "failed", "message": error.message, "exit_code": error.exit_code})
    return error.exit_code


def _did_not_come_up(process: Process) -> LocalStackError:
    name, path = process.command.name, process.command.log
    how = "did not get ready in time" if process.exit_code is None else f"ended with {process.exit_code}"
    return LocalStackError(f"{name} {how}. The end of {path}:\n{process.tail()}")


async def _terminated() -> None:
    wanted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, wanted.set)
    await wanted.wait()


def _tell(event: dict[str, object]) -> None:
    # The run that listens may be gone; then its lock is gone too, and the stack will stop.
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    raise SystemExit(main())
