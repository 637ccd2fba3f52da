"""What must be there for jobs to be accepted: the database, at this version's schema. Redis is not needed."""

import asyncio

from shared.db.schema import HEAD, version
from shared.db.session import translated_errors
from shared.errors import DatabaseUnavailable
from shared.resources import Resources

#: Whoever asks whether we are ready asks again soon.
PATIENCE_SECONDS = 3.0


async def trouble(resources: Resources) -> dict[str, str | None]:
    """By name: None when all is well, otherwise what is wrong."""
    return {"database": await _database(resources)}


async def _database(resources: Resources) -> str | None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with translated_errors():
                found = await version(resources.engine)
    except DatabaseUnavailable as error:
        return str(error)
    except TimeoutError:
        return "PostgreSQL does not answer"
    if found != HEAD:
        return f"the schema is at {found or 'nothing'}, this gateway needs {HEAD}"
    return None
