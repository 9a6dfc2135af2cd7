"""Secret args over HTTP: what is put in is not shown."""

from hotpath.model import MASK

SECRET = "correct-horse-battery"


async def test_masked_over_http(served, workspace):
    """Documents of jobs, refusals and lists have the mask in the place of a secret; the schema says why."""
    text = "import hotpath\ndef main(key: hotpath.Secret, plain: str): ...\n"
    (workspace / "takes.py").write_text(text)
    await served.client.register("takes")
    given = {"key": SECRET, "plain": "shown"}
    enqueued = await served.http.post("/api/v1/jobs", json={"script": "takes", "args": given})
    assert enqueued.status_code == 201, enqueued.text
    job = await served.http.get(enqueued.headers["location"])
    assert job.json()["args"] == {"key": MASK, "plain": "shown"}
    listed = await served.http.get("/api/v1/jobs?fields=id,args")
    assert listed.json()["jobs"][0]["args"] == {"key": MASK, "plain": "shown"}
    refused = await served.http.post("/api/v1/jobs", json={"script": "takes", "args": {"key": [SECRET]}})
    assert refused.status_code == 400
    for response in (enqueued, job, listed, refused):
        assert SECRET not in response.text
