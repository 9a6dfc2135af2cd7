"""Secret args over HTTP and WebSocket: what is put in is not shown, nor what the job makes of it."""

import json
import os
import subprocess
import sys

import attrs
import pytest
import trio
from store_stage import outcomes
from trio_websocket import open_websocket_url

from hotpath.model import MASK
from hotpath.store.jobs import enqueue
from hotpath.store.scripts import register_version

SECRET = "correct-horse-battery"
LEAKY = """
import hotpath

def main(key: hotpath.Secret, plain: str):
    print("has", key)
    if plain == "fail":
        raise ValueError("no " + key)
    return {"key": key, "plain": plain}
"""


async def test_refused(served, workspace):
    """What is wrong with args is said without the secret in them."""
    (workspace / "leaky.py").write_text(LEAKY)
    await served.client.register("leaky")
    for wrong in ({"key": [SECRET], "plain": ""}, {"key": SECRET}, {"key": SECRET, "plain": "", "x": SECRET}):
        for path, body in (
            ("/api/v1/jobs", json.dumps({"script": "leaky", "args": wrong})),
            ("/api/v1/jobs/batch?script=leaky", json.dumps(wrong)),
        ):
            refused = await served.http.post(path, content=body, headers={"content-type": "application/json"})
            assert refused.status_code in {400, 415}, refused.text
            assert SECRET not in refused.text


@pytest.mark.slow
async def test_masked(served, workspace, database_url):
    """Every document of a job, and every event, has the mask in the place of the secret."""
    (workspace / "leaky.py").write_text(LEAKY)
    await served.client.register("leaky")
    jobs = []
    for plain in ("shown", "fail"):
        args = {"key": SECRET, "plain": plain}
        put = await served.http.post("/api/v1/jobs", json={"script": "leaky", "args": args})
        assert put.status_code == 201, put.text
        jobs.append(put.json()["id"])
    texts = []
    async with open_websocket_url(served.url.replace("http", "ws") + "/ws") as websocket:
        for number, job in enumerate(jobs):
            subscribe = {"op": "subscribe", "id": number, "channel": "job", "job": job}
            await websocket.send_message(json.dumps(subscribe))
            await websocket.send_message(json.dumps(subscribe | {"id": 10 + number, "channel": "log"}))
        texts.append(await websocket.get_message())
        assert json.loads(texts[0])["events"][0]["job"]["args"]["key"] == MASK
        await trio.run_process(
            [sys.executable, "-m", "hotpath", "dedicate", "leaky", "--drain"],
            env=os.environ | {"HOTPATH_DATABASE_URL": database_url, "HOTPATH_WORKSPACE": str(workspace)},
            capture_stdout=True,
            stderr=subprocess.STDOUT,
        )
        while not all(word in "".join(texts) for word in ('"failure"', '"success"', f"has {MASK}", '"end"')):
            texts.append(await websocket.get_message())
    for job in jobs:
        for path in ("", "/attempts", "/log", "/log.txt"):
            response = await served.http.get(f"/api/v1/jobs/{job}{path}")
            texts.append(response.text)
    listed = await served.http.get("/api/v1/jobs?fields=id,args,result,error")
    found = listed.json()["jobs"]
    assert [job["args"]["key"] for job in found] == [MASK, MASK]
    assert found[1]["result"] == {"key": MASK, "plain": "shown"}
    assert found[0]["error"]["message"] == f"no {MASK}"
    for text in [*texts, listed.text]:
        assert "horse" not in text


async def test_errors_of_before(served, stage):
    """A secret in an error from a time when nothing said that it is one is masked in lists, which do not read
    the args, as in the job's own document.
    """
    job = await enqueue(stage.connection, "flow_x", json.dumps({"key": SECRET}).encode())
    session = await stage.worker()
    error = {"name": "E", "message": f"no {SECRET}", "traceback": "", "kind": "exception"}
    hand = await stage.claim(session)
    await stage.flush(session, outcomes(hand, state=2, payload=json.dumps(error).encode()))
    schema = {
        "type": "object",
        "properties": {"key": {"type": "string", "writeOnly": True, "format": "password"}},
    }
    marked = attrs.evolve(stage.version.description, hash="2" * 64, schema=schema)
    await register_version(stage.connection, marked)
    for path in (
        "/api/v1/jobs",
        f"/api/v1/jobs/{job}",
        "/api/v1/jobs?fields=error",
        "/api/v1/jobs?state=failure",
    ):
        text = (await served.http.get(path)).text
        assert f"no {MASK}" in text
        assert SECRET not in text
