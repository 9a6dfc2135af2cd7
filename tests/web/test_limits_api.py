"""Limits, pauses and unique keys over HTTP."""

from __future__ import annotations

import pytest


async def test_limits_are_set_shown_and_cleared(served, stage):
    """What is set holds, and is shown with who set it."""
    body = {"script": "flow_x", "concurrency": 4, "rate": [10, 60], "key": "$args[x]"}
    said = await served.http.put("/api/v1/limits", json=body)
    assert said.status_code == 200, said.text
    assert said.json()["limit"] == {"concurrency": 4, "rate": [10, 60.0], "key": "$args[x]"}
    listed = (await served.http.get("/api/v1/limits")).json()["limits"]
    assert [one["script"] for one in listed] == ["flow_x"]
    assert (await served.http.put("/api/v1/limits", json={"script": "flow_x"})).json()["limit"] is None
    cleared = await served.http.delete("/api/v1/limits?script=flow_x")
    assert (cleared.json()["limit"], cleared.json()["is_set"]) == (None, False)


BAD_LIMITS = [
    ({"script": "flow_x", "concurrency": 0}, 400, "concurrency"),
    ({"script": "flow_x", "rate": [1, 0]}, 400, "rate"),
    ({"script": "flow_x", "rate": [1, 0.01]}, 400, "rate"),
    ({"script": "flow_x", "key": "$args[x]"}, 400, "key"),
    ({"script": "flow_x", "concurrency": 1, "key": "x"}, 400, "key"),
    ({"script": "nobody", "concurrency": 1}, 404, "script"),
]


async def test_limits_that_cannot_be(served, stage, subtests):
    """A problem names the field."""
    for body, status, field in BAD_LIMITS:
        with subtests.test(ascii(body)[:60]):
            said = await served.http.put("/api/v1/limits", json=body)
            assert (said.status_code, field in said.json()["field"]) == (status, True), said.text


async def test_tags_are_paused_and_resumed(served, stage):
    """A pause is listed and shown with the tag, until it is resumed."""
    body = {"tag": "a/b", "until": "2999-01-01T00:00:00Z", "reason": "no power"}
    said = await served.http.put("/api/v1/tags/pauses", json=body)
    assert said.status_code == 200, said.text
    assert said.json()["reason"] == "no power"
    assert len((await served.http.get("/api/v1/tags/pauses")).json()["paused"]) == 1
    tags = (await served.http.get("/api/v1/tags")).json()["tags"]
    assert "no power" in next(one for one in tags if one["tag"] == "a/b")["paused"]
    assert (await served.http.delete("/api/v1/tags/pauses?tag=a/b")).json() == {"resumed": True}
    assert (await served.http.delete("/api/v1/tags/pauses?tag=a/b")).json() == {"resumed": False}
    past = await served.http.put("/api/v1/tags/pauses", json=body | {"until": "2001-01-01T00:00:00Z"})
    assert (past.status_code, past.json()["field"]) == (400, "until")


async def test_a_unique_key_of_a_request(served, stage):
    """The same key gives the same job, or a problem; the earlier one is named."""
    body = {"script": "flow_x", "args": {}, "unique": "k"}
    first = (await served.http.post("/api/v1/jobs", json=body)).json()["id"]
    assert (await served.http.post("/api/v1/jobs", json=body)).json()["id"] == first
    strict = body | {"unique": {"key": "k", "while": "queued", "on_conflict": "reject"}}
    refused = await served.http.post("/api/v1/jobs", json=strict)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:hotpath:not-unique")
    assert first in refused.json()["detail"]
    for wrong in ({"key": ""}, {"key": "k", "while": "later"}, {"key": "k", "on_conflict": "x"}, 5):
        problem = await served.http.post("/api/v1/jobs", json=body | {"unique": wrong})
        assert (problem.status_code, problem.json()["field"].startswith("unique")) == (400, True), (
            problem.text
        )


@pytest.mark.parametrize(
    ("path", "body", "field", "choices"),
    [
        ("jobs", {"script": "flow_x", "args": {}, "unique": {"key": "k", "while": "later"}}, "unique.while",
         "queued, unfinished, a number"),
        ("jobs", {"script": "flow_x", "args": {}, "unique": {"key": "k", "on_conflict": "x"}},
         "unique.on_conflict", "existing, reject, replace"),
        ("schedules", {"script": "flow_x", "every": 60, "overlap": "yes"}, "overlap",
         "allow, queue_one, skip"),
        ("tokens", {"name": "a", "scopes": ["read", "root"]}, "scopes[1]", "admin, read, run"),
    ],
)  # fmt: skip
async def test_what_a_field_may_be_is_said(served, path, body, field, choices):
    """A text that is none of those that a field may be: the problem names the field, and the choices."""
    method = served.http.put if path == "schedules" else served.http.post
    where = f"{path}/s" if path == "schedules" else path
    problem = (await method(f"/api/v1/{where}", json=body)).json()
    assert problem["field"] == field, problem
    assert problem["detail"].endswith(f"; one of {choices}"), problem
