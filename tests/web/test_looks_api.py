"""How it goes, over HTTP: workers, why a job waits."""

import uuid

from store_stage import NAME

from hotpath.store import listing
from hotpath.version import __version__


async def test_why_a_job_waits(served):
    """The reasons of a job that waits come in words; an unknown job is a 404."""
    job = (await served.http.post("/api/v1/jobs", json={"script": "add", "args": {"x": 1}})).json()["id"]
    document = (await served.http.get(f"/api/v1/jobs/{job}/waiting")).json()
    assert (document["state"], document["ahead"], document["eta_seconds"]) == ("queued", 0, None)
    (reason,) = document["reasons"]
    assert reason["kind"] == "no_worker"
    assert reason["text"].startswith("no live worker listens to tag add")
    assert (await served.http.get(f"/api/v1/jobs/{uuid.uuid4()}/waiting")).status_code == 404


async def test_workers(served, stage):
    """Workers say what they are and what they have in hand."""
    worker = await stage.worker()
    await stage.loose(2)
    await stage.claim(worker)
    (document,) = (await served.http.get("/api/v1/workers")).json()["workers"]
    assert (document["script"], document["tags"], document["state"]) == (NAME, [NAME], "running")
    assert (document["running"], document["program"], document["stopped_at"]) == (2, __version__, None)
    assert document["occupancy"] is document["rss"] is None


async def test_a_search_that_finds_little_goes_on(served, monkeypatch):
    """A filter that finds few among many answers early: `partial`, and `next` leads on to the end."""
    monkeypatch.setattr(listing, "FIRST_ROWS", 0)
    monkeypatch.setattr(listing, "MOST_ROWS", 1)
    for x in range(9):
        await served.http.post("/api/v1/jobs", json={"script": "add", "args": {"x": x}})
    query, pages = {"tag": "nowhere", "limit": 1}, 0
    while True:
        document = (await served.http.get("/api/v1/jobs", params=query)).json()
        assert document["jobs"] == []
        pages += 1
        if document["next"] is None:
            break
        assert document["partial"] is True
        query["before"] = document["next"]
    assert document["partial"] is False
    assert pages > 2
