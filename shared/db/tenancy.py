"""Whose rows the running task may see: told to PostgreSQL with every transaction, and enforced by it.

infra/postgres/roles.sql lays a policy on each table that belongs to tenants: the gateway's role sees the rows of the
tenant that `pixcrawler.tenant` names, so that a statement that forgets to ask whose they are finds nothing of anybody
else's. Who is nobody sees none. For the other services' roles, and for the owner, it says nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

#: The word that stands in the policies for all tenants.
EVERYONE = "everyone"
_NOBODY = ""
_seen: ContextVar[str] = ContextVar("pixcrawler_tenant", default=_NOBODY)


def seen() -> str:
    """The tenant whose rows are seen, as the policies read it."""
    return _seen.get()


def see_nobody() -> None:
    """From now on the running task sees no tenant's rows: so begins a request."""
    _seen.set(_NOBODY)


def see_only(tenant_id: UUID) -> None:
    """From now on the running task sees this tenant's rows."""
    _seen.set(str(tenant_id))


def see_everyone() -> None:
    """From now on the running task sees all rows: an administrator asks."""
    _seen.set(EVERYONE)


@contextmanager
def seeing_everyone() -> Iterator[None]:
    """For transactions begun within: what must be known of all tenants, whoever asks. Say why where it is used."""
    before = _seen.set(EVERYONE)
    try:
        yield
    finally:
        _seen.reset(before)
