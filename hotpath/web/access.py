"""Who may do what: tokens, sessions, scopes; every request passes here before any route.

Open (`ServeOptions.is_open`: loopback alone), whoever speaks to the server by a name of this machine may do
everything, unless a proxy or a page of another site speaks for him. Otherwise a request needs `Authorization:
Bearer hp_…` or the cookie of a session; only `PUBLIC` paths do not.

A token that was good is believed for `FRESH_SECONDS` before the database is asked again, and WebSockets are
looked at every `RECHECK_SECONDS`: a revoked token opens nothing, and keeps nothing open, 5 s later.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from html import escape
from ipaddress import AddressValueError, IPv6Address
from math import ceil
from urllib.parse import quote

import attrs
import trio
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotpath.errors import DatabaseUnavailableError, UsageError
from hotpath.store.database import Database
from hotpath.store.flows import secret as read_secret
from hotpath.store.tokens import SCOPES, ApiToken, allows, any_usable, read_token, use_token
from hotpath.web.options import ServeOptions
from hotpath.web.origins import PROXY_HEADERS, SAFE_METHODS, header, host_fault, names_source, origin_fault
from hotpath.web.problem import NO_STORE, problem
from hotpath.web.rates import RateLimiter
from hotpath.web.sessions import Session, Signer

FRESH_SECONDS = 2.0
"""How long a token that was good is believed without asking the database."""
RECHECK_SECONDS = 2.5
"""How often the credential of an open WebSocket is looked at."""
WITHIN_SECONDS = 5.0
"""By then the database must have said whether a token is good."""
FAILURE_RATE, FAILURE_BURST = 0.5, 20.0
"""Wrong tokens that may come from one address a second for long, and at once."""
_KEPT = 1000  # tokens remembered
_POLICY = 1008  # close code of a WebSocket: policy violation
_REALM = 'Bearer realm="hotpath"'

PUBLIC = frozenset({"/healthz", "/readyz", "/login", "/logout", "/favicon.ico"})
"""Paths that need no credentials."""
PUBLIC_BELOW = ("/static/", "/resume/", "/api/v1/resume/")
"""The same, with what is below: for /resume the token in the path is the credential."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ADMIN = ("/api/v1/tokens", "/api/v1/doctor")
_ADMIN_CHANGES = tuple(
    f"/api/v1/{part}"
    for part in ("groups", "versions", "retention", "prune", "alerts", "limits", "tags/pauses")
)


@attrs.frozen(kw_only=True)
class Principal:
    """On whose behalf a request is made: `principal_of(request)`."""

    name: str
    """The token's name; `local` on an open server; empty: nobody, on a path that is open to all."""
    scopes: tuple[str, ...] = ()
    token_id: str | None = None
    session: Session | None = None
    """If it came by a cookie."""

    def may(self, scope: str) -> bool:
        """Whether one of its scopes includes this one."""
        return allows(self.scopes, scope)


NOBODY = Principal(name="")
LOCAL = Principal(name="local", scopes=SCOPES)


def principal_of(connection: HTTPConnection) -> Principal:
    """On whose behalf this request or WebSocket is."""
    found: Principal = connection.scope["hotpath.principal"]
    return found


def address_of(scope: Scope) -> str:
    """The client's address; of IPv6, the network of one customer."""
    client = scope.get("client")
    address: str = client[0] if client else ""
    try:
        return IPv6Address(address).exploded[:19] if ":" in address else address
    except AddressValueError:
        return address


def needed_scope(method: str, path: str) -> str | None:
    """The scope that a request needs; None: none."""
    if path in PUBLIC or path.startswith(PUBLIC_BELOW):
        return None
    if _is_below(path, _ADMIN) or (method not in SAFE_METHODS and _is_below(path, _ADMIN_CHANGES)):
        return "admin"
    return "read" if method in SAFE_METHODS else "run"


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)


