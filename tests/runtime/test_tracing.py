"""A span for each run of a job, in whose context it runs; nothing at all where nobody wants spans."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hotpath.core.traceparent import checked
from hotpath.errors import UsageError
from hotpath.model import MASK
from hotpath.runtime import context, tracing
from hotpath.runtime.tracing import Spans

KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PASSWORD = {"type": "string", "writeOnly": True, "format": "password"}


@pytest.fixture
def spans(monkeypatch):
    """What is exported; a function that gives the finished spans by job."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setenv("HOTPATH_OTEL", "1")
    context.set_tracing(functools.partial(Spans, provider.get_tracer("hotpath")))
    yield lambda: sorted(
        exporter.get_finished_spans(), key=lambda span: span.attributes["messaging.message.id"]
    )
    context.set_tracing(None)


@KINDS
async def test_a_span_a_job(opened, make_batch, spans, kind):
    """Each run has a span of its own, a child of what was carried with the job: what it is, how it ended, and
    the error; a job that does not begin has one, too.
    """
    text = f"""
        import hotpath
        from opentelemetry import trace
        {kind} main(x: int):
            here = trace.get_current_span().get_span_context()
            if x == 1:
                raise ValueError("one")
            if x == 2:
                raise hotpath.RetryLater(1, "two")
            return [f"{{here.trace_id:032x}}-{{here.span_id:016x}}", hotpath.current_job().traceparent]
        """
    batch = make_batch({"x": 0}, {"x": 1}, {"x": 2}, {"x": 3}, {"x": "bad"})
    batch.traces = {0: CALLER, 1: CALLER}
    async with opened(text) as runtime:
        await runtime.run(batch)
    first, failed, again, alone, refused = found = spans()
    current, said = batch.in_order[0].value
    assert said == f"00-{current}-01"
    assert current == f"{first.context.trace_id:032x}-{first.context.span_id:016x}"
    assert {f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" for span in (first, failed)} == {
        CALLER[3:-3]
    }
    assert again.parent is alone.parent is None
    assert len({span.context.trace_id for span in (first, again, alone, refused)}) == 4
    assert [span.attributes["hotpath.state"] for span in found] == [
        "success", "failure", "retry", "success", "failure",
    ]  # fmt: skip
    assert [span.status.status_code for span in found] == [
        StatusCode.UNSET, StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET, StatusCode.ERROR,
    ]  # fmt: skip
    assert {span.kind for span in found} == {SpanKind.CONSUMER}
    assert dict(first.attributes) == {
        "messaging.system": "hotpath",
        "messaging.operation.type": "process",
        "messaging.operation.name": "run",
        "messaging.destination.name": "tests",
        "messaging.message.id": str(batch.ids[0]),
        "hotpath.script": first.name,
        "hotpath.attempt": 1,
        "hotpath.worker": "tester-1",
        "hotpath.state": "success",
    }
    assert failed.attributes["error.type"] == "ValueError"
    (event,) = failed.events
    assert (event.name, event.attributes["exception.message"]) == ("exception", "one")
    assert 'raise ValueError("one")' in event.attributes["exception.stacktrace"]


@KINDS
async def test_no_secrets(opened, make_batch, spans, kind):
    """A span says of an error what the job's own error says: without the secrets."""
    text = f"""
        import hotpath
        {kind} main(key: hotpath.Secret):
            raise ValueError("no " + key)
        """
    schema = {"type": "object", "properties": {"key": PASSWORD}}
    batch = make_batch({"key": "correct-horse"})
    async with opened(text, schema=schema) as runtime:
        await runtime.run(batch)
    (span,) = spans()
    assert span.status.description == f"no {MASK}"
    assert "horse" not in span.to_json()


async def test_each_its_own_context(opened, make_batch, spans):
    """Jobs that run at the same time have their own spans about them, and their tasks and threads, too."""
    text = """
        import trio
        from opentelemetry import trace
        def here():
            return format(trace.get_current_span().get_span_context().span_id, "016x")
        async def main(x: int):
            found = [here()]
            async def look():
                await trio.sleep(0.001)
                found.append(here())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                found.append(await trio.to_thread.run_sync(here))
            return found
        """
    batch = make_batch(*({"x": x} for x in range(20)))
    async with opened(text) as runtime:
        await runtime.run(batch)
    ids = {span.attributes["messaging.message.id"]: f"{span.context.span_id:016x}" for span in spans()}
    assert len(set(ids.values())) == 20
    for job, one in zip(batch.ids, batch.in_order, strict=True):
        assert one.value == [ids[str(job)]] * 3


async def test_off(play):
    """Without telemetry a job has no traceparent."""
    batch = await play("import hotpath\ndef main(): return hotpath.current_job().traceparent\n", {})
    assert batch.values == [None]


def test_costs_nothing_when_off():
    """A worker without telemetry, and a client, import nothing of OpenTelemetry."""
    code = (
        "import sys, hotpath.worker.process, hotpath.client, hotpath.flows.runtime\n"
        "from hotpath.core.traceparent import current_traceparent\n"
        "assert current_traceparent() is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"HOTPATH_OTEL": "1"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "HOTPATH_OTEL": "0"}, False),
        ({"HOTPATH_OTEL": "1", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_switch(environ, on):
    """`HOTPATH_OTEL` says whether there are spans; else an address for them does."""
    assert tracing.is_on(environ) is on


def test_not_installed(monkeypatch):
    """Spans that are asked for and cannot be made are a usage error that names what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    tracing.check({})
    with pytest.raises(UsageError, match=r"HOTPATH_OTEL asks for .* install hotpath-runtime\[otel\]"):
        tracing.check({"HOTPATH_OTEL": "1"})


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        (CALLER, True),
        (None, False),
        ("", False),
        (CALLER.upper(), False),
        (f"01{CALLER[2:]}", False),
        (f"{CALLER}-more", False),
        (CALLER.replace("b7ad6b7169203331", "0" * 16), False),
        (CALLER.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), False),
        (f"{CALLER}\n", False),
    ],
)
def test_traceparents(text, fine):
    """What is no traceparent is ignored."""
    assert (checked(text) is not None) is fine
