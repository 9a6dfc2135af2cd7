"""Who gets in, and who does not: tokens, sessions, scopes, Host, Origin. Against the guarded application in
this process, with a real database.
"""

import ipaddress
import re
import time
from contextlib import asynccontextmanager

import attrs
import httpx
import pytest
import trio
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from hotpath.client import open_client
from hotpath.errors import UsageError
from hotpath.store.flows import secret
from hotpath.store.tokens import create_token, revoke_token
from hotpath.web import access, login
from hotpath.web.access import needed_scope, principal_of
from hotpath.web.forwarded import ForwardedMiddleware
from hotpath.web.options import ServeOptions
from hotpath.web.rates import RateLimiter
from hotpath.web.sessions import Signer
from hotpath.web.stack import guarded
from hotpath.web.state import ServerState

HTML = {"accept": "text/html,*/*"}


async def who(request):
    """Whom the request is of."""
    principal = principal_of(request)
    return JSONResponse({"name": principal.name, "scopes": principal.scopes, "path": request.url.path})


@attrs.frozen
class Door:
    """A guarded application, and a client of it."""

    http: httpx.AsyncClient
    state: ServerState
    app: object

    async def token(self, name="ann", scopes=("read",), expires=None):
        """A new token's text."""
        async with self.state.database.connection() as connection:
            text, _ = await create_token(connection, name, scopes, expires)
        return text

    async def revoke(self, name):
        async with self.state.database.connection() as connection:
            await revoke_token(connection, name)

    async def get(self, path="/api/v1/jobs", token=None, **headers):
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(path, headers=given | _bearer(token))

    async def post(self, path="/api/v1/jobs", token=None, **headers):
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, headers=given | _bearer(token))

    async def log_in(self, token, **headers):
        """Fill in the form; the client keeps the cookie."""
        shown = await self.http.get("/login", headers=HTML)
        form = re.search(r'name="form" value="([^"]+)"', shown.text)[1]
        return await self.http.post("/login", data={"form": form, "token": token} | headers)


async def refused(door, token):
    """Wait until this token, or the client's cookie, opens nothing."""
    while (status := (await door.get(token=token)).status_code) == 200:  # noqa: ASYNC110 - nobody tells
        await trio.sleep(0.1)
    assert status == 401


def _bearer(token):
    return {} if token is None else {"authorization": f"Bearer {token}"}


@pytest.fixture
def door(database_url, tmp_path):
    """Opens the application with the options given: an `async with`."""

    @asynccontextmanager
    async def opened(base="http://127.0.0.1:8765", **options):
        chosen = ServeOptions(**options)
        async with open_client(database_url, workspace=tmp_path) as client, trio.open_nursery() as nursery:
            state = ServerState(client=client, options=chosen, nursery=nursery)
            methods = ["GET", "POST", "PUT", "DELETE"]
            routes = [*login.routes(), Route("/{rest:path}", who, methods=methods)]
            app = Starlette(routes=routes)
            app.state.server = state
            whole = guarded(app, state)
            transport = httpx.ASGITransport(whole, client=("10.1.2.3", 4711))
            async with httpx.AsyncClient(transport=transport, base_url=base) as http:
                yield Door(http, state, whole)
            nursery.cancel_scope.cancel()

    return opened


@pytest.fixture
def closed(door):
    """The same for a server that others can reach."""

    def opened(**options):
        return door("http://hotpath.example:8765", host="0.0.0.0", **options)

    return opened


# ---------------------------------------------------------------- open on loopback


async def test_loopback_is_open_to_whom_calls_it_by_its_name(door):
    """On loopback nobody needs a token, by whichever name this machine has."""
    async with door() as it:
        for host in ("127.0.0.1:8765", "localhost:8765", "[::1]:8765", "hotpath.localhost"):
            reply = await it.get(host=host)
            assert (reply.status_code, reply.json()["name"]) == (200, "local")
            assert (await it.post(host=host, origin=f"http://{host}")).status_code == 200


REBOUND = ["evil.example", "127.0.0.1.evil.example:8765", "evil@localhost", "", "a b"]


async def test_rebound_name_is_refused(door, subtests):
    """A page whose own name points to this machine gets nothing (DNS rebinding)."""
    for host in REBOUND:
        with subtests.test(ascii(host)[:60]):
            async with door() as it:
                reply = await it.get(host=host)
                assert reply.status_code == 403
                assert reply.headers["content-type"] == "application/problem+json"
                assert reply.json()["status"] == 403


