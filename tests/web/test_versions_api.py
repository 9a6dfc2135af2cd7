"""Versions over HTTP: deployed as they were described, looked at, gone back to."""

from __future__ import annotations

import textwrap

import pytest
from web_stage import SCRIPTS

from hotpath.documents import description_document
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate
from hotpath.scripts.source import hash_of
from hotpath.store.scripts import find_script
from hotpath.store.sources import contents, files_of
from hotpath.store.tokens import create_token

PATH = "/api/v1/versions"
BODY = {
    "script": "f/double",
    "source": "def main(x: int) -> int:\n    return 2 * x\n",
    "schema": {
        "type": "object",
        "properties": {"x": {"type": "integer"}},
        "required": ["x"],
        "additionalProperties": False,
    },
}


async def deployed(served, **changes):
    """What came of a version."""
    answer = await served.http.post(PATH, json=BODY | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_was_described_is_deployed(served, workspace):
    """What `--describe` prints is taken as it is: the version is the one that `hotpath deploy` would make."""
    (workspace / "add.script.yaml").write_text("tag: sums\nretry: 3\nretention: {jobs: 3d}\nlimit: 2\n")
    description = await describe(locate("add", workspace))
    said = await served.http.post(PATH, json=description_document(description))
    assert said.status_code == 200, said.text
    assert said.json() == {"script": "add", "hash": description.hash, "change": "changed", "remarks": []}
    shown = (await served.http.get("/api/v1/scripts/add")).json()["versions"][0]
    assert (shown["hash"], shown["current"], shown["tag"]) == (description.hash, True, "sums")
    assert (shown["schema"], shown["summary"]) == (description.schema, "Add two numbers.")
    async with served.client.database.connection() as connection:
        found = (await find_script(connection, "add")).version
        assert found.description == description
        files = (await files_of(connection, [found.id]))[found.id]
        bodies = await contents(connection, [file.hash for file in files])
    assert {file.path: bodies[file.hash].decode() for file in files} == {
        "add.py": textwrap.dedent(SCRIPTS["add.py"]),
        "add.script.yaml": (workspace / "add.script.yaml").read_text(),
    }
    again = await served.http.post(PATH, json=description_document(description))
    assert again.json()["change"] == "unchanged"


async def test_versions_are_listed_and_gone_back_to(served):
    """Who made each and chose it; back to the one before, and to one that is named."""
    first = await deployed(served)
    assert first["change"] == "new"
    second = await deployed(served, source=BODY["source"].replace("2", "3"), settings={"priority": 4})
    assert second["change"] == "changed"
    found = (await served.http.get(PATH, params={"script": "f/double"})).json()["versions"]
    assert [(each["hash"], each["current"], each["stored"]) for each in found] == [
        (second["hash"], True, True), (first["hash"], False, True),
    ]  # fmt: skip
    assert {(each["made_by"], each["chosen_by"]) for each in found} == {("local", "local")}
    back = await served.http.post(f"{PATH}/rollback", json={"script": "f/double"})
    assert back.json() == {
        "script": "f/double", "hash": first["hash"], "before": second["hash"], "differ": ["settings"],
        "remarks": [],
    }  # fmt: skip
    found = (await served.http.get(PATH, params={"script": "f/double"})).json()["versions"]
    assert [(each["current"], each["rolled_back"]) for each in found] == [(False, False), (True, True)]
    to = {"script": "f/double", "to": second["hash"][:8]}
    assert (await served.http.post(f"{PATH}/rollback", json=to)).json()["hash"] == second["hash"]
    job = {"script": "f/double", "args": {"x": "one"}}
    assert (await served.http.post("/api/v1/jobs", json=job)).json()["field"] == "x"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"script": "nobody"}, 404, "script"),
        ({"script": "f/double", "to": "ffff0000"}, 404, "to"),
        ({"script": "f/double", "to": "xyz0"}, 400, "to"),
        ({"script": "f/double"}, 422, None),
        ({"script": "f/double", "to": hash_of(BODY["source"].encode(), b"")[:8]}, 422, "to"),
        ({"script": "f/double@ffff"}, 422, "script"),
        ({"script": "f/double", "from": "ffff"}, 400, "from"),
        ({}, 400, "script"),
    ],
)
async def test_what_cannot_be_gone_back_to(served, body, status, field):
    """A problem, which names the field if one is wrong."""
    await deployed(served)
    said = await served.http.post(f"{PATH}/rollback", json=body)
    assert (said.status_code, said.json().get("field")) == (status, field), said.text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"script": "../up"}, "script"),
        ({"script": "f/x@1a2b3c"}, "script"),
        ({"source": ""}, "source"),
        ({"source": "x" * (8 << 20) + "x"}, "source"),
        ({"source": "a\0b"}, "source"),
        ({"hash": "0" * 64}, "hash"),
        ({"schema": {"type": "array"}}, "schema"),
        ({"schema": {"type": "object", "properties": {"x": {"$ref": "#/$defs/none"}}}}, "schema"),
        ({"settings": {"priority": 40_000}}, "settings.priority"),
        ({"settings": {"retry": {"attempts": 0}}}, "settings.retry"),
        ({"settings": {"priority": "high"}}, "settings"),
        ({"settings": {"colour": "red"}}, "settings.colour"),
        ({"settings": {"retry": {"attempts": 3, "often": 1}}}, "settings.retry.often"),
        ({"kind": "thing"}, "kind"),
        ({"files": []}, "files"),
    ],
)
async def test_what_is_no_version(served, changes, field):
    """The field is named, and nothing is registered."""
    said = await served.http.post(PATH, json=BODY | changes)
    assert said.status_code == 400, said.text
    assert said.json()["field"].startswith(field), said.text
    scripts = (await served.http.get("/api/v1/scripts")).json()["scripts"]
    assert {each["script"] for each in scripts} == {"add", "fail", "f/team/echo"}


