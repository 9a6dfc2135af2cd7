"""Secret args over HTTP and WebSocket: what is put in is not shown, nor what the job makes of it."""

import json
import os
import subprocess
import sys

import pytest
import trio
from trio_websocket import open_websocket_url

from hotpath.model import MASK

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
        texts.append(await websocket.get_message())
        assert json.loads(texts[0])["events"][0]["job"]["args"]["key"] == MASK
        await trio.run_process(
            [sys.executable, "-m", "hotpath", "dedicate", "leaky", "--drain"],
            env=os.environ | {"HOTPATH_DATABASE_URL": database_url, "HOTPATH_WORKSPACE": str(workspace)},
            capture_stdout=True,
            stderr=subprocess.STDOUT,
        )
        while '"failure"' not in "".join(texts) or '"success"' not in "".join(texts):
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