POSTERS = [
    ("http://127.0.0.1:8765", True),
    ("http://127.0.0.1:9999", False),
    ("https://127.0.0.1:8765", False),
    ("http://evil.example", False),
    ("null", False),
    ("http://127.0.0.1:8765.evil.example", False),
]


async def test_pages_of_others_may_not_post(door, subtests):
    """A request that changes something is refused when a page of another origin made it; that is said."""
    for origin, right in POSTERS:
        with subtests.test(ascii(origin)[:60]):
            async with door() as it:
                reply = await it.post(origin=origin)
                assert reply.status_code == (200 if right else 403)
                assert right or origin in reply.json()["detail"]


async def test_fetch_metadata_counts_too(door):
    """Browsers that say where a request is from are believed: other sites may lead here, not read or post."""
    async with door() as it:
        assert (await it.post(sec_fetch_site="cross-site")).status_code == 403
        assert (await it.post(sec_fetch_site="same-site")).status_code == 403
        assert (await it.post(sec_fetch_site="same-origin")).status_code == 200
        assert (await it.get(sec_fetch_site="cross-site", sec_fetch_mode="no-cors")).status_code == 403
        assert (await it.get(sec_fetch_site="cross-site", sec_fetch_mode="navigate")).status_code == 200


async def test_what_a_proxy_passes_on_is_not_local(door):
    """A proxy on this machine does not open the server to the world: what it passes on needs a token."""
    async with door() as it:
        reply = await it.get(x_forwarded_for="203.0.113.7")
        assert reply.status_code == 401
        token = await it.token()
        assert (await it.get(x_forwarded_for="203.0.113.7", token=token)).json()["name"] == "ann"


@pytest.mark.parametrize(
    "options",
    [{"require_token": True}, {"public_url": "https://x.example"}, {"allowed_hosts": ("x.example",)}],
)
async def test_loopback_behind_a_proxy_is_closed(door, options):
    """What speaks of a proxy, or asks for it, closes loopback too."""
    async with door(**options) as it:
        assert (await it.get()).status_code == 401


async def test_allowed_hosts_are_all_there_are(closed):
    """With --allowed-host no other name is answered to, but for the public one and this machine's."""
    async with closed(allowed_hosts=("a.example",), public_url="https://b.example/") as it:
        token = await it.token()
        for host, status in {
            "a.example": 200,
            "b.example:443": 200,
            "localhost": 200,
            "c.example": 403,
        }.items():
            assert (await it.get(token=token, host=host)).status_code == status


# ---------------------------------------------------------------- tokens


async def test_closed_server_needs_a_good_token(closed):
    """Off loopback everything but what is public needs a token; a good one opens."""
    async with closed() as it:
        reply = await it.get()
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.json()["title"] == "Not logged in"
        assert (await it.get("/healthz")).status_code == 200
        token = await it.token()
        reply = await it.get(token=token)
        assert reply.json() == {"name": "ann", "scopes": ["read"], "path": "/api/v1/jobs"}


async def test_bad_tokens_open_nothing(closed):
    """Forged, cut, changed, made-up and empty tokens: 401, all with the same answer, on every path."""
    async with closed() as it:
        token = await it.token()
        head, number, secret_ = token.split("_")
        other = "0" if secret_[-1] != "0" else "1"
        bad = [
            f"{head}_{number}_{secret_[:-1]}{other}",
            token[:-1],
            f"{head}_aaaaaaaaaaaa_{secret_}",
            f"{head}_{number}_{'0' * 64}",
            token + "0",
            token.upper(),
            "hp_",
            "",
            "x" * 5000,
            f"{head}_{number}_' or '1'='1",
        ]
        answers = {(reply.status_code, reply.text) for one in bad for reply in [await it.get(token=one)]}
        assert len(answers) == 1
        assert answers.pop()[0] == 401
        assert (await it.get(authorization="Basic YTpi")).status_code == 401
        assert secret_ not in repr(await it.state.access.find(number))


async def test_bad_token_is_refused_on_loopback_too(door):
    """Who shows a token means it: a bad one is not taken for nobody's on an open server."""
    async with door() as it:
        assert (await it.get(token="hp_aaaaaaaaaaaa_" + "0" * 64)).status_code == 401


async def test_expired_token(closed):
    """A token opens nothing from its expiry on."""
    async with closed() as it:
        seconds = 0.3
        token = await it.token(expires=seconds)
        while (await it.get(token=token)).status_code != 200:  # it was over before this machine asked
            seconds *= 2
            token = await it.token(f"ann {seconds}", expires=seconds)
        with trio.fail_after(access.FRESH_SECONDS + seconds + 20):
            await refused(it, token)


