"""The trace context of a request travels with the jobs that it puts in."""

OWN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_traceparent(served):
    """A header `traceparent` is kept with each job, and with a batch once; one that is none is ignored, and a
    request that is sent again keeps the first.
    """
    job = {"script": "add", "args": {"x": 1}}
    headers = {"traceparent": OWN}
    keyed = headers | {"idempotency-key": "k"}
    other = OWN.replace("-b7", "-c8")
    answers = [
        await served.http.post("/api/v1/jobs", json=job, headers=headers),
        await served.http.post("/api/v1/jobs", json=job, headers=keyed),
        await served.http.post("/api/v1/jobs", json=job, headers=keyed | {"traceparent": other}),
        await served.http.post("/api/v1/run?wait=0", json=job, headers=headers),
        await served.http.post(
            "/api/v1/jobs/batch?script=add", content=b'{"x":1}\n{"x":2}\n',
            headers=headers | {"content-type": "application/x-ndjson"},
        ),
        await served.http.post("/api/v1/jobs", json=job, headers={"traceparent": "00-nonsense"}),
        await served.http.post("/api/v1/jobs", json=job),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [201, 201, 200, 202, 201, 201, 201]
    async with served.client.database.connection() as connection:
        rows = await connection.fetch("select job, traceparent from hotpath.trace order by at")
    assert [row["traceparent"] for row in rows] == [OWN] * 4
    assert [str(row["job"]) for row in rows[:2]] == [answer.json()["id"] for answer in answers[:2]]
