"""A run's side of the embedded stack: join the running one or start it, and leave it at the end."""

import contextlib
import http.client
import importlib.metadata
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

from pixcrawler.local import checks
from pixcrawler.local.binaries import check_platform
from pixcrawler.local.environment import counting
from pixcrawler.local.errors import EXIT_TRY_LATER, LocalStackError
from pixcrawler.local.home import Home, append_private

#: The first start on a slow machine, with making the database, and an earlier stack's stop before it.
_START_SECONDS = 180.0
#: The stack's own limits for a clean stop, and some more.
_STOP_SECONDS = 40.0
_PAUSE_SECONDS = 0.02
_ASK_SECONDS = 5.0
_SUPERVISOR = (sys.executable, "-P", "-m", "pixcrawler.local.supervisor")
#: Supervisors live longer than the run that started them; kept so that nobody complains about that.
_supervisors: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Event:
    """Something to show while the stack starts. `is_notice`: a sentence the user should read."""

    text: str
    is_notice: bool = False


class LocalStack:
    """One run's hold on the user's stack. Blocking; leave an event loop free with `asyncio.to_thread`.

    `extra_environment` are settings that the services must have been started with, such as the addresses
    a test origin needs; a running stack without them is refused. Storage credentials and other settings are
    those of the run that started the stack.
    """

    def __init__(
        self,
        *,
        home: Home | None = None,
        on_event: Callable[[Event], None] | None = None,
        gateway_port: int | None = None,
        extra_environment: Mapping[str, str] | None = None,
        supervisor: Sequence[str] = _SUPERVISOR,
    ) -> None:
        check_platform()
        # Its file locks exist on the supported platforms only, so it is imported after the check.
        from pixcrawler.local import state

        self.home = home or Home.find()
        self.extra_environment = dict(extra_environment or {})
        self.url = ""
        self.api_key = ""
        self._state = state
        self._supervisor = tuple(supervisor)
        self._on_event = on_event or _ignore
        self._gateway_port = gateway_port
        self._users: state.Lock | None = None
        #: Whether somebody else had started it.
        self.was_up = True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Joins the running stack, or starts one and waits until it is ready. Raises LocalStackError."""
        self.home.create()
        deadline = time.monotonic() + _START_SECONDS
        users = self._state.users_lock(self.home)
        try:
            self._wait_for(lambda: users.take(alone=False), deadline)
            while not self._join_or_start(deadline):
                time.sleep(_PAUSE_SECONDS)
        except BaseException:
            users.release()
            raise
        self._users = users

    def leave(self) -> None:
        """Leaves the stack without waiting; it stops by itself when nobody is left."""
        if self._users is not None:
            self._users.release()
            self._users = None

    def stop(self) -> bool:
        """Leaves the stack. The last run that leaves waits until everything has stopped: False when others use it."""
        if self._users is None:
            return False
        self.leave()
        deadline = time.monotonic() + _STOP_SECONDS
        while not self._has_other_users() and self._is_supervised() and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        _supervisors[:] = [each for each in _supervisors if each.poll() is None]
        return not self._is_supervised()

    def check(self) -> None:
        """Raises LocalStackError when the stack has ended by itself, with the reason it left."""
        if self._is_supervised():
            return
        failure = self._state.read_failure(self.home)
        if failure is None:
            raise LocalStackError(f"The embedded stack was stopped; see {self.home.logs / 'stack.log'}.")
        raise LocalStackError(failure.message, failure.exit_code)

    def wait(self, seconds: float) -> None:
        """Stays for so long; raises LocalStackError as soon as the stack ends by itself."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.25))

    def _join_or_start(self, deadline: float) -> bool:
        if time.monotonic() > deadline:
            raise _too_late(self.home)
        if not self._is_supervised():
            self.was_up = not self._supervise(deadline)
            return not self.was_up and self._join()
        # Until the state is written the stack is being started by another run.
        return self._join()

    def _join(self) -> bool:
        found = self._state.read_state(self.home)
        if found is None or not _exists(found.pid):
            return False
        if not _is_alive(found.health_port):
            raise LocalStackError(
                f"A stack is up at {found.url} but does not answer; see the logs in {self.home.logs}.", EXIT_TRY_LATER
            )
        self._compare(found.settings, found.extra, found.version)
        self.url = found.url
        self.api_key = (self.home.secrets / "api-key").read_text().strip()
        return True

    def _compare(self, settings: Mapping[str, str], extra: Mapping[str, str], version: str) -> None:
        ours = self._state.digests(self.home, self.extra_environment)
        if ours != extra and ours:
            raise LocalStackError(
                f"Another run's stack is up without {', '.join(sorted(ours))} as this run needs them; "
                "wait until it has ended.",
                EXIT_TRY_LATER,
            )
        if ours != extra:
            self._notice(f"The running stack was started with {', '.join(sorted(extra))}, which hold for this run too.")
        if version != _version():
            self._notice(f"The running stack is PixCrawler {version}, this command is {_version()}.")
        differing = _differing(settings, self._state.digests(self.home, counting(os.environ)))
        if differing:
            self._notice(
                f"The running stack was started with other values of {', '.join(differing)}; they hold until it stops."
            )

    def _notice(self, text: str) -> None:
        self._on_event(Event(text, is_notice=True))

    def _supervise(self, deadline: float) -> bool:
        """Starts a supervisor and waits until it is ready; False when another one was faster."""
        checks.check(self.home, self._gateway_port)
        request = {
            "folder": str(self.home.folder),
            "system_folder": str(self.home.system_folder),
            "version": _version(),
            "gateway_port": self._gateway_port,
            "extra": self.extra_environment,
        }
        with _spawn(self.home, self._supervisor, json.dumps(request)) as events:
            for line in _lines(events, deadline):
                event = json.loads(line)
                if event["event"] == "failed":
                    raise LocalStackError(event["message"], event["exit_code"])
                if event["event"] in ("ready", "busy"):
                    return bool(event["event"] == "ready")
                self._on_event(Event(f"starting {event['what']}"))
        raise _too_late(self.home)

    def _is_supervised(self) -> bool:
        return not self._state.stack_lock(self.home).could_take(alone=False)

    def _has_other_users(self) -> bool:
        """Whether others hold the lock: it can be shared, but not be had alone."""
        probe = self._state.users_lock(self.home)
        return not probe.could_take(alone=True) and probe.could_take(alone=False)

    def _wait_for(self, is_so: Callable[[], bool], deadline: float) -> None:
        while not is_so():
            if time.monotonic() > deadline:
                raise _too_late(self.home)
            time.sleep(_PAUSE_SECONDS)


