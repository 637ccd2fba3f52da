"""Which schema this code needs, and which one the database has; without loading the migrations."""

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from shared.db.session import Engine, translated_errors

#: The newest migration's revision; a test holds it to the files.
HEAD = "0001"


async def version(engine: Engine) -> str | None:
    """The revision the database is at; None when it is empty. Raises DatabaseUnavailable."""
    with translated_errors():
        try:
            async with engine.connect() as connection:
                return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) == "42P01":  # no such table
                return None
            raise
