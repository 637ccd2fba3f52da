"""Spans of OpenTelemetry, one trace from the request to the last upload, where an operator asks for them.

    POST /v1/jobs ─┬─▶ plan          each part of the list
                   ├─▶ admit         each chunk, from its planning to its slot
                   └─▶ download, validate, upload      each attempt at a chunk

What is a span's parent comes from `shared/trace.py`. Without `PIXCRAWLER_TRACING` nothing of OpenTelemetry is imported
and a span costs a comparison. No provider is registered for the whole process: libraries would add spans of their own.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared.settings import Settings
from shared.trace import Trace

#: Seconds that the last spans may take on their way out.
_GOODBYE = 2.0

#: Of this process, while it traces.
_tracer: Any = None


@contextmanager
def tracing(settings: Settings, *, service: str) -> Iterator[None]:
    """Spans of this process are sent to where the `OTEL_…` variables say. Begin it after a fork, not before."""
    if not settings.tracing:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _tracer
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"pixcrawler-{service}"}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("pixcrawler")
    try:
        yield
    finally:
        _tracer = None
        last = threading.Thread(target=provider.shutdown, daemon=True)  # a silent collector keeps nobody from ending
        last.start()
        last.join(_GOODBYE)


@contextmanager
def span(name: str, trace: Trace | None, *, is_root: bool = False, **fields: str | int) -> Iterator[Trace | None]:
    """A span below the trace, and the trace to go on with: the span's own, or the same while nothing is traced.

    `is_root`: the trace was made up, so there is nothing to be below of.
    """
    if _tracer is None or trace is None:
        yield trace
        return
    with _tracer.start_as_current_span(
        name, context=_context(None if is_root else trace), attributes=fields, record_exception=False
    ) as begun:
        yield Trace(request_id=trace.request_id, traceparent=_traceparent(begun))


def note_span(name: str, trace: Trace | None, *, seconds: float, **fields: str | int) -> None:
    """A span that ends now and began that long ago."""
    if _tracer is not None and trace is not None:
        ended_at = time.time_ns()
        began_at = ended_at - round(seconds * 1e9)
        _tracer.start_span(name, context=_context(trace), attributes=fields, start_time=began_at).end(ended_at)


def rename_span(name: str, **fields: str | int) -> None:
    """The running span got to be known better."""
    if _tracer is not None:
        _current().update_name(name)
        _current().set_attributes(fields)


def fail_span(code: str) -> None:
    """The running span's work failed; of the error only its code is told, for its text may hold a link."""
    if _tracer is not None:
        from opentelemetry.trace import StatusCode

        _current().set_status(StatusCode.ERROR, code)


def _current() -> Any:
    from opentelemetry.trace import get_current_span

    return get_current_span()


def _context(trace: Trace | None) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {"traceparent": trace.traceparent} if trace else {}
    return TraceContextTextMapPropagator().extract(carrier, context=Context())


def _traceparent(begun: Any) -> str:
    context = begun.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