async def test_revoked_token_opens_nothing_within_five_seconds(closed):
    """Revoking takes effect within 5 s, for tokens that are in use and for sessions that they began."""
    async with closed() as it:
        token = await it.token()
        await it.log_in(token)
        assert (await it.get(token=token)).status_code == 200
        assert (await it.get()).status_code == 200
        await it.revoke("ann")
        assert access.FRESH_SECONDS < 4
        with trio.fail_after(20):  # whatever this machine has to do; what is believed is not for ever
            await refused(it, token)
            await refused(it, None)


async def test_good_token_is_not_asked_for_each_time(closed):
    """A token that is in use is looked up every few seconds, not for each request."""
    async with closed() as it:
        token = await it.token()
        for _ in range(20):
            await it.get(token=token)
        assert len(it.state.access._known) == 1
        read_at = next(iter(it.state.access._known.values())).read_at
        assert trio.current_time() - read_at < 5


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/healthz", None),
        ("POST", "/login", None),
        ("GET", "/resume/abc", None),
        ("POST", "/api/v1/resume/abc", None),
        ("GET", "/static/plain.css", None),
        ("GET", "/api/v1/jobs", "read"),
        ("GET", "/", "read"),
        ("GET", "/metrics", "read"),
        ("GET", "/ws", "read"),
        ("POST", "/api/v1/jobs", "run"),
        ("POST", "/api/v1/runs/7/resume", "run"),
        ("PATCH", "/healthz2", "run"),
        ("GET", "/api/v1/tokens", "admin"),
        ("DELETE", "/api/v1/tokens/abc", "admin"),
        ("GET", "/api/v1/groups", "read"),
        ("PUT", "/api/v1/groups/gpu", "admin"),
        ("PUT", "/api/v1/groups/gpu/scaling", "admin"),
        ("GET", "/api/v1/versions", "read"),
        ("POST", "/api/v1/versions", "admin"),
        ("POST", "/api/v1/versions/rollback", "admin"),
        ("GET", "/static", "read"),
        ("GET", "/resume", "read"),
        ("GET", "/loginx", "read"),
    ],
)
def test_scopes_of_paths(method, path, scope):
    """Looking needs `read`, changing `run`, tokens and groups `admin`; few paths need none."""
    assert needed_scope(method, path) == scope


async def test_wrong_scope_is_403(closed):
    """A token may do what its scopes say, and those that they include, and is told what it lacks."""
    async with closed() as it:
        read, run, admin = [await it.token(scope, (scope,)) for scope in ("read", "run", "admin")]
        assert [(await it.post(token=token)).status_code for token in (read, run, admin)] == [403, 200, 200]
        path = "/api/v1/tokens"
        assert [(await it.get(path, token=token)).status_code for token in (read, run, admin)] == [
            403,
            403,
            200,
        ]
        assert "the scope run" in (await it.post(token=read)).json()["detail"]


async def test_start_is_refused_without_a_token(closed, door):
    """A server that others reach does not start before there is a token that opens it."""
    async with closed() as it:
        with pytest.raises(UsageError, match="hotpath token create"):
            await it.state.access.check_start()
        await it.token()
        await it.state.access.check_start()
        await it.revoke("ann")
        with pytest.raises(UsageError):
            await it.state.access.check_start()
    async with door() as it:
        await it.state.access.check_start()


# ---------------------------------------------------------------- sessions


async def test_login_makes_a_session(closed):
    """A good token in the form begins a session, by a cookie that no script sees and no other site sends."""
    async with closed() as it:
        token = await it.token(scopes=("run",))
        reply = await it.log_in(token, next="/jobs?state=failure")
        assert (reply.status_code, reply.headers["location"]) == (303, "/jobs?state=failure")
        cookie = next(c for c in reply.headers.get_list("set-cookie") if c.startswith("hotpath_session="))
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert token not in cookie
        assert (await it.get()).json()["name"] == "ann"
        assert (await it.post(origin="http://hotpath.example:8765")).status_code == 200
        assert (await it.post(origin="http://evil.example")).status_code == 403
        assert (await it.post()).status_code == 403


async def test_session_under_tls_has_a_secure_cookie(door):
    """Under TLS the cookie is `__Host-`: secure, of this host alone."""
    async with door("https://x.example", host="0.0.0.0", public_url="https://x.example") as it:
        reply = await it.log_in(await it.token())
        cookie = next(c for c in reply.headers.get_list("set-cookie") if "session=" in c)
        assert cookie.startswith("__Host-hotpath_session=")
        assert "Secure" in cookie.split("; ")
        assert (await it.get()).status_code == 200
        assert reply.headers["strict-transport-security"]


