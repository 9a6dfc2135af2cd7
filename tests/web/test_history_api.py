"""What queues were like, over HTTP."""

from __future__ import annotations

from hotpath.store.history import look_at_queues


async def test_history(served):
    """Each series has a value for each step."""
    await served.put_in(x=1)
    async with served.client.database.connection() as connection:
        await look_at_queues(connection)
    document = (await served.http.get("/api/v1/history", params={"step": 300})).json()
    assert document["step_seconds"] == 300
    (series,) = document["tags"]
    assert series["tag"] == "add"
    assert len(document["steps"]) == len(series["waiting"]) == len(document["all"]["busy_ms"])
    assert max(each or 0 for each in series["waiting"]) == 1


BAD_QUESTIONS = [
    ({"step": "61"}, "step"),
    ({"since": "2100-01-01T00:00:00Z"}, "since"),
    ({"tag": "a,,b"}, "tag"),
    ({"limit": "0"}, "limit"),
    ({"since": "yesterday"}, "since"),
]


async def test_bad_questions(served, subtests):
    """Name the field."""
    for asked, field in BAD_QUESTIONS:
        with subtests.test(ascii(asked)[:60]):
            answer = await served.http.get("/api/v1/history", params=asked)
            assert (answer.status_code, answer.json()["field"]) == (400, field)
