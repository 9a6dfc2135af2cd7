"""Jobs over HTTP: put in, listed, looked at, canceled, run again."""

import uuid


async def test_enqueue_and_look(served):
    """What is put in is there at the place that the answer names."""
    response = await served.http.post("/api/v1/jobs", json={"script": "add", "args": {"x": 1}})
    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    job = (await served.http.get(response.headers["location"])).json()
    assert job["id"] == response.json()["id"]
    assert (job["state"], job["args"], job["script"]) == ("queued", {"x": 1}, "add")


async def test_unknown_job(served):
    """A job that nobody knows is a 404 that says so."""
    response = await served.http.get(f"/api/v1/jobs/{uuid.uuid4()}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:hotpath:unknown-job"
