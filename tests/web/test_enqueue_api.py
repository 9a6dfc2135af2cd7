"""Jobs put in over HTTP: one, once for a key, many, and one that is waited for."""

import json
import uuid

import trio
from store_stage import Stage
from web_stage import until

from hotpath.store import idempotency
from hotpath.web import lines


def ndjson(*documents):
    """A body of lines, and what it says it is."""
    body = "".join(json.dumps(document) + "\n" for document in documents)
    return {"content": body, "headers": {"content-type": "application/x-ndjson"}}


async def test_one_with_everything(served):
    """All that a job can be asked for arrives."""
    body = {
        "script": "add", "args": {"x": 1, "y": 2}, "tag": "my tag", "priority": -5, "timeout": 1.5,
        "scheduled_for": "2999-01-02T03:04:05+01:00",
    }  # fmt: skip
    response = await served.http.post("/api/v1/jobs", json=body)
    assert response.status_code == 201
    job = await served.client.job(uuid.UUID(response.json()["id"]))
    assert (job.args, job.tag, job.priority) == (body["args"], "my tag", -5)
    assert job.scheduled_for.isoformat() == "2999-01-02T02:04:05+00:00"


async def test_the_same_key_gives_the_same_job(served):
    """A request that is sent again with its key puts in nothing; with the key of another it is refused."""
    headers = {"idempotency-key": "order-4711"}
    first = await served.http.post("/api/v1/jobs", json={"script": "add", "args": {"x": 1}}, headers=headers)
    again = await served.http.post(
        "/api/v1/jobs",
        content=b'{ "args": {"x":1}, "script": "add" }',
        headers=headers | {"content-type": "application/json"},
    )
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = await served.http.post("/api/v1/jobs", json={"script": "add", "args": {"x": 2}}, headers=headers)
    assert other.status_code == 422
    assert other.json()["type"] == "urn:hotpath:key-reused"
    assert len(await served.client.jobs()) == 1


async def test_a_key_of_a_refused_request_is_free(served):
    """What was refused has used no key."""
    headers = {"idempotency-key": "k"}
    bad = await served.http.post("/api/v1/jobs", json={"script": "add", "args": {"x": "1"}}, headers=headers)
    good = await served.http.post("/api/v1/jobs", json={"script": "add", "args": {"x": 1}}, headers=headers)
    assert (bad.status_code, good.status_code) == (400, 201)


async def test_the_same_key_at_the_same_time(served):
    """Of many requests with one key one puts the job in, and all get it."""
    found = []

    async def send():
        response = await served.http.post(
            "/api/v1/jobs", json={"script": "add", "args": {"x": 1}}, headers={"idempotency-key": "k"}
        )
        found.append((response.status_code, response.json()["id"]))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(send)
    assert sorted(status for status, _ in found) == [200] * 7 + [201]
    assert len({job for _, job in found}) == 1
    assert len(await served.client.jobs()) == 1


async def test_keys_that_cannot_be(served):
    """A key is a short word."""
    body = {"script": "add", "args": {"x": 1}}
    for key in (b"", b"a b", b"x" * 256, b"\xe4"):
        response = await served.http.post("/api/v1/jobs", json=body, headers=[(b"idempotency-key", key)])
        assert response.status_code == 400
        assert response.json()["field"] == "Idempotency-Key"


async def test_keys_are_forgotten_after_a_day(stage: Stage):
    """A key may be used again after 24 hours, and is swept then."""

    async def once(x):
        return await idempotency.enqueue_once(stage.connection, "k", b"%d" % x, "flow_x", b'{"x": %d}' % x)

    async def later():
        await stage.connection.execute(
            "update hotpath.idempotency set created_at = created_at - interval '25 h'"
        )

    first = await once(1)
    assert (await once(1)) == idempotency.Once(first.job, replayed=True)
    await later()
    second = await once(2)
    assert not second.replayed
    assert second.job != first.job
    await stage.connection.execute(idempotency.query("sweep_idempotency"), 100)
    assert await stage.count("idempotency") == 1
    await later()
    await stage.connection.execute(idempotency.query("sweep_idempotency"), 100)
    assert await stage.count("idempotency") == 0


async def test_many(served):
    """A line is a job; blank lines are none; ids come in the order of the lines, if they are asked for."""
    body = ndjson(*({"x": n} for n in range(1200)))
    body["content"] = "\ufeff\n" + body["content"].replace("\n", "\r\n \n", 3).removesuffix("\n")
    response = await served.http.post("/api/v1/jobs/batch?script=add&priority=7&tag=many&ids=true", **body)
    assert response.status_code == 201, response.text
    answer = response.json()
    assert answer["enqueued"] == 1200
    assert len(answer["ids"]) == 1200
    for n in (0, 599, 1199):
        job = await served.client.job(uuid.UUID(answer["ids"][n]))
        assert (job.args, job.tag, job.priority) == ({"x": n}, "many", 7)
    response = await served.http.post("/api/v1/jobs/batch?script=add", **ndjson({"x": 1}))
    assert response.json() == {"enqueued": 1}


