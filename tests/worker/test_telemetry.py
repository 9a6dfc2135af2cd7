"""Traces end to end: from the span of whoever puts a job in, through the database, to a receiver of OTLP over
HTTP.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from worker_stage import Stage

from hotpath import asyncpg_trio
from hotpath.client import Client
from hotpath.core.traceparent import traceparent_of
from hotpath.store.sweep import sweep

OWN = """
import hotpath
from opentelemetry import trace

tracer = trace.get_tracer("script")

def main(x: int) -> str:
    with tracer.start_as_current_span("within"):
        if x == 3:
            raise ValueError("three")
        return hotpath.current_job().traceparent
"""
CODE = """
import hotpath

def double(x: int) -> int:
    return 2 * x

def main(x: int) -> int:
    return hotpath.step(double, hotpath.step("own2", x=x))
"""


@attrs.define
class Receiver:
    """Listens for spans as an OpenTelemetry collector does."""

    url: str
    spans: list[Any] = attrs.field(factory=list)
    resources: list[dict[str, str]] = attrs.field(factory=list)

    def take(self, body: bytes) -> None:
        """A request has come."""
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({each.key: each.value.string_value for each in part.resource.attributes})
            for scope in part.scope_spans:
                self.spans += scope.spans


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    """What it says."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


TRACER = TracerProvider().get_tracer("test")


async def traces(connection: asyncpg_trio.Connection) -> list[str]:
    """All that are carried."""
    return [row[0] for row in await connection.fetch("select traceparent from hotpath.trace order by at")]


async def test_carried(stage: Stage):
    """Who puts jobs in while a span is current sends it along: with each loose job a row, with many jobs a
    row a batch; without a span nothing is written.
    """
    client: Client = stage.client
    await client.enqueue("double", {"x": 1})
    await client.enqueue_many("double", [{"x": 1}, {"x": 2}])
    assert await traces(stage.connection) == []
    with TRACER.start_as_current_span("caller") as span:
        own = traceparent_of(span)
        loose = await client.enqueue("double", {"x": 1})
        many = list(await client.enqueue_many("double", ({"x": x} for x in range(700))))
    assert await traces(stage.connection) == [own] * 3
    found = await stage.connection.fetch((await _sql("traces")), [loose, many[0], many[600]])
    assert [row["traceparent"] for row in found] == [own] * 3


async def _sql(name: str) -> str:
    from hotpath.store.queries import query

    return query(name)


async def test_found_by_index(stage: Stage):
    """Asking for the traces of a claim, and dropping old ones, costs what is asked for, however many there
    are.
    """
    await stage.connection.execute(
        """
        insert into hotpath.trace
            select hotpath.uuid7(), '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
            from generate_series(1, 30000);
        analyze hotpath.trace;
        """
    )
    ids = [row[0] for row in await stage.connection.fetch("select job from hotpath.trace limit 500")]
    for name, value in (("traces", ids), ("sweep_traces", 100)):
        plan = await stage.connection.fetch(f"explain {await _sql(name)}", value)
        text = "\n".join(row[0] for row in plan)
        assert "trace_" in text
        assert "Seq Scan on trace" not in text, text
    found = await stage.connection.fetch(await _sql("traces"), ids)
    assert len(found) == 500


async def test_sql(stage: Stage):
    """A client that speaks SQL carries its trace by a function; what is none is ignored."""
    await stage.client.register("double")
    own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    said = "select hotpath.carry_trace(hotpath.enqueue('double', '{\"x\": 1}'), $1)"
    ids = [await stage.connection.fetchval(said, text) for text in (own, "nonsense", None, own[:-1] + "X")]
    assert len({*ids, None}) == 5
    assert await traces(stage.connection) == [own]


