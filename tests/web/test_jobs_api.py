"""Jobs over HTTP: listed, looked at, canceled, run again; what is asked wrongly is refused by its name."""

import logging
import uuid
from itertools import product

from store_stage import outcomes
from web_stage import until

from hotpath.web.api import jobs as api_jobs

HEADS = {
    *("id", "script", "tag", "state", "priority", "scheduled_for", "created_at", "started_at", "finished_at"),
    *("duration_ms", "worker", "attempt", "error", "kind", "parent", "step", "iteration"),
}


async def get(served, path, status=200):
    """The document at this path below the API's prefix."""
    response = await served.http.get(f"/api/v1{path}")
    assert response.status_code == status, response.text
    assert response.headers["cache-control"] == "no-store"
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == status
    return response.json()


async def post(served, path, body=None, status=200):
    """What it answers to this body."""
    response = await served.http.post(f"/api/v1{path}", json=body)
    assert response.status_code == status, response.text
    return response.json()


async def test_look_at_one(served):
    """A job document has everything that `hotpath job --json` says."""
    job = await served.put_in("add", x=1)
    document = await get(served, f"/jobs/{job}")
    assert set(document) == HEADS | {"args", "result", "not_kept"}
    assert (document["state"], document["args"], document["attempt"]) == ("queued", {"x": 1}, 0)
    assert document["created_at"].endswith("Z")
    assert await get(served, f"/jobs/{job}/attempts") == {"attempts": []}


async def test_pages(served):
    """Pages follow one another, the newest first, without a job lost or twice, loose and sealed alike."""
    jobs = [await served.put_in("add", x=n) for n in range(4)]
    jobs += map(str, await served.client.enqueue_many("add", [{"x": n} for n in range(5)]))
    found, path = [], "/jobs?limit=4"
    while path:
        page = await get(served, path)
        found += [job["id"] for job in page["jobs"]]
        assert all(set(job) == HEADS for job in page["jobs"])
        path = f"/jobs?limit=4&before={page['next']}" if page["next"] else None
    assert found == jobs[::-1]


async def test_filters(served):
    """Filters narrow the list; a script or a tag that nobody knows gives an empty page."""
    add, echo = await served.put_in("add", x=1), await served.put_in("f/team/echo", a=1)
    await served.client.cancel(uuid.UUID(echo))

    async def ids(asked):
        return [job["id"] for job in (await get(served, f"/jobs?{asked}"))["jobs"]]

    assert await ids("") == [echo, add]
    assert await ids("script=f/team/echo") == [echo]
    assert await ids("tag=add") == [add]
    assert await ids("state=canceled") == [echo]
    assert await ids("since=2020-01-01T00:00:00Z") == [echo, add]
    assert await ids("since=2999-01-01T00:00:00%2B01:00") == []
    assert await ids("script=nobody") == await ids("tag=no%20such") == []


async def test_fields(served):
    """A list has the fields that are asked for; large ones only then."""
    await served.put_in("add", x=1)
    page = await get(served, "/jobs?fields=args,id,result,worker")
    assert [set(job) for job in page["jobs"]] == [{"args", "id", "result", "worker"}]
    assert page["jobs"][0]["args"] == {"x": 1}
    assert (await get(served, "/jobs?fields=id,nonsense", 400))["field"] == "fields"


async def test_pages_of_large_jobs(served, monkeypatch):
    """A page with args ends where they add up, and the next one goes on from there."""
    monkeypatch.setattr(api_jobs, "PAGE_BYTES", 100_000)
    jobs = [await served.put_in("f/team/echo", n=n, text="x" * 20_000) for n in range(14)]
    found, path, pages = [], "/jobs?fields=id,args", 0
    while path:
        page = await get(served, path)
        assert len(str(page)) < 300_000
        found += [(job["id"], job["args"]["n"]) for job in page["jobs"]]
        path = f"/jobs?fields=id,args&before={page['next']}" if page["next"] else None
        pages += 1
    assert found == list(zip(jobs, range(14), strict=True))[::-1]
    assert 1 < pages < 8


async def test_cancel_and_retry(served):
    """A job that waits is canceled once, and can be run again then."""
    job = await served.put_in()
    assert await post(served, f"/jobs/{job}/retry", {}) == {"retried": False}
    assert await post(served, f"/jobs/{job}/cancel") == {"canceled": True}
    assert await post(served, f"/jobs/{job}/cancel") == {"canceled": False}
    assert (await get(served, f"/jobs/{job}"))["state"] == "canceled"
    assert await post(served, f"/jobs/{job}/retry", {}) == {"retried": True}
    assert (await get(served, f"/jobs/{job}"))["state"] == "queued"
    problem = await post(served, f"/jobs/{job}/retry", {"from_step": "a"})
    assert problem == {"retried": False}
    await post(served, f"/jobs/{job}/cancel")
    problem = await post(served, f"/jobs/{job}/retry", {"from_step": "a"}, 400)
    assert "not a run of a flow" in problem["detail"]


