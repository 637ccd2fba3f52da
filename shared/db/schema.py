"""Which schema this code needs, and which one the database has; without loading the migrations."""

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.db.session import Engine, may_pass, translated_errors
from shared.errors import PermanentError

#: The newest migration's revision; a test holds it to the files.
HEAD = "0013"


async def version(engine: Engine) -> str | None:
    """The revision the database is at; None when it is empty. Raises DatabaseUnavailable, PermanentError."""
    with translated_errors():
        try:
            async with engine.connect() as connection:
                return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "42P01":  # no such table
                return None
            if may_pass(error.orig):
                raise
            # A wrong password, a database that is not there, no right to read: the operator's to mend.
            raise PermanentError(
                f"PostgreSQL refuses: {getattr(error.orig, '__cause__', None) or error.orig}"
            ) from error