async def test_cookies_that_are_not_ours_open_nothing(closed):
    """Forged, changed, expired cookies, and those of another database: 401."""
    async with closed() as it:
        token = await it.token()
        number = token.split("_")[1]
        async with it.state.database.connection() as connection:
            signer = Signer(await secret(connection))
        good, _ = signer.begin(number, time.time(), None)
        over, _ = signer.begin(number, time.time() - 13 * 3600, None)
        stranger, _ = Signer(b"x" * 32).begin(number, time.time(), None)
        of_nobody, _ = signer.begin("aaaaaaaaaaaa", time.time(), None)
        longer = good.split(".")
        longer[1] = str(int(longer[1]) + 1)
        for value, status in {
            good: 200,
            over: 401,
            stranger: 401,
            of_nobody: 401,
            ".".join(longer): 401,
            good[:-1] + ("0" if good[-1] != "0" else "1"): 401,
            token: 401,
            "x" * 3000: 401,
        }.items():
            reply = await it.get(cookie=f"hotpath_session={value}")
            assert reply.status_code == status, value
            assert status == 200 or "session is over" in reply.json()["detail"]


async def test_session_ends_with_its_token(closed):
    """A session does not outlive the expiry of the token that began it."""
    async with closed() as it:
        reply = await it.log_in(await it.token(expires=100))
        cookie = next(c for c in reply.headers.get_list("set-cookie") if c.startswith("hotpath_session="))
        assert 90 < int(re.search(r"Max-Age=(\d+)", cookie)[1]) <= 100


async def test_login_refuses(closed):
    """A wrong token, a form without its token, and one that another browser was shown begin no session."""
    async with closed() as it:
        token = await it.token()
        reply = await it.log_in("hp_aaaaaaaaaaaa_" + "0" * 64)
        assert reply.status_code == 401
        assert "unknown, revoked or expired" in reply.text
        for form in ("", "1.2", f"{int(time.time()) + 100}.{'0' * 64}"):
            assert (await it.http.post("/login", data={"form": form, "token": token})).status_code == 403
        shown = await it.http.get("/login")
        form = re.search(r'name="form" value="([^"]+)"', shown.text)[1]
        it.http.cookies.clear()
        reply = await it.http.post("/login", data={"form": form, "token": token})
        assert reply.status_code == 403
        assert (await it.http.post("/login", headers={"origin": "http://evil.example"})).status_code == 403
        assert (await it.get()).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/x\r\ny", "x"],
)
async def test_login_leads_nowhere_else(closed, path):
    """After the login one is on this server, wherever the link wanted to lead."""
    async with closed() as it:
        reply = await it.log_in(await it.token(), next=path)
        assert (reply.status_code, reply.headers["location"]) == (303, "/")


async def test_logout(closed):
    """The button on /logout ends the session; a post without the form's token does not."""
    async with closed() as it:
        await it.log_in(await it.token())
        shown = await it.http.get("/logout")
        assert "ann" in shown.text
        assert (await it.http.post("/logout", data={"form": "x"})).status_code == 403
        assert (await it.get()).status_code == 200
        form = re.search(r'name="form" value="([^"]+)"', shown.text)[1]
        assert (await it.http.post("/logout", data={"form": form})).status_code == 303
        assert (await it.get()).status_code == 401


async def test_browsers_are_led_to_the_login(closed):
    """A browser that asks for a page is led to the form and back; a program gets its 401."""
    async with closed() as it:
        reply = await it.get("/jobs?tag=a&b=%20", **HTML)
        assert reply.status_code == 303
        shown = await it.http.get(reply.headers["location"], headers=HTML)
        assert 'name="next" value="/jobs?tag=a&amp;b=%20"' in shown.text
        assert (await it.get("/api/v1/jobs", **HTML)).status_code == 401
        assert (await it.get("/jobs")).status_code == 401
        # From a link on another site the cookie does not come along: we ask once more ourselves.
        reply = await it.get("/jobs", sec_fetch_site="cross-site", sec_fetch_mode="navigate", **HTML)
        assert (reply.status_code, 'url=/login?next=/jobs"' in reply.text) == (200, True)
        await it.log_in(await it.token())
        reply = await it.http.get("/login?next=/jobs", headers=HTML)
        assert (reply.status_code, reply.headers["location"]) == (303, "/jobs")


async def test_texts_in_pages_are_escaped(closed):
    """What a link or a token's name brings along is text in our pages."""
    async with closed() as it:
        evil = '/"><script>alert(1)</script>'
        shown = await it.http.get("/login", params={"next": evil}, headers=HTML)
        assert "<script" not in shown.text
        await it.log_in(await it.token("<script>x</script>"))
        assert "<script" not in (await it.http.get("/logout")).text


