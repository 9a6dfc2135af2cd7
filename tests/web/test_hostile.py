"""What somebody who means harm may try: paths that the guard and the router may read differently, headers
that cost much to read, jobs that cannot be shown.
"""

import time
from contextlib import AsyncExitStack
from uuid import UUID

import pytest
import trio
from test_ws import connected
from trio_websocket import ConnectionClosed, serve_websocket

from hotpath.cli.output import pretty_json, to_json
from hotpath.errors import ServerError, UsageError
from hotpath.remote import open_remote
from hotpath.store.tokens import create_token
from hotpath.web import access, endpoints, feeds, logs_feed, runs_feed
from hotpath.web.access import NOBODY, Principal, address_of, cookies_of
from hotpath.web.api import TABLE, logs

POOL = 4  # connections that `open_client` has


async def token_for(served, name, *scopes):
    """A new token as a header."""
    async with served.state.database.connection() as connection:
        text, _ = await create_token(connection, name, scopes, None)
    return {"authorization": f"Bearer {text}"}


async def test_who_may_run_jobs_makes_no_tokens(serve_fixture):
    """Who may run jobs gets to no token, however he writes the path; a line feed at its end is none's."""
    names = (
        "tokens",
        "tokens%0A",
        "tokens%0D%0A",
        "tokens/",
        "/tokens",
        "./tokens",
        "x/../tokens",
        "tokens%00",
    )
    async with serve_fixture(require_token=True) as served:
        headers = await token_for(served, "ann", "run")
        for name in (*names, "%74okens", "tokens%C2%85"):
            path = f"/api/v1/{name}"
            new = {"name": "mine", "scopes": ["admin"]}
            for said in (
                await served.http.post(path, json=new, headers=headers),
                await served.http.get(path, headers=headers),
                await served.http.delete(f"{path}/abc", headers=headers),
            ):
                assert said.status_code in (400, 403, 404, 405), (path, said.text)
                assert said.headers["content-type"] == "application/problem+json"
        async with served.state.database.connection() as connection:
            assert await connection.fetchval("select count(*) from hotpath.api_token") == 1


@pytest.mark.parametrize("endpoint", TABLE, ids=lambda each: f"{each.method} {each.path}")
async def test_every_endpoint_checks_its_scope_itself(endpoint):
    """What the table says that a request needs holds behind the guard, too: with less, no handler runs."""
    less = {"read": (), "run": ("read",), "admin": ("read", "run"), None: ()}[endpoint.scope]
    principal = NOBODY if not less else Principal(name="ann", scopes=less)
    scope = {"type": "http", "method": endpoint.method, "path": endpoint.path, "headers": [],
             "query_string": b"no=such", "hotpath.principal": principal}  # fmt: skip
    with pytest.raises(endpoints.ProblemError) as refused:
        await endpoint(endpoints.Request(scope))
    assert refused.value.status == (400 if endpoint.scope is None else 403)


def test_cookies_cost_what_they_weigh():
    """A head full of cookies is read at once, whatever stands in them."""
    begun = time.process_time()
    for value in ('a="' + "\\" * 32_000 + '"', 'a="' + '\\"' * 16_000 + '"', "a=b;" * 8000, ";" * 32_000):
        cookies_of([(b"cookie", value.encode())])
    assert time.process_time() - begun < 1
    assert cookies_of([(b"cookie", b'a=1; b="2" ; c; a=3'), (b"cookie", b"d=x=y")]) == {
        "a": "1", "b": "2", "c": "", "d": "x=y"
    }  # fmt: skip


def test_address_is_one_customer():
    """Addresses of one IPv6 network count as one, also where zeros are left out; IPv4 each for itself."""

    def of(address):
        return address_of({"client": (address, 1)})

    assert of("2001:db8::1:2:3:4") == of("2001:db8::5:6:7:8") == of("2001:db8::9")
    assert of("2001:db8:0:1::9") != of("2001:db8::9")
    assert (of("10.1.2.3"), of("")) == ("10.1.2.3", "")


async def test_away_database_holds_up_nobody_for_long(serve_fixture, monkeypatch):
    """While the database gives no answer, each who brings a token is told so in time: nobody waits for those
    before him to be told.
    """
    monkeypatch.setattr(access, "WITHIN_SECONDS", 2.0)
    async with serve_fixture(require_token=True) as served:
        callers = [await token_for(served, name, "read") for name in "abc"]
        answers = []

        async def ask(headers):
            answers.append((await served.http.get("/api/v1/jobs", headers=headers)).status_code)

        async with AsyncExitStack() as held:
            for _ in range(POOL):
                await held.enter_async_context(served.state.database.connection())
            with trio.fail_after(35):  # one after the other, those of one caller alone would take 40
                async with trio.open_nursery() as asking:
                    for headers in callers * 20:
                        asking.start_soon(ask, headers)
        assert answers == [503] * 60
        monkeypatch.undo()
        assert (await served.http.get("/api/v1/jobs", headers=callers[0])).status_code == 200
        assert not served.state.access._asking


async def test_job_too_deep_to_read_hides_no_other(served):
    """A job whose args are nested deeper than can be read, put in by SQL, is shown without them, and so are
    lists that it is in.
    """
    args = '{"x":' + "[" * 5000 + "]" * 5000 + "}"
    async with served.state.database.connection() as connection:
        deep = str(await connection.fetchval("select hotpath.enqueue('f/team/echo', $1::jsonb)", args))
    word = {"…": "nested too deeply to be shown"}
    assert (await served.http.get(f"/api/v1/jobs/{deep}")).json()["args"] == word
    (listed,) = (await served.http.get("/api/v1/jobs?fields=id,args")).json()["jobs"]
    assert listed == {"id": deep, "args": word}
    async with connected(served) as peer:
        await peer.say(op="subscribe", id=1, channel="job", job=deep)
        assert (await peer.next(id=1))["job"]["args"] == word


