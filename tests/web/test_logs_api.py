"""Logs over HTTP: in parts, each from where the one before ended."""

import uuid

import pytest
from store_stage import outcomes


async def get(served, path, status=200):
    """The document at this path."""
    response = await served.http.get(f"/api/v1/jobs/{path}")
    assert response.status_code == status, response.text
    return response.json()


@pytest.fixture
async def job(stage):
    """A job that said something."""
    (job,) = await stage.loose()
    session = await stage.worker()
    hand = await stage.claim(session)
    await stage.flush(session, outcomes(hand, log="<b>one</b>\n\x1b[31mt\u00e4wo\x1b[0m\n"))
    return job


async def test_whole(served, job):
    """A log comes whole, with positions and times, as text whatever is in it."""
    page = await get(served, f"{job}/log")
    (chunk,) = page["chunks"]
    assert chunk["text"] == "<b>one</b>\n\x1b[31mt\u00e4wo\x1b[0m\n"
    assert (chunk["attempt"], chunk["at"], chunk["end"], chunk["gap"]) == (1, 0, len(chunk["text"]), False)
    assert page["complete"]
    assert page["next"] is None


async def test_in_parts(served, job):
    """Parts follow one another without a character lost or twice."""
    found, query = "", ""
    for _ in range(20):
        page = await get(served, f"{job}/log?limit=7{query}")
        assert all(len(chunk["text"]) <= 7 for chunk in page["chunks"])
        found += "".join(chunk["text"] for chunk in page["chunks"])
        if page["next"] is None:
            break
        query = "&attempt={}&from={}".format(*page["next"])
    assert found == "<b>one</b>\n\x1b[31mt\u00e4wo\x1b[0m\n"
    assert page["complete"]
    assert (await get(served, f"{job}/log?attempt=1&from=1000"))["chunks"] == []


async def test_nothing_said(served):
    """A job that has said nothing has an empty log; one that nobody knows has none."""
    waiting = await served.put_in()
    assert await get(served, f"{waiting}/log") == {"chunks": [], "next": None, "complete": False}
    await served.client.cancel(uuid.UUID(waiting))
    assert await get(served, f"{waiting}/log") == {"chunks": [], "next": None, "complete": True}
    assert (await get(served, f"{uuid.uuid4()}/log", 404))["type"] == "urn:hotpath:unknown-job"


async def test_wrong_positions(served, job):
    """A position that cannot be is refused by its name."""
    for asked, field in (
        ("attempt=-1", "attempt"), ("attempt=40000", "attempt"), ("from=1", "from"), ("limit=0", "limit"),
        ("attempt=1&from=-1", "from"), ("attempt=1&from=1.5", "from"), ("start=1", "start"),
        ("attempt=1&from=99999999999999999999", "from"),
    ):  # fmt: skip
        assert (await get(served, f"{job}/log?{asked}", 400))["field"] == field
