"""A span of OpenTelemetry for each run of a job, where that is wanted (`hotpath-runtime[otel]`).

Nothing of OpenTelemetry is imported here unless `is_on` says so, and then what a batch has besides is decided
once a batch (`context.BatchInHand`): without telemetry a job pays nothing. The span begins in the job's own
context, so that those of the script nest in it, and ends with what is reported of the job: what is masked
there is not in the span either.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from hotpath.core.traceparent import traceparent_of
from hotpath.errors import UsageError
from hotpath.model import OutcomeState
from hotpath.runtime import context

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from hotpath.core.notes import Parking
    from hotpath.runtime.context import RunningJob
    from hotpath.runtime.protocol import Batch, Outcome, Script

log = logging.getLogger("hotpath.worker")

FLUSH = 3.0
"""Seconds that spans which have not been exported get as the worker ends."""
STATUS = 500
"""Characters of an error's message that are its span's status."""
_STATES = {int(state): state.name.lower() for state in OutcomeState}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NO = frozenset({"0", "false", "no", "off"})


def is_on(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether workers are to make spans: `HOTPATH_OTEL` says it, else an address to export them to."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    said = environ.get("HOTPATH_OTEL", "").lower()
    return said not in _NO if said else any(environ.get(name) for name in _ENDPOINTS)


def check(environ: Mapping[str, str] = os.environ) -> None:
    """Raise `UsageError` if spans are wanted that cannot be made."""
    from importlib.util import find_spec

    if not is_on(environ):
        return
    try:
        found = find_spec("opentelemetry.sdk.trace") and find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        why = "HOTPATH_OTEL" if environ.get("HOTPATH_OTEL") else "OTEL_EXPORTER_OTLP_ENDPOINT"
        raise UsageError(
            f"{why} asks for OpenTelemetry, which is not installed: install hotpath-runtime[otel], or set "
            "HOTPATH_OTEL=0"
        )


@asynccontextmanager
async def exporting(worker: str) -> AsyncIterator[bool]:
    """While this is open, jobs of this process have spans, if that is wanted; gives whether they have.

    Open it when the script is loaded: where that has set up OpenTelemetry itself, the spans go its way.
    """
    if not is_on():
        yield False
        return
    tracer, stop = _set_up(worker)
    context.set_tracing(functools.partial(Spans, tracer))
    try:
        yield True
    finally:
        context.set_tracing(None)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH):
            # Should the receiver be away, the thread is left behind.
            await trio.to_thread.run_sync(stop, abandon_on_cancel=True)


def _set_up(worker: str) -> tuple[Tracer, Callable[[], object]]:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        return provider.get_tracer("hotpath"), provider.force_flush
    told = {"service.instance.id": worker}
    if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        told["service.name"] = "hotpath"
    provider = TracerProvider(resource=Resource.create(told))
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() != "none":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    # It stays the process's: a worker that lost its lease lives again, and has its spans from the same one.
    return provider.get_tracer("hotpath"), provider.force_flush


def traced(main: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """`main` with a span around it, in whose context it runs."""
    if is_async:

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            _begin()
            return await main(*args, **kwargs)

        return call_async

    def call(*args: Any, **kwargs: Any) -> Any:
        _begin()
        return main(*args, **kwargs)

    return call


def _begin() -> None:
    job = context.current.get()
    if job is not None and job.of.spans is not None:
        job.of.spans.begin(job)


class Spans:
    """The spans of the jobs of one batch."""

    __slots__ = ("_again", "_batch", "_open", "_report", "_script", "_tracer")

    def __init__(self, tracer: Tracer, batch: Batch, script: Script) -> None:
        self._tracer = tracer
        self._batch = batch
        self._script = script
        self._open: dict[int, Span] = {}
        self._report = batch.report
        self._again = batch.retry

    def begin(self, job: RunningJob) -> None:
        """The job begins, here: what follows in this context is within its span."""
        from opentelemetry.context import attach
        from opentelemetry.trace import set_span_in_context

        attach(set_span_in_context(self.start(job.index)))  # the context ends with the job

    def start(self, index: int) -> Span:
        """The span of a job that begins."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        batch, script = self._batch, self._script
        traces: Mapping[int, str] = getattr(batch, "traces", None) or {}
        attributes: dict[str, Any] = {
            "messaging.system": "hotpath",
            "messaging.operation.type": "process",
            "messaging.operation.name": "run",
            "messaging.destination.name": batch.tag,
            "messaging.message.id": str(batch.ids[index]),
            "hotpath.script": script.version.description.path,
            "hotpath.attempt": batch.attempts[index],
            "hotpath.worker": script.worker,
        }
        name, kind = script.version.description.path, SpanKind.CONSUMER
        keys: Callable[[int], str] | None = getattr(batch, "key_of", None)
        if keys is not None:  # steps of a flow
            attributes["hotpath.step"] = keys(index)
            name, kind = f"{name} {keys(index)}", SpanKind.INTERNAL
        parent = Context()
        if index in traces:
            carried = {"traceparent": traces[index]}
            parent = TraceContextTextMapPropagator().extract(carried, context=parent)
        span = self._open[index] = self._tracer.start_span(
            name, context=parent, kind=kind, attributes=attributes
        )
        return span

    def traceparent(self, index: int) -> str | None:
        """That of a job under way; None if it has not begun."""
        span = self._open.get(index)
        return None if span is None else traceparent_of(span)

    # ------------------------------------------------------------ how jobs end

    def report(self, outcome: Outcome) -> object:
        """`Batch.report`."""
        self.end(outcome[0], _STATES[outcome[1]], outcome[4])
        return self._report(outcome)

    def retry(self, outcome: Outcome, delay: float) -> object:
        """`Batch.retry`."""
        self.end(outcome[0], _STATES[outcome[1]], outcome[4])
        return self._again(outcome, delay)

    def park(self, index: int, parking: Parking, text: str | None = None) -> object:
        """`Batch.park`."""
        self.end(index, "parked")
        return self._batch.park(index, parking, text)

    def end(self, index: int, state: str, body: bytes = b"") -> None:
        """A job has ended, or leaves; one that never began has a span without length."""
        try:
            span = self._open.pop(index, None)
            if span is None:
                span = self.start(index)
                del self._open[index]
            span.set_attribute("hotpath.state", state)
            if state not in {"success", "parked"}:
                self._say_error(span, body)
            span.end()
        except Exception:  # the job's outcome is what counts
            log.exception("the span of a job could not be ended")

    @staticmethod
    def _say_error(span: Span, body: bytes) -> None:
        from opentelemetry.trace import Status, StatusCode

        error = msgspec.json.decode(body) if body else {}
        name, message = str(error.get("name", "Error")), str(error.get("message", ""))
        span.set_status(Status(StatusCode.ERROR, message[:STATUS]))
        span.set_attribute("error.type", name)
        span.add_event(
            "exception",
            {
                "exception.type": name,
                "exception.message": message,
                "exception.stacktrace": str(error.get("traceback", "")),
            },
        )