class RefusedError(Exception):
    """A request that goes no further: `status` (400, 401, 403, 429) and why, with nothing secret."""

    def __init__(self, status: int, detail: str, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        """Seconds, with a 429."""


@attrs.define
class _Known:
    token: ApiToken
    read_at: float


class Access:
    """What a server knows of its callers."""

    def __init__(self, database: Database, options: ServeOptions) -> None:
        self._database = database
        self._options = options
        self._known: dict[str, _Known] = {}
        # One question at a time for each token: a thousand WebSockets of one ask once.
        self._asking: dict[str, trio.Lock] = {}
        self._signer: Signer | None = None
        self._failures = RateLimiter(FAILURE_RATE, FAILURE_BURST)
        self.cookie = "__Host-hotpath_session" if self.is_secure else "hotpath_session"
        """Name of the session's cookie."""

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach this server by TLS alone, as far as it knows."""
        return self._options.is_tls or (self._options.public_url or "").startswith("https:")

    async def check_start(self) -> None:
        """Raise `UsageError` when others can reach this server and there is no token that opens it."""
        if self._options.is_open:
            return
        async with self._database.connection(within=WITHIN_SECONDS) as connection:
            if not await any_usable(connection):
                where = self._options.host if not self._options.is_loopback else "this server"
                raise UsageError(
                    f"{where} is not for this machine alone, so callers need a token, and there is none that "
                    "is good; make one first: hotpath token create NAME --scope read"
                )

    async def signer(self) -> Signer:
        """What signs cookies and forms. Raises `DatabaseUnavailableError`."""
        if self._signer is None:
            async with self._database.connection(within=WITHIN_SECONDS) as connection:
                self._signer = Signer(await read_secret(connection))
        return self._signer

    async def find(self, token_id: str) -> ApiToken | None:
        """The token with this id if it is good, by what was true at most `FRESH_SECONDS` ago. Raises
        `DatabaseUnavailableError`.
        """
        if (known := self._fresh(token_id)) is not None:
            return known
        lock = self._asking.setdefault(token_id, trio.Lock())
        deadline = trio.current_time() + WITHIN_SECONDS
        try:
            with trio.move_on_at(deadline) as patience:
                await lock.acquire()
            if patience.cancelled_caught:
                raise DatabaseUnavailableError(f"the database did not answer within {WITHIN_SECONDS:g} s")
            try:
                return self._fresh(token_id) or await self._ask(token_id, deadline - trio.current_time())
            finally:
                lock.release()
        finally:
            if not lock.locked():  # nobody waits for it
                self._asking.pop(token_id, None)

    async def _ask(self, token_id: str, within: float) -> ApiToken | None:
        self._known.pop(token_id, None)
        asked_at = trio.current_time()
        async with self._database.connection(within=within) as connection:
            token = await use_token(connection, token_id)
        if token is not None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[token_id] = _Known(token, asked_at)
        return token

    def _fresh(self, token_id: str) -> ApiToken | None:
        known = self._known.get(token_id)
        if known is None or trio.current_time() - known.read_at >= FRESH_SECONDS:
            return None
        return known.token

    async def by_token(self, text: str, address: str) -> Principal | None:
        """Whom this token is of; None when it opens nothing, which counts against the address.

        Raises `RefusedError` (429) when too much has failed from there, unless the token has been seen to be
        good, and `DatabaseUnavailableError`.
        """
        token_id, secret = read_token(text) or ("", "")
        known = self._known.get(token_id)
        now = trio.current_time()
        if known is None or not known.token.opens_with(secret):
            wait = self._failures.wait(address, now)
            if wait > 0:
                raise RefusedError(429, "too many wrong tokens came from this address", wait)
        token = await self.find(token_id) if token_id else None
        if token is None or not token.opens_with(secret):
            self._failures.take(address, now)
            return None
        return Principal(name=token.name, scopes=token.scopes, token_id=token.id)

    async def by_cookie(self, cookie: str) -> Principal | None:
        """Whose session this cookie is of; None when there is none, or no more."""
        session = (await self.signer()).read(cookie, time.time())
        token = None if session is None else await self.find(session.token_id)
        if token is None:
            return None
        return Principal(name=token.name, scopes=token.scopes, token_id=token.id, session=session)

    async def is_good(self, principal: Principal) -> bool:
        """Whether what it came in with is still good; while nobody can say, it is."""
        if principal.session is not None and time.time() >= principal.session.expires:
            return False
        try:
            return principal.token_id is None or await self.find(principal.token_id) is not None
        except DatabaseUnavailableError:
            return True

    async def admit(self, scope: Scope) -> Principal:
        """On whose behalf this request is. Raises `RefusedError` and `DatabaseUnavailableError`."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        method = scope.get("method", "GET")
        if _CONTROL.search(scope["path"]):  # a line feed at its end would pass for none with the router
            raise RefusedError(400, "a path has no control characters")
        fault = host_fault(headers, self._options) or origin_fault(
            scope["type"], method, scope["scheme"], headers, self._options
        )
        if fault is not None:
            raise RefusedError(403, fault)
        needed = needed_scope(method, scope["path"])
        if needed is None:
            return NOBODY
        principal = await self._identify(headers, address_of(scope))
        if not principal.may(needed):
            raise RefusedError(
                403, f"this needs the scope {needed}; the token has {', '.join(principal.scopes)}"
            )
        if principal.session is not None and method not in SAFE_METHODS and not names_source(headers):
            raise RefusedError(403, "what a session asks for needs an Origin, as browsers send it")
        return principal

    async def _identify(self, headers: list[tuple[bytes, bytes]], address: str) -> Principal:
        given = header(headers, b"authorization")
        if given is not None:
            kind, _, text = given.partition(" ")
            found = await self.by_token(text.strip(), address) if kind.lower() == "bearer" else None
            if found is None:
                raise RefusedError(401, "the token is unknown, revoked or expired")
            return found
        proxied = any(name in PROXY_HEADERS for name, _ in headers)
        if self._options.is_open and not proxied:
            return LOCAL
        cookie = cookies_of(headers).get(self.cookie)
        if cookie is not None:
            found = await self.by_cookie(cookie)
            if found is None:
                raise RefusedError(401, "the session is over: log in again")
            return found
        if self._options.is_open:
            raise RefusedError(401, "a proxy passed this on, so it needs a token; see --require-token")
        raise RefusedError(
            401, "this needs a token (Authorization: Bearer hp_…) or a session (log in at /login)"
        )


def cookies_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The cookies of a request; of one that came twice, the first: browsers send the closest one first."""
    # Not by http.cookies: in older Pythons a value in quotes takes it time that grows with its square.
    found: dict[str, str] = {}
    for name, value in headers:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, said = pair.partition("=")
                found.setdefault(key.strip(), said.strip().removeprefix('"').removesuffix('"'))
    return found


class AccessMiddleware:
    """Lets in whom `Access` admits, and puts the `Principal` into the scope; ends WebSockets whose credential
    ends.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            principal = await self._access.admit(scope)
        except RefusedError as refused:
            await _refusal(scope, refused)(scope, receive, send)
            return
        except DatabaseUnavailableError:
            detail = "it cannot be asked whether the token is good: try again"
            busy = problem(503, "The database is away", detail, type="no-database")
            await busy(scope, receive, send)
            return
        scope["hotpath.principal"] = principal
        if scope["type"] == "websocket" and principal.token_id is not None:
            await self._while_good(principal, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _while_good(self, principal: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the WebSocket until it ends, or its credential does."""
        open_ = revoked = False

        async def watched_send(message: Message) -> None:
            nonlocal open_
            open_ = message["type"] in ("websocket.accept", "websocket.send")
            await send(message)

        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal revoked
                while await self._access.is_good(principal):  # noqa: ASYNC110 - the database tells no event
                    await trio.sleep(RECHECK_SECONDS)
                revoked = True
                nursery.cancel_scope.cancel(reason="the token was revoked, or has expired")

            nursery.start_soon(watch)
            await self._app(scope, receive, watched_send)
            nursery.cancel_scope.cancel(reason="the WebSocket has ended")
        if revoked and open_:
            await send({"type": "websocket.close", "code": _POLICY, "reason": "the token is no longer good"})


def _refusal(scope: Scope, refused: RefusedError) -> Response:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    wants_page = "text/html" in (header(headers, b"accept") or "") and not scope["path"].startswith("/api/")
    if refused.status == 401 and scope["type"] == "http" and scope["method"] == "GET" and wants_page:
        here = quote(scope["path"], safe="/")
        if query := scope["query_string"].decode("latin-1"):
            here += f"?{query}"
        login = f"/login?next={quote(here, safe='/')}"
        if header(headers, b"sec-fetch-site") == "cross-site":
            return _by_ourselves(login)
        return RedirectResponse(login, status_code=303, headers=NO_STORE)
    title, name, more = {
        400: ("The request is not accepted", "bad-request", {}),
        401: ("Not logged in", "no-credentials", {"www-authenticate": _REALM}),
        403: ("Not allowed", "not-allowed", {}),
        429: ("Too many requests", "too-many-requests", {"retry-after": str(ceil(refused.retry_after))}),
    }[refused.status]
    return problem(refused.status, title, refused.detail, type=name, headers=more)


def _by_ourselves(url: str) -> Response:
    """Go to /login from a page of ours. A link on another site led here, so the browser may have kept the
    session's cookie back (SameSite=Strict); it sends it when we ask, and /login leads on to where it wanted.
    """
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(url)}"><title>Hotpath</title>'
    return HTMLResponse(page, headers=NO_STORE)
