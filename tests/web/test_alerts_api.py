"""Alerts, over HTTP."""

from __future__ import annotations

BODY = {"when": "waiting over 5m on nowhere-*", "to": ["slack:$NOT_SET_ANYWHERE"], "for": 30}


async def test_an_alert_and_its_ways(served):
    """It is set, listed, shown, silenced and forgotten; notes say what is missing."""
    made = (await served.http.put("/api/v1/alerts/late", json=BODY)).json()
    assert (made["when"], made["for"], made["clear"], made["state"]) == (BODY["when"], 30, 60, "fine")
    assert made["notes"] == [
        "no tag that is known so far matches nowhere-*", "$NOT_SET_ANYWHERE is not set in this server"
    ]  # fmt: skip
    (listed,) = (await served.http.get("/api/v1/alerts")).json()["alerts"]
    assert listed["name"] == "late"
    silent = await served.http.post("/api/v1/alerts/late/silence", json={"seconds": 60})
    assert silent.json()["silent_until"] is not None
    silent = await served.http.post("/api/v1/alerts/late/silence", json={"seconds": None})
    assert silent.json()["silent_until"] is None
    shown = (await served.http.get("/api/v1/alerts/late")).json()
    assert (shown["alert"]["to"], shown["words"]) == (BODY["to"], [])
    assert (await served.http.delete("/api/v1/alerts/late")).json()["name"] == "late"
    gone = await served.http.get("/api/v1/alerts/late")
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:hotpath:unknown-alert")


BAD_BODIES = [
    ({"when": "moon over 5"}, "when"),
    ({"to": ["webhook:https://ann:pw@example.org/"]}, "to"),
    ({"to": []}, "to"),
    ({"for": -1}, "for"),
    ({"cooldown": 0}, "cooldown"),
    ({"colour": "red"}, "colour"),
]


async def test_bad_bodies(served, subtests):
    """Name the field."""
    for changed, field in BAD_BODIES:
        with subtests.test(ascii(changed)[:60]):
            answer = await served.http.put("/api/v1/alerts/late", json=BODY | changed)
            assert (answer.status_code, answer.json().get("field")) == (400, field)


async def test_bad_names(served):
    """Are refused; an alert that is not there is a 404, whatever is asked of it."""
    answer = await served.http.put("/api/v1/alerts/a%20b", json=BODY)
    assert (answer.status_code, answer.json()["field"]) == (400, "name")
    for path, body in (("silence", {"seconds": 1}), ("test", None)):
        answer = await served.http.post(f"/api/v1/alerts/none/{path}", json=body)
        assert answer.status_code == 404
