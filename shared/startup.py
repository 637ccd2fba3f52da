"""What every service does before it starts: wait for its servers, with a limit, and check the schema."""

import asyncio
import sys
import time
from importlib.abc import MetaPathFinder

from shared.db.schema import HEAD, version
from shared.db.session import Engine, open_engine
from shared.errors import DatabaseUnavailable, PermanentError
from shared.settings import Settings

#: A server that is away is asked again after this, seconds.
_PAUSE = 0.25


async def wait_for_database(settings: Settings) -> None:
    """Returns when PostgreSQL answers and its schema is this code's. Raises PermanentError with what to do."""
    engine = open_engine(settings.database_url, connections=1)
    until = time.monotonic() + settings.startup_timeout_seconds
    try:
        while (wrong := await _what_is_wrong(engine)) is not None:
            if time.monotonic() > until:
                raise PermanentError(wrong)
            await asyncio.sleep(_PAUSE)
    finally:
        await engine.dispose()


async def _what_is_wrong(engine: Engine) -> str | None:
    try:
        found = await version(engine)
    except DatabaseUnavailable as error:
        return f"{error}; is PIXCRAWLER_DATABASE_URL right?"
    if found != HEAD:
        return f"the schema is at {found or 'nothing'}, this code needs {HEAD}; run python -m shared.db.migrate"
    return None


class _NoPandas(MetaPathFinder):
    """Answers as if it were not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("no service uses pandas", name=fullname)


def leave_pandas_out() -> None:
    """pyarrow imports it where it happens to be installed: 0.4 s and 45 MB a process, for nothing."""
    sys.meta_path.insert(0, _NoPandas())


def exit_with(error: Exception) -> int:
    """Says why the service cannot start; the exit code."""
    sys.stderr.write(f"PixCrawler cannot start: {error}\n")
    return 1