async def test_many_or_none(served):
    """A bad line is named by its number and its field, and nothing is put in, whatever came before."""
    body = ndjson(*({"x": n} for n in range(2000)), {"x": 1, "y": "no"}, {"x": 3})
    response = await served.http.post("/api/v1/jobs/batch?script=add", **body)
    assert response.status_code == 400
    answer = response.json()
    assert (answer["line"], answer["field"], answer["type"]) == (2001, "y", "urn:hotpath:bad-args")
    assert answer["detail"].startswith("line 2001: field `y`: expected int, got str")
    assert await served.client.jobs() == []


async def test_a_line_that_makes_no_job(served):
    """What is found out only as a line's job is put in names the line too, blank ones counted."""
    response = await served.http.post(
        "/api/v1/jobs/batch?script=add&tag=for-$args[y]",
        content=b'\n{"x": 1, "y": 2}\n \n{"x": 1}\n{"x": 1, "y": 2}\n',
        headers={"content-type": "application/x-ndjson"},
    )
    answer = response.json()
    assert (response.status_code, answer["line"], answer["type"]) == (400, 4, "urn:hotpath:bad-args")
    assert answer["detail"].startswith("line 4: args.y is missing, and the tag for-$args[y] is made of it")
    assert await served.client.jobs() == []


LINES = [
    (b"{", "not JSON"),
    (b"[1]", "must be one JSON object"),
    (b'{"x": 1, "x": "\xff"}', "not UTF-8"),
    (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    (b'{"x": 1, "z\\u0000": 1}', "unknown"),
    (b'{"x": 1} {"x": 2}', "not JSON"),
    (b"x" * 70_000, "not JSON"),
]


async def test_bad_lines(served, subtests):
    """Whatever a line is, it is named, and the rest of the body does no harm."""
    for line, said in LINES:
        with subtests.test(line=line[:40]):
            content = (
                b'{"x": 1}\n' + line + b"\n" + b'{"x": 1}\n' * 200_000
            )  # more than any buffer on the way
            response = await served.http.post(
                "/api/v1/jobs/batch?script=add",
                content=content,
                headers={"content-type": "application/x-ndjson"},
            )
            assert response.status_code == 400
            assert response.json()["line"] == 2
            assert said in response.json()["detail"]
            assert (await served.http.get("/healthz")).status_code == 200


async def test_a_line_without_end(served, monkeypatch):
    """A line is not read beyond what a job's args may be."""
    monkeypatch.setattr(lines, "LINE_BYTES", 1 << 20)
    response = await served.http.post(
        "/api/v1/jobs/batch?script=add",
        content=b" " * (3 << 20),
        headers={"content-type": "application/jsonl"},
    )
    assert response.status_code == 413
    assert response.json()["line"] == 1


async def test_many_that_stop_coming(served, monkeypatch):
    """Who says nothing more is not waited for, and nothing is put in."""
    monkeypatch.setattr(lines, "PATIENCE", 0.2)
    async with await served.connect() as stream:
        await stream.send_all(
            b"POST /api/v1/jobs/batch?script=add HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n"
            b'content-type: application/x-ndjson\r\n\r\n{"x": 1}\n'
        )
        answer = bytes(await stream.receive_some())
        assert answer.startswith(b"HTTP/1.1 408 ")
    assert await served.client.jobs() == []


async def test_a_client_that_breaks_off(served):
    """Half a body puts in nothing."""
    async with await served.connect() as stream:
        await stream.send_all(
            b"POST /api/v1/jobs/batch?script=add HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n"
            b'content-type: application/x-ndjson\r\n\r\n{"x": 1}\n'
        )
        await until(lambda: served.state.loads.borrowed_tokens)
    await until(lambda: not served.state.loads.borrowed_tokens)
    assert await served.client.jobs() == []


async def test_run_answers_when_the_time_is_over(served):
    """A job that nobody runs goes on waiting, and the answer says where it is."""
    response = await served.http.post("/api/v1/run?wait=0.1", json={"script": "add", "args": {"x": 1}})
    assert response.status_code == 202
    job = response.json()
    assert job["state"] == "queued"
    assert response.headers["location"] == f"/api/v1/jobs/{job['id']}"


async def test_run_answers_when_the_job_has_ended(served):
    """The wait ends with the job, however it ended."""
    answers = []

    async def ask():
        answers.append(
            await served.http.post("/api/v1/run?wait=20", json={"script": "add", "args": {"x": 1}})
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        jobs = await until(served.client.jobs)
        await served.client.cancel(jobs[0].id)
    assert answers[0].status_code == 200
    assert answers[0].json()["state"] == "canceled"


async def test_a_client_that_goes_away_stops_the_wait(served):
    """Nobody waits for a job that nobody asks for any more; the job stays."""
    body = b'{"script": "add", "args": {"x": 1}}'
    async with await served.connect() as stream:
        await stream.send_all(
            b"POST /api/v1/run?wait=60 HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        await until(lambda: served.client.statistics().waiting)
    await until(lambda: not served.client.statistics().waiting)
    (job,) = await served.client.jobs()
    assert job.state == "queued"


async def test_a_server_that_stops_answers(served):
    """Who waits for a job when the server is told to stop is told where it is."""
    answers = []

    async def ask():
        body = {"script": "add", "args": {"x": 1}}
        answers.append(await served.http.post("/api/v1/run?wait=60", json=body))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await until(lambda: served.client.statistics().waiting)
        served.state.stopping.set()
    assert answers[0].status_code == 202
    assert answers[0].json()["state"] == "queued"
