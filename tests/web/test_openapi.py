"""The OpenAPI document is valid, whole, and true: what schemathesis makes of it is answered as it says."""

import contextlib
import json
import os
import queue
import threading

import hypothesis
import pytest
import trio
from openapi_spec_validator import validate
from web_stage import serving

from hotpath.store.tokens import create_token
from hotpath.web import openapi
from hotpath.web.access import needed_scope
from hotpath.web.api import TABLE


def test_valid():
    """The document is OpenAPI 3.1."""
    document = json.loads(openapi.encoded())
    assert document["openapi"] == "3.1.0"
    validate(document)


@pytest.mark.parametrize("endpoint", TABLE, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_whole(endpoint):
    """Each endpoint says what it does, what it takes, and what it needs, which is what is asked for."""
    assert endpoint.summary.endswith(".")
    assert endpoint.answers
    path = endpoint.path.replace(":path}", "}").replace("{", "").replace("}", "")
    assert endpoint.scope == needed_scope(endpoint.method, path)
    operation = json.loads(openapi.encoded())["paths"][endpoint.path.replace(":path}", "}")][
        endpoint.method.lower()
    ]
    for parameter in operation.get("parameters", []):
        assert parameter["description"], parameter
    assert operation["summary"] == endpoint.summary


async def test_served(served):
    """It is where one looks for it."""
    response = await served.http.get("/openapi.json")
    assert response.status_code == 200
    assert response.content == openapi.encoded()


EXAMPLES = 3
"""Requests of each kind for each operation; `HOTPATH_FUZZ=200` looks longer."""


@pytest.fixture
def closed_server(database_url, workspace):
    """A server in a thread of its own, with a token that opens everything, and a run that has ended."""
    box = queue.SimpleQueue()

    async def main():
        async with serving(database_url, workspace, require_token=True, rate=0) as served:
            async with served.client.database.connection() as connection:
                token, _ = await create_token(connection, "fuzz", ["admin"], None)
            job = await served.put_in()
            stop = trio.Event()
            box.put((served.url, token, job, trio.lowlevel.current_trio_token(), stop))
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        url, token, job, entry, stop = box.get(timeout=100)
        yield url, token, job
        trio.from_thread.run_sync(stop.set, trio_token=entry)
    finally:
        thread.join(20)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_true(closed_server):
    """Whatever is sent that the document allows or does not allow is answered as the document says, and never
    by a fault of the server.
    """
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis cannot be imported")
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

    schemathesis.serializer("application/x-ndjson")(lambda _context, value: str(value).encode())
    url, token, job = closed_server
    headers = {"Authorization": f"Bearer {token}"}
    asked = set()

    def ask(case):
        if case.meta.generation.mode.is_positive:
            if case.path.endswith("/run"):
                case.query = {"wait": 0.01}
            if isinstance(case.body, dict) and "script" in case.body:
                case.body["script"] = "f/team/echo"
        # JSON Schema cannot say all that is asked of a value; the other tests see that good ones are taken.
        # And a caller who shows bad tokens is soon told to wait.
        excluded = [positive_data_acceptance, ignored_auth]
        response = case.call_and_validate(url, headers=headers, excluded_checks=excluded, timeout=20)
        asked.add((case.method, case.path, response.status_code // 100))

    for found in schemathesis.openapi.from_dict(json.loads(openapi.encoded())).get_all_operations():
        operation = found.ok()
        known = {"id": job} if "{id}" in operation.path and "/tokens" not in operation.path else None
        fuzz(operation.as_strategy(generation_mode=GenerationMode.POSITIVE, path_parameters=known), ask)
        fuzz(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), ask)
    answered = {(method, path) for method, path, hundreds in asked if hundreds == 2}
    every = {(endpoint.method, endpoint.path.replace(":path}", "}")) for endpoint in TABLE}
    assert {path for _, path in every - answered} <= {
        f"/api/v1/{path}" for path in ("scripts/{path}", "flows/{path}", "resume/{token}", "tokens/{id}",
                                       "runs/{id}", "runs/{id}/resume", "jobs/batch", "schedules/{name}",
                                       "schedules/{name}/pause", "schedules/{name}/resume",
                                       "schedules/{name}/run", "schedules/{name}/ticks", "groups/{name}",
                                       "alerts/{name}", "alerts/{name}/test", "alerts/{name}/silence",
                                       "limits", "versions", "versions/rollback")
    }  # fmt: skip


def fuzz(cases, ask):
    """Ask all of a number of cases, the same ones each time unless `HOTPATH_FUZZ` says how many."""
    settings = hypothesis.settings(
        max_examples=int(os.environ.get("HOTPATH_FUZZ", EXAMPLES)), deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
        derandomize="HOTPATH_FUZZ" not in os.environ,
    )  # fmt: skip
    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing can be asked wrongly of /healthz
        settings(hypothesis.given(cases)(ask))()
