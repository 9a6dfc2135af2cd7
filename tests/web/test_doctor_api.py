"""The doctor over HTTP: for administrators."""

from __future__ import annotations

from hotpath.store.tokens import create_token


async def test_what_is_wrong(serve_fixture):
    """An administrator is told; others are not."""
    async with serve_fixture(require_token=True) as served:
        async with served.client.database.connection() as connection:
            tokens = [(await create_token(connection, name, [name], None))[0] for name in ("run", "admin")]
        answers = [
            await served.http.get("/api/v1/doctor", headers={"authorization": f"Bearer {token}"})
            for token in tokens
        ]
        assert [answer.status_code for answer in answers] == [403, 200]
        document = answers[1].json()
        assert document["ok"] is False, "the test's own server is not durable"
        assert any(finding["code"] == "not-durable" for finding in document["findings"])