async def test_unknown_job(served):
    """A job that nobody knows is a 404 that says so, whatever is asked of it."""
    job = uuid.uuid4()
    for path in ("", "/attempts", "/log.txt"):
        assert (await get(served, f"/jobs/{job}{path}", 404))["type"] == "urn:hotpath:unknown-job"
    for path in ("/cancel", "/retry"):
        problem = await post(served, f"/jobs/{job}{path}", {}, 404)
        assert problem["type"] == "urn:hotpath:unknown-job"
        assert str(job) in problem["detail"]


PARAMETERS = [
    ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("limit=", "limit"),
    ("limit=99999999999999999999999", "limit"), ("limit=1&limit=2", "limit"), ("state=done", "state"),
    ("since=yesterday", "since"), ("since=2020-01-01T00:00:00", "since"),
    ("since=0001-01-01T00:00:00%2B14:00", "since"), ("before=1", "before"), ("steps=maybe", "steps"),
    ("parent=x", "parent"), ("nonsense=1", "nonsense"), ("tag=%00", "tag"), ("script=a%00b", "script"),
    ("LIMIT=1", "LIMIT"), ("fields=", "fields"),
]  # fmt: skip


async def test_wrong_parameters(served, subtests):
    """A parameter that is unknown, twice there, or has a value that cannot be is refused by its name."""
    for asked, field in PARAMETERS:
        with subtests.test(asked):
            assert (await get(served, f"/jobs?{asked}", 400))["field"] == field


async def test_broken_query(served):
    """What is no query string is refused."""
    for asked in ("tag=%ff", "%ff=1", "&".join(f"a{n}=1" for n in range(200))):
        await get(served, f"/jobs?{asked}", 400)


async def test_wrong_ids(served, subtests):
    """What is no id is refused, or is nowhere; never an error of the server."""
    for job in ["x", "1", "%00", "%ff", "..%2f..%2fetc%2fpasswd", "0" * 5000]:
        with subtests.test(job[:20]):
            response = await served.http.get(f"/api/v1/jobs/{job}")
            assert response.status_code in (400, 404)
            assert response.headers["content-type"] == "application/problem+json"


WHEN = "scheduled_for"
DEEP = b"[" * 100_000 + b"]" * 100_000


BODIES = [
    (b"", None), (b"{", None), (b"[]", None), (b"null", None), (b'"add"', None), (b"\xff", None),
    (b'{"script": "add", "args": {"x": "\xff"}}', None), (b'{"script": "add"} {}', None),
    (DEEP, None), (b'{"script": "add", "args": ' + DEEP + b"}", None),
    (b'{"script": "add", "args": {"x": NaN}}', None), (b'{"script": "add", "args": {"x": 1e999}}', "x"),
    (b"{}", "script"), (b'{"script": 1}', "script"), (b'{"script": "a\\u0000b"}', "script"),
    (b'{"script": "add", "args": []}', None), (b'{"script": "add", "args": null}', None),
    (b'{"script": "add", "args": {}}', "x"), (b'{"script": "add", "args": {"x": 1.5}}', "x"),
    (b'{"script": "add", "args": {"x": 1, "z": 2}}', "z"),
    (b'{"script": "f/team/echo", "args": {"x": {"y": ["\\u0000"]}}}', "x.y[0]"),
    (b'{"script": "f/team/echo", "args": {"x": "\\ud800"}}', None),
    (b'{"script": "add", "args": {"x": 1}, "Tag": "t"}', "Tag"),
    (b'{"script": "add", "args": {"x": 1}, "tag": ""}', "tag"),
    (b'{"script": "add", "args": {"x": 1}, "tag": "a\\u0000"}', "tag"),
    (b'{"script": "add", "args": {"x": 1}, "tag": "' + b"x" * 256 + b'"}', "tag"),
    ('{"script": "add", "args": {"x": 1}, "tag": "' + "ä" * 200 + '"}', "tag"),
    (b'{"script": "add", "args": {"x": 1}, "priority": 32768}', "priority"),
    (b'{"script": "add", "args": {"x": 1}, "priority": "1"}', "priority"),
    (b'{"script": "add", "args": {"x": 1}, "timeout": 0}', "timeout"),
    (b'{"script": "add", "args": {"x": 1}, "timeout": 1e300}', "timeout"),
    (b'{"script": "add", "args": {"x": 1}, "scheduled_for": "soon"}', "scheduled_for"),
    (b'{"script": "add", "args": {"x": 1}, "scheduled_for": "2030-01-01T00:00:00"}', "scheduled_for"),
    (b'{"script": "add", "args": {"x": 1}, "scheduled_for": "9999-12-31T23:59:59-14:00"}', WHEN),
    (b'{"script": "add", "args": {"x": 1}, "scheduled_for": 12345}', "scheduled_for"),
]  # fmt: skip


