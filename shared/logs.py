"""Logs: structlog events as JSON lines on stderr, with job, chunk and stage bound once.

Celery's, uvicorn's and the libraries' own lines take the same shape. Strings are made inert: no control
characters, bounded, and URLs without their query.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from shared.failpoints import armed_points
from shared.settings import Settings
from shared.stacks import tell_when_asked

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_PASSWORD = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@\"']*@")
_QUERY = re.compile(r"(https?://[^\s?#\"']+)[?#][^\s\"']*")
_LONGEST = 2048


def without_secrets(text: str) -> str:
    """The text with its URLs' passwords and queries left out."""
    return _QUERY.sub(r"\1?…", _PASSWORD.sub(r"\1", text))


def make_inert(text: str) -> str:
    """A string that cannot forge a line, colour a terminal, or carry a signed link's secret."""
    shown = _CONTROL.sub("�", without_secrets(text))
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"


def inert(value: object) -> object:
    """The value with every string in it made inert."""
    match value:
        case str():
            return make_inert(value)
        case list() | tuple():
            return [inert(each) for each in value]
        case dict():
            return {inert(name): inert(each) for name, each in value.items()}
        case _:
            return value


def _inert(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        # A trace keeps its lines; as JSON they cannot forge others.
        is_trace = name in ("exception", "stack") and isinstance(value, str)
        event[name] = without_secrets(value) if is_trace else inert(value)
    return event


def set_up_logs(settings: Settings, *, service: str) -> None:
    """Makes every logger of this process write our lines. Call once, first, in the main thread."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if settings.log_format == "console":
        plain = structlog.dev.plain_traceback  # the default shows local variables, and with them secrets
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _named(service),
            structlog.processors.format_exc_info,
            _inert,
            last,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(True)  # Python would print them as text between the lines
    if failing := armed_points():
        structlog.get_logger(__name__).error("failpoints_armed", points=failing, means="this service fails on purpose")
    for chatty in ("azure", "boto3", "botocore", "urllib3", "asyncio", "amqp", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for doubled in ("celery.app.trace", "celery.worker.strategy"):  # the stage writes one line a chunk
        logging.getLogger(doubled).setLevel(logging.WARNING)
    tell_when_asked()


def _named(service: str) -> structlog.typing.Processor:
    def add_service(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    return add_service