async def test_job_that_cannot_be_shown_takes_nothing_down(served, monkeypatch):
    """Whatever goes wrong when a job, a run, a log or all of it is read ends those who look at that, and not
    the server.
    """
    broken, plain = await served.put_in(), await served.put_in()

    def breaks(module, name):
        """Have this fail for one of the jobs, and where it is asked for none."""
        real = getattr(module, name)

        async def read(connection, *asked):
            if not asked or str(asked[0]) == broken:
                raise RecursionError("too deep")
            return await real(connection, *asked)

        monkeypatch.setattr(module, name, read)

    breaks(feeds, "shown_job")
    breaks(runs_feed, "read_run")
    breaks(logs_feed, "read_log")
    served.state.hub._glances["overview"]._document = runs_feed.read_run
    async with connected(served) as peer:
        for id, channel in enumerate(("job", "run", "log")):
            await peer.say(op="subscribe", id=id, channel=channel, job=broken)
            said = await peer.next(id=id)
            assert (said["type"], said["status"], said["title"]) == ("error", 500, "The server failed")
        await peer.say(op="subscribe", id=8, channel="overview")
        assert (await peer.next(id=8))["status"] == 500
        await peer.say(op="subscribe", id=9, channel="job", job=plain)
        assert (await peer.next(id=9))["job"]["id"] == plain
        await served.client.cancel(UUID(plain))
        await peer.say(op="subscribe", id=10, channel="log", job=plain)
        assert (await peer.next(id=10))["type"] == "end"


async def test_logs_that_cannot_be_read_hold_up_nothing_else(serve_fixture, monkeypatch):
    """While all who read stored logs hang, as by a store that does not answer, the rest goes on; who wants to
    read a log is told to come back.
    """
    monkeypatch.setattr(logs, "TURN_SECONDS", 0.2)
    async with serve_fixture() as served:
        job = await served.put_in()
        hanging = [(served.state.logs, k) for k in range(3)]
        hanging += [(served.state.hub._stored._limit, k) for k in range(2)]
        for limiter, k in hanging:
            await limiter.acquire_on_behalf_of(k)
        async with connected(served) as peer:
            await peer.say(op="subscribe", id=1, channel="log", job=job)
            await peer.say(op="subscribe", id=2, channel="job", job=job)
            assert (await peer.next(id=2))["job"]["id"] == job
            for path in ("log", "log.txt"):
                said = await served.http.get(f"/api/v1/jobs/{job}/{path}")
                assert (said.status_code, said.json()["type"]) == (503, "urn:hotpath:busy")
            assert (await served.http.get(f"/api/v1/jobs/{job}")).status_code == 200
            await served.client.cancel(job)
            for limiter, k in hanging:
                limiter.release_on_behalf_of(k)
            assert (await peer.next(id=1))["type"] == "end"
        assert (await served.http.get(f"/api/v1/jobs/{job}/log")).status_code == 200


async def test_hanging_database_is_an_answer(serve_fixture, monkeypatch):
    """A request whose statement hangs is answered in time, and gives its connection back."""
    monkeypatch.setattr(endpoints, "ANSWER_SECONDS", 0.5)
    async with serve_fixture() as served:
        async with served.state.database.connection() as connection, connection.transaction():
            await connection.execute("lock table hotpath.script_version in access exclusive mode")
            for _ in range(POOL):
                said = await served.http.get("/api/v1/scripts/add")
                assert (said.status_code, said.json()["type"]) == (503, "urn:hotpath:no-database")
        monkeypatch.undo()
        assert (await served.http.get("/api/v1/scripts/add")).status_code == 200


@pytest.mark.parametrize("said", ["hello", "[]", '{"events":1}', '{"events":["x"]}', "{}"])
async def test_no_server_of_ours_is_named_as_such(said):
    """What answers and speaks another language is an error of one line, and no fault of the program."""

    async def babble(request):
        websocket = await request.accept()
        try:
            await websocket.send_message(said)
            await websocket.get_message()
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, babble, "127.0.0.1", 0, None)
        url = f"http://127.0.0.1:{server.port}"
        with pytest.raises(ServerError, match="no server of Hotpath"):
            async with open_remote(url) as remote, remote.subscribe("overview") as events:
                await anext(events)
        nursery.cancel_scope.cancel()


async def test_token_as_people_paste_it(serve_fixture):
    """A line feed behind a token does no harm; what cannot be one is said before anybody is asked."""
    async with serve_fixture(require_token=True) as served:
        token = (await token_for(served, "ann", "read"))["authorization"].removeprefix("Bearer ")
        async with open_remote(served.url, f" {token}\n") as remote:
            assert remote.is_connected
        with pytest.raises(UsageError, match="HOTPATH_TOKEN"):
            async with open_remote(served.url, "hp_a\r\nx: y"):
                pass


def test_json_holds_nothing_that_terminals_heed():
    """What a job says cannot speak to the terminal by its JSON: control characters are escaped, C1 too."""
    said = "é\x1b[2J\x9b2J\x85"
    for text in (to_json([said]), pretty_json([said])):
        assert text == '["é\\u001b[2J\\u009b2J\\u0085"]'


async def test_login_reads_little(served):
    """Who has no token yet cannot have much read: a form with one is short."""
    for path, size in (("/login", 17_000), ("/logout", 17_000), ("/resume/x", 2_000_000)):
        assert (await served.http.post(path, content=b"x" * size)).status_code == 413
    assert (await served.http.post("/login", content=b"x" * 15_000)).status_code == 403