async def test_swept(stage: Stage):
    """Traces go after 14 days."""
    await stage.client.register("double")
    with TRACER.start_as_current_span("caller"):
        for _ in range(3):
            await stage.client.enqueue("double", {"x": 1})
    old = datetime.now(UTC) - timedelta(days=14, minutes=1)
    await stage.connection.execute(
        "update hotpath.trace set at = $1 where job in (select job from hotpath.trace limit 2)", old
    )
    await sweep(stage.connection, None, 10)
    assert len(await traces(stage.connection)) == 1


@pytest.mark.slow
async def test_exported(stage: Stage, receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    """Workers export a span a run, before they end: children of their callers' spans, with the script's own
    spans and the steps of flows in them, across a retry of the whole job.
    """
    (stage.workspace / "own.py").write_text(OWN)
    (stage.workspace / "own2.py").write_text("def main(x: int) -> int:\n    return x + 1\n")
    (stage.workspace / "code.py").write_text(CODE)
    with TRACER.start_as_current_span("caller") as span:
        many = list(await stage.client.enqueue_many("own", ({"x": x} for x in range(5))))
        loose = await stage.client.enqueue("own", {"x": 9})
        run = await stage.client.enqueue("code", {"x": 1})
    alone = await stage.client.enqueue("own", {"x": 10})
    caller = span.get_span_context()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    await stage.drain("own")
    assert await stage.client.retry(many[3])
    await stage.drain("own")
    commands = [await stage.dedicate(name) for name in ("code", "own2")]
    await stage.client.result(run)
    for command in commands:
        command.process.terminate()
        assert await command.wait() == 0, command.stderr

    spans = {span.span_id: span for span in receiver.spans}
    by_job: dict[str, list[Any]] = {}
    for span in spans.values():
        by_job.setdefault(attributes(span).get("messaging.message.id", ""), []).append(span)
    for job in (*many, loose, run):
        for found in by_job[str(job)]:
            assert found.trace_id.hex() == f"{caller.trace_id:032x}"
            assert found.parent_span_id.hex() == f"{caller.span_id:016x}"
    (one,) = by_job[str(loose)]
    result = await stage.client.result(loose)
    assert result.startswith(f"00-{one.trace_id.hex()}-{one.span_id.hex()}-")
    assert attributes(one)["hotpath.state"] == "success"
    failed = sorted(by_job[str(many[3])], key=lambda span: span.start_time_unix_nano)
    assert [attributes(each)["hotpath.attempt"] for each in failed] == [1, 2]
    assert {attributes(each)["error.type"] for each in failed} == {"ValueError"}
    (lonely,) = by_job[str(alone)]
    assert lonely.trace_id.hex() != f"{caller.trace_id:032x}"
    within = [span for span in spans.values() if span.name == "within"]
    assert len(within) == 8
    assert {spans[span.parent_span_id].name for span in within} == {"own"}
    # The run was parked while own2 ran elsewhere: a span each time; the step here is within the last one.
    whole = by_job[str(run)]
    assert sorted(attributes(span)["hotpath.state"] for span in whole) == ["parked", "success"]
    (step,) = [span for span in spans.values() if span.name == "code double"]
    assert spans[step.parent_span_id] in whole
    (child,) = [span for span in spans.values() if span.name == "own2"]
    assert child.trace_id.hex() == f"{caller.trace_id:032x}"
    assert {resource["service.name"] for resource in receiver.resources} == {"hotpath"}


@pytest.mark.slow
async def test_receiver_away(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """A receiver that is not there costs the worker nothing but a moment at its end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    await stage.client.enqueue_many("double", ({"x": 10 * x} for x in range(50)))
    await stage.drain("double")
    assert await stage.states() == {"success": 50}


LIVES = """
import trio
from hotpath.runtime import context, tracing

async def main():
    for life in ("first", "second"):
        async with tracing.exporting("w"):
            context.tracing().args[0].start_span(life).end()

trio.run(main)
"""


def test_a_worker_that_lives_again_has_spans(receiver: Receiver):
    """One that lost its lease and lives again in the same process exports its spans as before."""
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    done = subprocess.run(
        [sys.executable, "-c", LIVES], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [span.name for span in receiver.spans] == ["first", "second"]
