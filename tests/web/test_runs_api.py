"""Flows and runs over HTTP: drawn, looked at, answered."""

import json
import uuid

import pytest
from flow_stage import make_flows, mark, step

FORM = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
FLOW = """
summary: Scores
value:
  modules:
    - id: a
      summary: Get them
      value: {type: rawscript, language: python3, content: "def main(): return [1]", input_transforms: {}}
      suspend: {required_events: 2}
    - id: l
      value:
        type: forloopflow
        iterator: {type: javascript, expr: results.a}
        skip_failures: false
        modules:
          - id: b
            value: {type: identity}
          - id: c
            value:
              type: branchone
              branches:
                - expr: flow_input.x > 1
                  summary: big
                  modules: [{id: d, value: {type: identity}}]
              default: []
  failure_module:
    id: failure
    value: {type: rawscript, language: python3, content: "def main(): pass", input_transforms: {}}
"""


@pytest.fixture
async def flowing(stage):
    """A worker that runs no flow but says what one would."""
    return await make_flows(stage)


async def suspended(flowing, *keys, **value):
    """A run that is parked behind these steps."""
    session, hand = await flowing.in_hand()
    run = hand.ids[0]
    said = {"required": 1, "until": None, "form": None} | value
    noted = [(hand, 0, note) for key in keys for note in (step(run, key), mark(f"suspend:{key}", said))]
    assert await flowing.note(session, *noted) == [True]
    await flowing.park(session, hand, events=dict.fromkeys(keys, 0))
    return run


async def get(served, path, status=200):
    """The document at this path."""
    response = await served.http.get(f"/api/v1{path}")
    assert response.status_code == status, response.text
    return response.json()


async def post(served, path, body, status=200):
    """What it answers to this body."""
    response = await served.http.post(f"/api/v1{path}", json=body)
    assert response.status_code == status, response.text
    return response.json()


async def test_run(served, flowing):
    """A run is its job, its steps, and what it waits for."""
    run = await suspended(flowing, "a", "l[0]/b", form=FORM)
    document = await get(served, f"/runs/{run}")
    assert (document["job"]["kind"], document["job"]["id"]) == ("flow", str(run))
    assert sorted((step["step"], step["state"]) for step in document["steps"]) == [
        ("a", "success"), ("l[0]/b", "success"),
    ]  # fmt: skip
    assert not document["more_steps"]
    assert sorted((wait["kind"], wait["step"], wait["form"]) for wait in document["waits"]) == [
        ("suspend", "a", FORM), ("suspend", "l[0]/b", FORM),
    ]  # fmt: skip
    document = await get(served, f"/runs/{run}?limit=1")
    assert (len(document["steps"]), document["more_steps"]) == (1, True)


async def test_no_run(served):
    """A job that is no run is not found as one."""
    assert (await get(served, f"/runs/{await served.put_in()}", 404))["type"] == "urn:hotpath:not-a-run"
    assert (await get(served, f"/runs/{uuid.uuid4()}", 404))["type"] == "urn:hotpath:unknown-job"


async def test_resume(served, flowing):
    """A run is answered once, with a payload that its form takes, for a step that it waits behind."""
    run = await suspended(flowing, "a", form=FORM)
    path = f"/runs/{run}/resume"
    assert (await post(served, path, {}, 400))["field"] == "approve"
    problem = await post(served, path, {"approve": True, "payload": {"amount": "x"}}, 400)
    assert problem["field"] == "amount"
    assert (await post(served, path, {"approve": True, "step": "b"}, 409))[
        "type"
    ] == "urn:hotpath:not-suspended"
    assert (await post(served, path, {"approve": True, "approver": "a\0"}, 400))["field"] == "approver"
    body = {"approve": True, "payload": {"amount": 1}, "approver": "ann", "step": "a"}
    assert await post(served, path, body) == {"id": str(run), "step": "a", "approved": True}
    recalled = await flowing.recall(run)
    ((event,),) = recalled.events.values()
    assert (event.approved, event.payload, event.approver) == (True, b'{"amount":1}', "ann")
    await post(served, path, body, 409)


async def test_which_step(served, flowing):
    """A run that waits for several wants to know which."""
    run = await suspended(flowing, "a", "b")
    problem = await post(served, f"/runs/{run}/resume", {"approve": False}, 400)
    assert "a, b" in problem["detail"]
    assert (await post(served, f"/runs/{run}/resume", {"approve": False, "step": "b"}))["step"] == "b"