async def test_keys_that_change_under_waiting_jobs(served):
    """Jobs that wait keep their keys: said where a version with others is deployed, or gone back to."""
    schema = {"type": "object", "properties": {"x": {"type": "integer"}, "who": {"type": "string"}}}

    def keyed(field):
        key = f"$args[{field}]"
        settings = {"limit": {"concurrency": 1, "key": key}, "unique": {"key": key}}
        return {"source": f"{BODY['source']}# {field}\n", "schema": schema, "settings": settings}

    assert (await deployed(served, **keyed("who")))["remarks"] == []
    job = {"script": "f/double", "args": {"x": 1, "who": "me"}}
    assert (await served.http.post("/api/v1/jobs", json=job)).status_code == 201
    remarks = (await deployed(served, **keyed("x")))["remarks"]
    back = (await served.http.post(f"{PATH}/rollback", json={"script": "f/double"})).json()["remarks"]
    for name, after, before in zip(("limit.key", "unique.key"), remarks, back, strict=True):
        assert after.startswith(f"`{name}` was $args[who]: jobs that wait keep the keys")
        assert before.startswith(f"`{name}` was $args[x]: jobs that wait keep the keys")


async def test_only_who_may_change_all_deploys(serve_fixture):
    """The scope `run` is not enough: what is deployed runs on every worker."""
    async with serve_fixture(require_token=True) as served:
        for scope, status in (("run", 403), ("admin", 200)):
            async with served.client.database.connection() as connection:
                token, _ = await create_token(connection, scope, [scope], None)
            headers = {"authorization": f"Bearer {token}"}
            said = await served.http.post(PATH, json=BODY, headers=headers)
            assert said.status_code == status, said.text
        found = await served.http.get(PATH, params={"script": "f/double"}, headers=headers)
        assert found.json()["versions"][0]["made_by"] == "admin"
