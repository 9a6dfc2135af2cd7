"""Schedules over HTTP."""

from datetime import UTC, datetime, timedelta

from hotpath.store.tokens import create_token

URL = "/api/v1/schedules"
HOUR_AGO = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
NIGHTLY = {"script": "add", "args": {"x": 1}, "cron": "30 2 * * *", "timezone": "Europe/Berlin"}


async def test_set_looked_at_paused_deleted(served):
    """What is set is shown with its next ticks, can be paused and run, and is gone when it is deleted."""
    made = await served.http.put(f"{URL}/nightly", json=NIGHTLY)
    assert made.status_code == 200, made.text
    document = made.json()
    assert (document["state"], document["cron"], document["every"], document["at"]) == (
        "active", "30 2 * * *", None, None,
    )  # fmt: skip
    assert len(document["next"]) == 5
    assert document["next"][0] == document["next_at"]
    got = await served.http.get(f"{URL}/nightly", params={"next": 12})
    assert (len(got.json()["next"]), got.json()["args"]) == (12, {"x": 1})
    for name in ("a", "b"):
        await served.http.put(f"{URL}/{name}", json={"script": "add", "args": {"x": 2}, "every": 60})
    page = (await served.http.get(URL, params={"limit": 2})).json()
    assert ([each["name"] for each in page["schedules"]], page["next"]) == (["a", "b"], "b")
    rest = (await served.http.get(URL, params={"after": "b"})).json()
    assert ([each["name"] for each in rest["schedules"]], rest["next"]) == (["nightly"], None)
    paused = await served.http.post(f"{URL}/nightly/pause")
    assert (paused.json()["state"], paused.json()["next"]) == ("paused", [])
    ran = await served.http.post(f"{URL}/nightly/run")
    assert ran.status_code == 201
    assert (await served.http.get(ran.headers["location"])).json()["args"] == {"x": 1}
    (tick,) = (await served.http.get(f"{URL}/nightly/ticks")).json()["ticks"]
    assert (tick["job"], tick["state"], tick["by_hand"]) == (ran.json()["id"], "queued", True)
    assert (await served.http.post(f"{URL}/nightly/resume")).json()["state"] == "active"
    assert (await served.http.delete(f"{URL}/nightly")).json() == {"deleted": "nightly"}
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/run"),
        ("POST", "/pause"),
        ("GET", "/ticks"),
    ):
        gone = await served.http.request(method, f"{URL}/nightly{path}")
        assert (gone.status_code, gone.json()["type"]) == (404, "urn:hotpath:unknown-schedule")


BAD_INPUT = [
    ({"cron": "0 0 30 2 *"}, 400, "cron"),
    ({"cron": "99 * * * *"}, 400, "cron"),
    ({"cron": None, "timezone": None, "every": 0.1}, 400, "every"),
    ({"every": 60, "timezone": None}, 400, "every"),
    ({"timezone": "Mars/Base"}, 400, "timezone"),
    ({"cron": None, "at": "2001-01-01T00:00:00Z"}, 400, "at"),
    ({"cron": None, "catch_up": None, "at": HOUR_AGO}, 400, "at"),
    ({"cron": None, "at": "2037-03-29T02:30:00"}, 400, "at"),
    ({"catch_up": "all", "overlap": "skip"}, 400, "overlap"),
    ({"catch_up": "some"}, 400, "catch_up"),
    ({"catch_up_within": 1}, 400, "catch_up_within"),
    ({"args": {"z": 1}}, 400, "z"),
    ({"script": "nope"}, 404, "script"),
    ({"bogus": 1}, 400, "bogus"),
]


async def test_bad_input(served, subtests):
    """I13: refused, the field named, and nothing is stored."""
    for change, status, field in BAD_INPUT:
        with subtests.test(ascii(change)[:60]):
            body = {key: value for key, value in (NIGHTLY | change).items() if value is not None}
            answer = await served.http.put(f"{URL}/s", json=body)
            assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
            assert (await served.http.get(URL)).json()["schedules"] == []


async def test_scopes(serve_fixture):
    """Who may only look sets, pauses and runs nothing."""
    async with serve_fixture(require_token=True) as served:
        async with served.client.database.connection() as connection:
            token, _ = await create_token(connection, "reader", ["read"], None)
        headers = {"authorization": f"Bearer {token}"}
        assert (await served.http.get(URL, headers=headers)).status_code == 200
        for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/run"), ("POST", "/pause")):
            answer = await served.http.request(method, f"{URL}/s{path}", json=NIGHTLY, headers=headers)
            assert answer.status_code == 403
