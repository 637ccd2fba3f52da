"""Unexpected errors are told to Sentry, where an operator names a DSN: what the log has with a stack, and no more.

Nothing is collected by Sentry's own means: no requests, no local variables, no breadcrumbs. Its library is imported
only when it is used.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from shared.logs import inert
from shared.settings import Settings
from shared.version import VERSION

#: Fields of a log line by which errors are looked for.
_TAGS = ("job", "chunk", "stage", "attempt", "request_id", "trace_id")
#: Seconds that the last errors may take on their way out.
_GOODBYE = 2.0


@contextmanager
def sentry(settings: Settings, *, service: str) -> Iterator[None]:
    """Errors of this process that are logged with their stack go to Sentry. Begin it after a fork, not before."""
    if settings.sentry_dsn is None:
        yield
        return
    import sentry_sdk

    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        release=f"pixcrawler@{VERSION}",
        default_integrations=False,
        auto_enabling_integrations=False,
        send_default_pii=False,
        include_local_variables=False,
        max_breadcrumbs=0,
        before_send=_without_secrets,
    )
    sentry_sdk.set_tag("service", service)
    handler = _Handler(level=logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        sentry_sdk.flush(timeout=_GOODBYE)


class _Handler(logging.Handler):
    """Takes what the log takes; a logger of Sentry's own does not come back to it."""

    def emit(self, record: logging.LogRecord) -> None:
        import sentry_sdk

        if record.name.startswith(("sentry_sdk", "urllib3")):
            return
        line = record.msg if isinstance(record.msg, dict) else {"event": record.getMessage()}
        error = _error_of(line.get("exc_info") or record.exc_info)
        if error is None:
            return
        fields = structlog.contextvars.get_contextvars() | line
        with sentry_sdk.new_scope() as scope:
            for name in _TAGS:
                if name in fields:
                    scope.set_tag(name, str(fields[name]))
            scope.set_tag("event", str(line.get("event")))
            scope.capture_exception(error)


def _error_of(told: Any) -> BaseException | None:
    """As `logging` and structlog allow it to be told: True, the error itself, or a triple with it."""
    if isinstance(told, BaseException):
        return told
    if isinstance(told, tuple):
        return told[1] if isinstance(told[1], BaseException) else None
    if told:
        import sys

        return sys.exc_info()[1]
    return None


def _without_secrets(event: Any, _hint: Any) -> Any:
    return inert(event)