async def test_resume_by_token(served, flowing):
    """A token answers for its step, once; a forged or an expired one opens nothing."""
    run, other = await suspended(flowing, "a"), await suspended(flowing, "a")
    token = await served.client.resume_token(run)
    body = {"approve": True, "payload": {"any": 1}}
    for forged in (token[:-4] + "AAAA", "x", "x" * 5000):
        assert (await post(served, f"/resume/{forged}", body, 403))["type"] == "urn:hotpath:bad-token"
    assert await post(served, f"/resume/{token}", body) == {"id": str(run), "step": "a", "approved": True}
    await post(served, f"/resume/{token}", body, 409)
    short = await served.client.resume_token(other, expires=0.001)
    assert (await post(served, f"/resume/{short}", body, 410))["type"] == "urn:hotpath:expired-token"


async def test_flow_graph(served, workspace):
    """A flow is boxes within boxes, whose ids are the keys of steps; what comes behind what is an edge."""
    directory = workspace / "f" / "scores.flow"
    directory.mkdir(parents=True)
    (directory / "flow.yaml").write_text(FLOW)
    await served.client.register("f/scores")
    graph = await get(served, "/flows/f/scores")
    assert graph["reason"] is None
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert [(key, node["kind"], node["parent"]) for key, node in nodes.items()] == [
        ("a", "inline", None), ("l", "forloop", None), ("l[*]/b", "identity", "l"),
        ("l[*]/c", "branchone", "l"), ("l[*]/c[0]", "branch", "l[*]/c"),
        ("l[*]/c[0]/d", "identity", "l[*]/c[0]"), ("l[*]/c[default]", "branch", "l[*]/c"),
        ("failure", "inline", None),
    ]  # fmt: skip
    assert (nodes["a"]["summary"], nodes["a"]["around"]) == ("Get them", ["waits for 2 approvals"])
    assert (nodes["l[*]/c[0]"]["label"], nodes["l[*]/c[0]"]["does"]) == ("big", "if flow_input.x > 1")
    assert nodes["failure"]["role"] == "failure"
    edges = [(edge["from"], edge["to"]) for edge in graph["edges"]]
    assert sorted(edges) == [("a", "l"), ("l[*]/b", "l[*]/c")]
    (directory / "flow.yaml").write_text(FLOW.replace("Get them", "Others"))
    assert "another version" in (await get(served, "/flows/f/scores"))["reason"]
    (directory / "flow.yaml").write_text("value: [")
    reason = (await get(served, "/flows/f/scores"))["reason"]
    assert "cannot be read" in reason
    assert str(workspace) not in reason


async def test_flows_without_a_graph(served, flowing):
    """A script, and a flow whose file is not here, have an empty graph that says why."""
    graph = await get(served, "/flows/add")
    assert (graph["nodes"], graph["edges"]) == ([], [])
    assert "script" in graph["reason"]
    assert "does not have its file" in (await get(served, "/flows/flow_x"))["reason"]
    for name in ("nobody", "..%2f..%2fetc"):
        assert (await get(served, f"/flows/{name}", 404))["type"] == "urn:hotpath:unknown-script"


async def test_scripts(served):
    """Scripts are listed with their current version; one is shown with all."""
    found = (await get(served, "/scripts"))["scripts"]
    assert [each["script"] for each in found] == ["add", "f/team/echo", "fail"]
    assert found[0]["schema"]["properties"]["x"] == {"type": "integer"}
    assert (found[0]["summary"], found[0]["kind"], found[0]["current"]) == (
        "Add two numbers.",
        "script",
        True,
    )
    await served.client.register("add")
    versions = (await get(served, "/scripts/add"))["versions"]
    assert [each["current"] for each in versions] == [True, False]
    assert (await get(served, "/scripts/f/team/echo"))["versions"][0]["hash"] == "c" * 64
    assert (await get(served, "/scripts/ad", 404))["detail"].endswith("did you mean 'add'?")


async def test_status(served, stage):
    """Tags, workers and groups are as `hotpath status` has them."""
    await stage.loose(3)
    session = await stage.worker()
    (tag,) = [tag for tag in (await get(served, "/tags"))["tags"] if tag["tag"] == "flow_x"]
    assert (tag["waiting"], tag["workers"]) == (3, 1)
    assert tag["oldest_due_age_ms"] >= 0
    (worker,) = (await get(served, "/workers"))["workers"]
    assert (worker["state"], worker["tags"]) == ("idle", ["flow_x"])
    (group,) = (await get(served, "/groups"))["groups"]
    assert (group["group"], group["workers"], group["lost"]) == (None, 1, 0)
    overview = await get(served, "/overview")
    assert overview["workers"]["alive"] == 1
    assert "flow_x" in json.dumps(overview["tags"])
    await stage.kill(session)