async def test_every_response_has_the_headers(closed):
    """Refusals, pages and answers tell browsers to trust nothing but this server, and to keep nothing."""
    async with closed() as it:
        token = await it.token()
        for reply in (await it.get(), await it.get(token=token), await it.http.get("/login")):
            csp = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
            assert csp["default-src"] == "'none'"
            assert csp["script-src"] == "'self'"
            assert csp["frame-ancestors"] == "'none'"
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["cross-origin-opener-policy"] == "same-origin"
            assert reply.headers["cache-control"] == "no-store"
            assert reply.headers["referrer-policy"] in ("no-referrer", "same-origin")
            assert "strict-transport-security" not in reply.headers


# ---------------------------------------------------------------- proxies


async def test_trusted_proxy_speaks_for_its_client(door):
    """From a trusted address X-Forwarded-* say who asks, by which scheme and name; Origin follows."""
    trusted = (ipaddress.ip_network("10.1.2.0/24"),)
    async with door("http://inner:1", host="0.0.0.0", trust_forwarded=trusted) as it:
        it.http.headers.update({"x-forwarded-proto": "https", "x-forwarded-host": "a.example"})
        reply = await it.http.get("/login")
        assert "Secure" in reply.headers["set-cookie"].split("; ")
        assert reply.headers["strict-transport-security"]
        number = (await it.token(scopes=("run",))).split("_")[1]
        value, _ = (await it.state.access.signer()).begin(number, time.time(), None)
        value = f"hotpath_session={value}"
        assert (await it.post(origin="https://a.example", cookie=value)).status_code == 200
        assert (await it.post(origin="http://a.example", cookie=value)).status_code == 403
        assert (await it.post(origin="http://inner:1", cookie=value)).status_code == 403


async def test_nobody_else_is_believed(closed):
    """From other addresses X-Forwarded-* change nothing."""
    trusted = (ipaddress.ip_network("10.9.0.0/16"),)
    async with closed(trust_forwarded=trusted) as it:
        token = await it.token(scopes=("run",))
        said = {"x_forwarded_proto": "https", "x_forwarded_host": "a.example", "x_forwarded_for": "1.2.3.4"}
        assert (await it.post(token=token, origin="https://a.example", **said)).status_code == 403
        reply = await it.post(token=token, origin="http://hotpath.example:8765", **said)
        assert (reply.status_code, "strict-transport-security" in reply.headers) == (200, False)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.0.0.7", "1.2.3.4"),
        ("10.0.0.8, 10.0.0.7", "10.0.0.8"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("unknown", None),
        ("6.6.6.6, <script>", None),
        ("", None),
    ],
)
def test_client_behind_proxies(chain, client):
    """The client is the last address that is no proxy of ours: what stands before it may be made up."""
    proxies = ForwardedMiddleware(None, [ipaddress.ip_network("10.0.0.0/8")])
    scope = {"type": "http", "client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", chain.encode())]}
    assert proxies._behind_proxy(scope)["client"][0] == (client or "10.0.0.1")


# ---------------------------------------------------------------- wrong tokens, again and again


async def test_wrong_tokens_cost(closed, monkeypatch):
    """An address that sends wrong tokens has to wait, at the login too; a token in use goes on working."""
    monkeypatch.setattr(access, "FAILURE_RATE", 0.01)  # the wait is not over before it is looked at
    async with closed() as it:
        good, fresh = await it.token("ann"), await it.token("bob")
        wrong = "hp_aaaaaaaaaaaa_" + "0" * 64
        assert (await it.get(token=good)).status_code == 200
        with trio.fail_after(20):
            while (reply := await it.get(token=wrong)).status_code == 401:
                pass
        assert reply.status_code == 429
        assert int(reply.headers["retry-after"]) >= 1
        assert (await it.log_in(fresh)).status_code == 429
        assert (await it.get(token=good)).status_code == 200


def test_buckets():
    """A caller may do a burst at once, then so many a second; others are not held up; few are remembered."""
    limiter = RateLimiter(rate=2, burst=3)
    assert [limiter.take("a", 100.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert limiter.take("b", 100.0) == 0
    assert limiter.take("a", 100.5) == 0
    assert limiter.take("a", 100.5) == 0.5
    assert [limiter.take("a", 200.0) for _ in range(4)] == [0, 0, 0, 0.5]
    for number in range(25_000):
        limiter.take(str(number), 200.0 + number)
    assert len(limiter._full_at) <= 10_000
