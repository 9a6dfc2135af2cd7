"""Retention over HTTP, and jobs of which something is not kept."""

from __future__ import annotations

from datetime import timedelta

import pytest
from retention_stage import add_days, add_jobs, age_scripts, name, today

from hotpath.errors import NotKeptError


def plan_day():
    """The day of logs that is over then."""
    return (today() - timedelta(days=3)).date()


async def test_said_shown_planned_and_done(served, stage):
    """What is said counts; the plan says what would go; dropping says what went."""
    await stage.connection.execute("delete from hotpath.retention")
    await age_scripts(stage)
    await add_days(stage, 3, 9)
    kept, gone = await add_jobs(stage, 3, 1), await add_jobs(stage, 9, 1)
    body = {"jobs": "5d", "results": "1d", "args": "2d"}
    said = await served.http.put("/api/v1/retention", json=body)
    assert said.status_code == 200, said.text
    assert said.json()["kept"] == {"jobs": "5d", "results": "1d", "args": "2d", "logs": "5d"}
    await served.http.put("/api/v1/retention", json={"script": "flow_x", "args": "1d"})
    rules = (await served.http.get("/api/v1/retention")).json()
    assert next(each for each in rules["scripts"] if each["script"] == "flow_x")["kept"]["args"] == "1d"
    plan = (await served.http.get("/api/v1/prune")).json()
    assert {each["name"] for each in plan["partitions"]} >= {name("job_done", 9)}
    done = (await served.http.post("/api/v1/prune")).json()
    assert (done["results"], done["args"], done["more"]) == (1, 1, False)
    assert (await served.http.get(f"/api/v1/jobs/{gone[0]}")).status_code == 404
    job = (await served.http.get(f"/api/v1/jobs/{kept[0]}")).json()
    assert (job["args"], job["result"], job["not_kept"]) == (None, None, ["args", "result"])
    again = await served.http.post(f"/api/v1/jobs/{kept[0]}/retry", json={})
    assert (again.status_code, again.json()["type"]) == (410, "urn:hotpath:not-kept")
    with pytest.raises(NotKeptError, match="result is not kept"):
        await served.client.result(kept[0])
    listed = await served.http.get("/api/v1/jobs?script=flow_x&fields=id,args,result,not_kept")
    assert listed.json()["jobs"] == [
        {"id": str(kept[0]), "args": None, "result": None, "not_kept": ["args", "result"]}
    ]
    assert (await served.client.retention()).keep.jobs == 5 * 86400
    assert (await served.client.set_retention(logs="1d")).said.logs == 86400
    assert [drop.part.day for drop in (await served.client.prune_plan()).drops] == [plan_day()]
    assert (await served.client.prune()).dropped == [name("job_log", 3)]
    assert await served.client.clear_retention()
    cleared = await served.http.delete("/api/v1/retention?script=flow_x")
    assert cleared.json() == {"cleared": True}


BAD_RULES = [
    ({"jobs": "soon"}, "jobs"),
    ({"args": "-1d"}, "args"),
    ({"disk": "much"}, "disk"),
    ({"disk": "1G", "script": "flow_x"}, "disk"),
    ({"script": "nobody", "jobs": "1d"}, "script"),
    ({"script": "a\0", "jobs": "1d"}, "script"),
    ({"jobs": 5}, "jobs"),
    ({"days": "1d"}, "days"),
]


async def test_rules_that_cannot_be(served, stage, subtests):
    """The field that is wrong is named."""
    for body, field in BAD_RULES:
        with subtests.test(ascii(body)[:60]):
            response = await served.http.put("/api/v1/retention", json=body)
            assert response.status_code == 400
            assert response.json()["field"] == field
            assert (await served.http.put("/api/v1/retention", json={})).status_code == 400


async def test_one_at_a_time(served, stage):
    """While somebody else is at it, a request to drop is refused, and says so."""
    await stage.connection.execute(
        "update hotpath.pruning set holder = 'x', until = now() + interval '1 minute'"
    )
    assert (await served.http.post("/api/v1/prune")).status_code == 409