async def test_wrong_bodies(served, subtests):
    """A body that is no JSON, of a wrong type, or has a field that cannot be is refused, the field named."""
    for body, field in BODIES:
        with subtests.test(body=body[:80]):
            response = await served.http.post(
                "/api/v1/jobs", content=body, headers={"content-type": "application/json"}
            )
            assert response.status_code == 400, response.text
            assert response.headers["content-type"] == "application/problem+json"
            problem = response.json()
            assert problem.get("field") == field, problem
            assert problem["detail"]
            assert len(problem["detail"]) < 500
    assert await served.client.jobs() == []


async def test_big_numbers_stay_whole(served):
    """Whole numbers of any size arrive as they were sent."""
    number = 10**60 + 1
    body = f'{{"script": "f/team/echo", "args": {{"x": {number}}}}}'.encode()
    response = await served.http.post(
        "/api/v1/jobs", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 201, response.text
    assert str(number) in (await served.http.get(response.headers["location"])).text


async def test_other_types_of_bodies(served):
    """What a form of any page could send is not read."""
    content = b'{"script": "add", "args": {"x": 1}}'
    kinds = ("text/plain", "application/x-www-form-urlencoded", "", "application/xml")
    for path, kind in product(("/jobs", "/jobs/batch?script=add", "/run"), kinds):
        response = await served.http.post(f"/api/v1{path}", content=content, headers={"content-type": kind})
        assert response.status_code == 415
        assert response.json()["type"] == "urn:hotpath:unsupported-media-type"
    assert await served.client.jobs() == []


async def test_unknown_script(served):
    """A script that the database does not know is a 404; the server's files are not looked at."""
    for path in ("/jobs", "/run"):
        problem = await post(served, path, {"script": "ad", "args": {}}, 404)
        assert (problem["type"], problem["field"]) == ("urn:hotpath:unknown-script", "script")
        assert "did you mean 'add'" in problem["detail"]
    for name in ("../../etc/passwd", "/etc/passwd", "broken.py", "x" * 10_000):
        problem = await post(served, "/jobs", {"script": name}, 404)
        assert len(problem["detail"]) < 300


async def test_no_such_place(served):
    """What is not there is a 404, what cannot be done there a 405 that says what can, as problems."""
    assert "openapi" in (await get(served, "/nonsense", 404))["detail"]
    await get(served, "/jobs/", 404)
    response = await served.http.delete("/api/v1/jobs")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert response.json()["type"] == "urn:hotpath:method-not-allowed"


async def test_heads(served):
    """HEAD is GET without the body."""
    response = await served.http.head("/api/v1/jobs")
    assert (response.status_code, response.content) == (200, b"")


async def test_faults_show_nothing(served, monkeypatch, caplog):
    """A fault of the server is a 500 that tells nothing of its inside; the log has it."""

    async def broken(*_arguments, **_options):
        raise ZeroDivisionError("secret inside")

    monkeypatch.setattr(served.client, "page", broken)
    server = logging.getLogger("hypercorn.error")
    server.addHandler(caplog.handler)
    problem = await get(served, "/jobs", 500)
    assert problem["type"] == "urn:hotpath:server-error"
    assert "secret" not in str(problem)
    await until(lambda: "secret inside" in caplog.text)
    server.removeHandler(caplog.handler)


async def test_database_away(served, monkeypatch):
    """While the database is away the answer is a 503 that names no host, and says when to come again."""
    monkeypatch.setattr(served.client.database.pool, "acquire", _refuse)
    for path in ("/api/v1/jobs", "/readyz"):
        response = await served.http.get(path)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert "10.1.2.3" not in response.text
    assert (await served.http.get("/healthz")).status_code == 200


def _refuse():
    raise ConnectionRefusedError(111, "refused by 10.1.2.3")


async def test_ended_jobs(served, stage):
    """A job that has ended has its result or its error, its attempts, and a log that browsers do not show."""
    (good,), (bad,) = await stage.loose(), await stage.loose()
    session = await stage.worker()
    hand = await stage.claim(session)
    error = b'{"name": "E", "message": "<b>no</b>", "traceback": "", "kind": "exception"}'
    log = "<script>alert(1)</script>\x1b[2J\n\u00e4\n"
    await stage.flush(session, outcomes(hand, [hand.ids.index(good)], payload=b'{"y": 2}', log=log))
    await stage.flush(session, outcomes(hand, [hand.ids.index(bad)], state=2, payload=error))
    document = await get(served, f"/jobs/{good}")
    assert (document["state"], document["result"]) == ("success", {"y": 2})
    assert document["worker"].startswith("worker-")
    assert (await get(served, f"/jobs/{bad}"))["error"]["message"] == "<b>no</b>"
    ((attempt,),) = (await get(served, f"/jobs/{bad}/attempts")).values()
    assert (attempt["attempt"], attempt["state"], attempt["error"]["name"]) == (1, "failure", "E")
    assert [job["id"] for job in (await get(served, "/jobs?state=failure"))["jobs"]] == [str(bad)]
    response = await served.http.get(f"/api/v1/jobs/{good}/log.txt")
    assert response.text == log
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["content-disposition"] == f'attachment; filename="{good}.log.txt"'
    assert response.headers["x-content-type-options"] == "nosniff"
