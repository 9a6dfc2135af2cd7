"""API tokens over HTTP."""

from hotpath.store.tokens import create_token


async def test_made_used_revoked(serve_fixture):
    """A token that is made opens what its scopes say, is listed without its secret, and can be revoked."""
    async with serve_fixture() as served:
        body = {"name": "grafana", "scopes": ["read"], "expires": 3600}
        made = await served.http.post("/api/v1/tokens", json=body)
        assert made.status_code == 201, made.text
        token = made.json()["token"]
        assert made.json()["state"] == "good"
        assert made.json()["expires_at"]
        listed = await served.http.get("/api/v1/tokens")
        assert [each["id"] for each in listed.json()["tokens"]] == [made.json()["id"]]
        assert token not in listed.text
        again = await served.http.post("/api/v1/tokens", json=body)
        assert again.status_code == 400
        async with serve_fixture(require_token=True) as closed:
            with_token = {"authorization": f"Bearer {token}"}
            assert (await closed.http.get("/api/v1/jobs")).status_code == 401
            assert (await closed.http.get("/api/v1/jobs", headers=with_token)).status_code == 200
            assert (await closed.http.get("/api/v1/tokens", headers=with_token)).status_code == 403
            put_in = await closed.http.post("/api/v1/jobs", json={"script": "add"}, headers=with_token)
            assert put_in.status_code == 403
        name = await served.http.delete("/api/v1/tokens/grafana")
        assert name.status_code == 404
        gone = await served.http.delete(f"/api/v1/tokens/{made.json()['id']}")
        assert gone.json()["state"] == "revoked"
        assert (await served.http.delete(f"/api/v1/tokens/{made.json()['id']}")).status_code == 404
        assert (await served.http.get("/api/v1/tokens")).json() == {"tokens": []}
        assert len((await served.http.get("/api/v1/tokens?revoked=true")).json()["tokens"]) == 1


async def test_tokens_that_cannot_be(served):
    """A token has a name, scopes that there are, and a time that is ahead."""
    for body, field in (
        ({"name": "", "scopes": ["read"]}, "name"),
        ({"name": "x" * 101, "scopes": ["read"]}, "name"),
        ({"name": "a\0", "scopes": ["read"]}, "name"),
        ({"name": "a", "scopes": []}, "scopes"),
        ({"name": "a", "scopes": ["root"]}, "scopes[0]"),
        ({"name": "a", "scopes": ["read"], "expires": 0}, "expires"),
        ({"name": "a", "scopes": ["read"], "expires": 1e300}, "expires"),
        ({"name": "a"}, "scopes"),
    ):
        response = await served.http.post("/api/v1/tokens", json=body)
        assert response.status_code == 400
        assert response.json()["field"] == field


async def test_keys_are_their_owners(serve_fixture):
    """The same Idempotency-Key of two callers is two keys."""
    async with serve_fixture(require_token=True) as served:
        jobs = set()
        for name in ("one", "two"):
            async with served.client.database.connection() as connection:
                token, _ = await create_token(connection, name, ["run"], None)
            response = await served.http.post(
                "/api/v1/jobs",
                json={"script": "add", "args": {"x": 1}},
                headers={"authorization": f"Bearer {token}", "idempotency-key": "k"},
            )
            assert response.status_code == 201
            jobs.add(response.json()["id"])
        assert len(jobs) == 2


async def test_a_caller_is_told_what_it_may(served):
    """Which is what the page asks before it offers anything; a scope says those that it includes."""
    assert (await served.http.get("/api/v1/me")).json() == {
        "name": "local",
        "scopes": ["read", "run", "admin"],
    }
    async with served.client.database.connection() as connection:
        token, _ = await create_token(connection, "grafana", ["run"], None)
    found = await served.http.get("/api/v1/me", headers={"authorization": f"Bearer {token}"})
    assert found.json() == {"name": "grafana", "scopes": ["read", "run"]}