def local_stack(
    *,
    home: Home | None = None,
    on_event: Callable[[Event], None] | None = None,
    gateway_port: int | None = None,
    extra_environment: Mapping[str, str] | None = None,
) -> LocalStack:
    """The user's stack, to be entered: `with local_stack() as stack: stack.url, stack.api_key`."""
    return LocalStack(home=home, on_event=on_event, gateway_port=gateway_port, extra_environment=extra_environment)


@contextlib.contextmanager
def _spawn(home: Home, program: Sequence[str], request: str) -> Iterator[IO[bytes]]:
    """A supervisor in a session of its own, so that it outlives this run if others use it; yields its events."""
    with append_private(home.logs / "stack.log") as log:
        supervisor = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=home.empty,
            start_new_session=True,
        )
    _supervisors.append(supervisor)
    assert supervisor.stdin is not None, "asked for above"
    assert supervisor.stdout is not None, "asked for above"
    with supervisor.stdout:
        with contextlib.suppress(BrokenPipeError), supervisor.stdin:
            supervisor.stdin.write(request.encode() + b"\n")
        yield supervisor.stdout


def _lines(events: IO[bytes], deadline: float) -> Iterator[bytes]:
    """Complete lines until the end or the deadline."""
    pending = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([events], [], [], left)[0]:
            return
        read = os.read(events.fileno(), 65536)
        if not read:
            return
        *complete, pending = (pending + read).split(b"\n")
        yield from complete


def _exists(pid: int) -> bool:
    # The state of a supervisor that was killed stays until its successor clears it away.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _is_alive(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _differing(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    return sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))


def _too_late(home: Home) -> LocalStackError:
    return LocalStackError(f"The embedded stack did not get ready; see the logs in {home.logs}.")


def _version() -> str:
    return importlib.metadata.version("pixcrawler")


def _ignore(event: Event) -> None:
    del event
