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


async def test_how_many_workers_a_group_needs(served, stage):
    """Now, wanted and why; a group that nobody knows has the defaults."""
    await stage.worker()
    await stage.loose(2)
    document = (await served.http.get("/api/v1/groups/default/scaling")).json()
    assert (document["workers"], document["wanted"], document["is_set"]) == (1, 1, False)
    assert document["why"][0] == "2 jobs wait, of unknown length (none has ended yet)"
    assert document["tags"] == [{"tag": NAME, "waiting": 2, "service_seconds": None}]
    unknown = (await served.http.get("/api/v1/groups/nobody/scaling")).json()
    assert (unknown["workers"], unknown["patterns"], unknown["scale"]["max_workers"]) == (0, None, 10)


async def test_what_is_wanted_of_a_group_is_set_and_unset(served):
    """PUT says all of it, DELETE that the defaults hold; what cannot be names its field."""
    path = "/api/v1/groups/etl/scaling"
    wanted = {"min_workers": 2, "max_workers": 5, "cooldown_seconds": 30, "tags": ["etl-*"]}
    document = (await served.http.put(path, json=wanted)).json()
    assert (document["is_set"], document["wanted"], document["patterns"]) == (True, 2, ["etl-*"])
    default = {"target_seconds": 60, "utilisation": 0.8, "processes": None}
    assert document["said"] == wanted | default
    assert (await served.http.get(path)).json()["said"] == wanted | default
    assert (await served.http.put(path, json={"max_workers": 3})).json()["said"]["min_workers"] == 1
    for body, field, said in (
        ({"min_workers": 9, "max_workers": 3}, "min_workers", "min_workers 9 is more than max_workers 3"),
        ({"max_workers": 0}, "max_workers", "max_workers takes 1 to"),
        ({"utilisation": 2}, "utilisation", "utilisation takes"),
        ({"cooldown_seconds": -1}, "cooldown_seconds", "cooldown_seconds takes"),
        ({"tags": ["!"]}, "tags", "tags: '!' is no tag"),
        ({"min": 1}, "min", "is unknown"),
    ):
        problem = (await served.http.put(path, json=body)).json()
        assert (problem["status"], problem["field"]) == (400, field), problem
        assert said in problem["detail"]
    for _ in range(2):
        document = (await served.http.delete(path)).json()
        assert (document["is_set"], document["said"]) == (False, None)


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
