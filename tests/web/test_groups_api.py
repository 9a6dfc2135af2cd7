"""Worker groups over HTTP."""

from hotpath.model import MASK
from hotpath.store.tokens import create_token

GROUP = "/api/v1/groups/gpu"


async def test_made_changed_deleted(served):
    """PUT replaces, PATCH changes what is given, DELETE deletes; values of the environment are not shown."""
    assert (await served.http.get(GROUP)).status_code == 404
    made = await served.http.put(GROUP, json={"tags": ["etl-*:5"], "env": {"KEY": "secret"}, "processes": 2})
    assert made.status_code == 200, made.text
    assert made.json()["config"] == {
        "tags": [{"tag": "etl-*", "priority": 5}],
        "env": {"KEY": MASK},
        "processes": 2,
    }
    assert made.json()["remarks"][0]["field"] == "tags"
    changed = await served.http.patch(GROUP, json={"processes": None, "env": {"B": "2"}, "grace": "1m"})
    assert changed.json()["config"]["env"] == {"KEY": MASK, "B": MASK}
    assert changed.json()["config"]["grace"] == 60
    assert "processes" not in changed.json()["config"]
    assert changed.json()["revision"] > made.json()["revision"]
    again = await served.http.put(GROUP, json=changed.json()["config"])
    assert again.json()["revision"] == changed.json()["revision"]
    assert (await served.client.group("gpu")).config.env == {"KEY": "secret", "B": "2"}
    listed = (await served.http.get("/api/v1/groups")).json()["groups"]
    assert [(each["group"], each["revision"], each["workers"]) for each in listed] == [
        ("gpu", changed.json()["revision"], 0)
    ]
    assert (await served.http.delete(GROUP)).json() == {"name": "gpu", "workers": []}
    assert (await served.http.delete(GROUP)).status_code == 404


async def test_nobodys_change_is_written_over(served):
    """With the revision that was read, a change is made only if it still is that one."""
    assert (await served.http.put(GROUP + "?revision=1", json={})).status_code == 409
    made = (await served.http.put(GROUP + "?revision=0", json={"processes": 2})).json()
    assert (await served.http.put(GROUP + "?revision=0", json={"processes": 3})).status_code == 409
    known = f"{GROUP}?revision={made['revision']}"
    other = await served.http.patch(known, json={"processes": 4})
    assert other.status_code == 200
    refused = await served.http.put(known, json={"processes": 5})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:hotpath:group-changed")
    assert f"has revision {other.json()['revision']}, which local made" in refused.json()["detail"]
    assert (await served.http.get(GROUP)).json()["config"] == {"processes": 4}
    await served.http.delete(GROUP)
    gone = await served.http.patch(known, json={"processes": 6})
    assert "deleted" in gone.json()["detail"]
    assert (await served.http.get(GROUP)).status_code == 404


async def test_not_under_its_workers(served):
    """A group that live workers belong to is deleted only by force."""
    await served.http.put(GROUP, json={})
    async with served.client.database.connection() as connection:
        await connection.execute(
            "insert into hotpath.worker (name, worker_group, tags, host, pid, concurrency, lease_until)"
            " values ('w', 'gpu', '{1}', 'there', 1, 1, now() + interval '1 hour')"
        )
    refused = await served.http.delete(GROUP)
    assert refused.status_code == 409
    assert "1 live worker belongs" in refused.json()["detail"]
    assert (await served.http.get(GROUP)).json()["workers"][0]["is_current"] is False
    assert (await served.http.delete(GROUP + "?force=true")).json()["workers"] == ["w"]


CANNOT_BE = [
    ({"processes": 0}, "processes"),
    ({"processes": "x"}, "processes"),
    ({"tags": ["a", "!a"]}, "tags"),
    ({"env": {"A": "x\0"}}, "env.A"),
    ({"env": {"A": MASK}}, "env.A"),
    ({"periodic": [{"name": "a", "every": 1, "text": "x"}]}, "periodic"),
    ({"colour": 1}, "colour"),
]


async def test_what_cannot_be(served, subtests):
    """The field is named, and nothing is made."""
    for body, field in CANNOT_BE:
        with subtests.test(ascii(body)[:60]):
            for method in ("PUT", "PATCH"):
                response = await served.http.request(method, GROUP, json=body)
                assert response.status_code == 400, response.text
                assert response.json()["field"] == field
            assert (await served.http.get(GROUP)).status_code == 404
            name = await served.http.put("/api/v1/groups/a%20b", json={})
            assert (name.status_code, name.json()["field"]) == (400, "name")


async def test_changes_need_admin(serve_fixture):
    """Who may run jobs may look at groups, and not change them."""
    async with serve_fixture(require_token=True) as served:
        async with served.client.database.connection() as connection:
            token, _ = await create_token(connection, "one", ["run"], None)
        headers = {"authorization": f"Bearer {token}"}
        for method in ("PUT", "PATCH", "DELETE"):
            assert (await served.http.request(method, GROUP, json={}, headers=headers)).status_code == 403
        assert (await served.http.get(GROUP, headers=headers)).status_code == 404
