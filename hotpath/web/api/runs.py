"""Flows and their runs: drawn, looked at, answered."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import attrs
import msgspec
import trio
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.core.flow.graph import graph_of
from hotpath.core.names import fault_of
from hotpath.documents import job_document, step_document, wait_document
from hotpath.errors import ScriptError
from hotpath.scripts.flow_file import LoadedFlow, load_flow
from hotpath.scripts.locate import FLOW_SUFFIX, Located, flow_file
from hotpath.store.scripts import current_version
from hotpath.web import flow_shapes, shapes
from hotpath.web.api.scripts import OneScript
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.problem import ProblemError
from hotpath.web.state import state_of

STEPS = 1000
MOST_STEPS = 10_000


class OneRun(msgspec.Struct, forbid_unknown_fields=True):
    """A run by its id."""

    id: Annotated[UUID, Meta(description="Id of the run.")]


class LookAtRun(msgspec.Struct, forbid_unknown_fields=True):
    """A run, and how much of it."""

    id: Annotated[UUID, Meta(description="Id of the run.")]
    limit: Annotated[int, Meta(ge=1, le=MOST_STEPS, description="How many steps, at most.")] = STEPS


class OneToken(msgspec.Struct, forbid_unknown_fields=True):
    """An approval by its token."""

    token: Annotated[str, Meta(description="The token; it needs no other credentials, and is good once.")]


class Said(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An answer to a run that waits for one."""

    approve: Annotated[bool, Meta(description="Whether it may go on.")]
    payload: Annotated[Any, Meta(description="What the flow gets to see; it must fit the step's form.")] = (
        None
    )
    approver: Annotated[str, Meta(max_length=255, description="Who says so; the flow sees it.")] = ""


class SaidOfStep(Said, forbid_unknown_fields=True, kw_only=True):
    """An answer, and which step it is for."""

    step: Annotated[
        Annotated[str, Meta(min_length=1, max_length=1024)] | None,
        Meta(description="Key of the step, if the run waits for several."),
    ] = None


async def get_flow(request: Request, asked: OneScript) -> Response:
    """A flow as a graph: boxes within boxes, and what comes behind what.

    It is read from the server's workspace; where it is not, `nodes` is empty and `reason` says why. A flow
    that is code has no graph: its steps are known as it runs. A node's `id` is the key that the step has in a
    run, with `[*]` for the number of an iteration.
    """
    state = state_of(request)
    async with state.database.connection() as connection:
        version = (await current_version(connection, asked.path)).description
    loaded: LoadedFlow | None = None
    reason: str | None = "it is a script: only flows have steps"
    if version.kind == "flow":
        loaded, reason = await trio.to_thread.run_sync(_load, asked.path, state.client.config.workspace)
    found = flow_shapes.FlowGraph(
        script=version.path, hash=version.hash, summary=version.summary, reason=reason
    )
    if loaded is not None:
        nodes, edges = graph_of(loaded.flow)
        found.nodes = [flow_shapes.FlowNode(**attrs.asdict(node)) for node in nodes]
        found.edges = [flow_shapes.FlowEdge(source=e.source, target=e.target, label=e.label) for e in edges]
        if loaded.hash != version.hash:
            found.reason = "the server's workspace has another version of it than the one that runs"
    return reply(found)


def _load(name: str, workspace: Path) -> tuple[LoadedFlow | None, str | None]:
    """The flow as the workspace has it, or why there is none."""
    if fault_of(name) is not None:
        return None, "its name is not one that a file can have"
    try:
        file = flow_file(workspace / f"{name}{FLOW_SUFFIX}")
        if file is None:
            if (workspace / f"{name}.py").is_file():
                return None, "it is written as code: its steps are known as it runs"
            return None, "the server's workspace does not have its file"
        return load_flow(Located(name, file, workspace, is_flow=True)), None
    except ScriptError as error:
        said = str(error).replace(f"{workspace}{os.sep}", "")  # where that is, is nobody's business
        return None, f"its file in the server's workspace cannot be read: {said}"


async def get_run(request: Request, asked: LookAtRun) -> Response:
    """A flow's run: the job that it is, its steps by start, and what it waits for.

    Steps are jobs too: `/jobs?parent=` pages through all of them, with args and results.
    """
    client = state_of(request).client
    job = await client.job(asked.id)
    if job.kind != "flow":
        raise ProblemError(404, "No such run", f"job {job.id} is no run of a flow", type="not-a-run")
    steps = await client.steps(job.id, limit=asked.limit + 1)
    waits = await client.waits(job.id)
    steps = await client.masked_steps(job.id, steps)
    (job,) = await client.masked([job])
    return reply(
        flow_shapes.RunDocument(
            job=shapes.JobDocument(**job_document(job)),
            steps=[flow_shapes.StepDocument(**step_document(step)) for step in steps[: asked.limit]],
            more_steps=len(steps) > asked.limit,
            waits=[flow_shapes.WaitDocument(**wait_document(wait)) for wait in waits],
        )
    )


async def resume_run(request: Request, asked: OneRun, body: SaidOfStep) -> Response:
    """Answer a run that waits for an approval."""
    step = await state_of(request).client.resume(
        asked.id, body.payload, step=body.step, approve=body.approve, approver=body.approver
    )
    return reply(flow_shapes.Resumed(asked.id, step, body.approve))


async def resume_by_token(request: Request, asked: OneToken, body: Said) -> Response:
    """Answer as whoever has the token may: for one step of one run, once."""
    token = await state_of(request).client.resume_by_token(
        asked.token, body.payload, approve=body.approve, approver=body.approver
    )
    return reply(flow_shapes.Resumed(token.run, token.key, body.approve))


_EXAMPLE = {"approve": True, "payload": {"amount": 3}, "approver": "ann"}
TABLE = [
    Endpoint(
        method="GET", path=PREFIX + "/flows/{path:path}", handler=get_flow, scope="read", group="flows",
        problems=(404,), answers={200: Answer("Its graph.", flow_shapes.FlowGraph)},
    ),
    Endpoint(
        method="GET", path=PREFIX + "/runs/{id}", handler=get_run, scope="read", group="flows",
        problems=(404,), answers={200: Answer("The run.", flow_shapes.RunDocument)},
    ),
    Endpoint(
        method="POST", path=PREFIX + "/runs/{id}/resume", handler=resume_run, scope="run", group="flows",
        problems=(404, 409), example=_EXAMPLE, answers={200: Answer("It was said.", flow_shapes.Resumed)},
    ),
    Endpoint(
        method="POST", path=PREFIX + "/resume/{token}", handler=resume_by_token, scope=None, group="flows",
        problems=(403, 404, 409, 410), example=_EXAMPLE,
        answers={200: Answer("It was said.", flow_shapes.Resumed)},
    ),
]  # fmt: skip
