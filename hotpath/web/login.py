"""Plain pages that need no script: /login and /logout."""

from __future__ import annotations

import time
from html import escape
from math import ceil
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from hotpath.web.access import Principal, RefusedError, address_of, cookies_of
from hotpath.web.sessions import is_binding, new_binding
from hotpath.web.state import state_of

FORM_COOKIE = "hotpath_form"
_HEADERS = {
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}  # without a referrer, forms have no Origin
_MAX_NEXT = 2000
_MAX_FIELDS = 1000


def routes() -> list[BaseRoute]:
    """The pages' routes."""
    return [
        Route("/login", show_login, methods=["GET"]),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", show_logout, methods=["GET"]),
        Route("/logout", log_out, methods=["POST"]),
    ]


def page(title: str, body: str, status: int = 200) -> HTMLResponse:
    """A plain page; `title` is text, `body` is HTML whose texts are escaped."""
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} – Hotpath</title>"
        '<link rel="stylesheet" href="/static/style.css">'
        '<link rel="stylesheet" href="/static/plain.css"></head>'
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(html, status, _HEADERS)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form that was sent; of one that came twice, the first."""
    text = (await request.body()).decode("utf-8", "replace")
    try:
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


async def show_login(request: Request) -> Response:
    """The form for a token; a browser that has a session goes on to where it wanted."""
    wanted = local_path(request.query_params.get("next", "/"))
    if await _session_of(request) is not None:
        return RedirectResponse(wanted, 303, _HEADERS)
    return await _login_form(request, wanted)


async def log_in(request: Request) -> Response:
    """Begin a session with the token in the form."""
    access = state_of(request).access
    form = await read_form(request)
    wanted = local_path(form.get("next", "/"))
    signer = await access.signer()
    binding = cookies_of(request.scope["headers"]).get(FORM_COOKIE, "")
    if not signer.is_form_token(form.get("form", ""), "login", binding, time.time()):
        fault = "This form was open for too long, or your browser keeps no cookies. Try again."
        return await _login_form(request, wanted, fault, 403)
    try:
        found = await access.by_token(form.get("token", "").strip(), address_of(request.scope))
    except RefusedError as refused:
        fault = f"Too many wrong tokens came from your address. Try again in {ceil(refused.retry_after)} s."
        return await _login_form(request, wanted, fault, refused.status)
    if found is None or found.token_id is None:
        return await _login_form(request, wanted, "This token is unknown, revoked or expired.", 401)
    token = await access.find(found.token_id)
    until = None if token is None or token.expires_at is None else token.expires_at.timestamp()
    cookie, session = signer.begin(found.token_id, time.time(), until)
    response = RedirectResponse(wanted, 303, _HEADERS)
    _set_cookie(response, request, access.cookie, cookie, max_age=int(session.expires - time.time()))
    response.delete_cookie(FORM_COOKIE, path="/login")
    return response


async def show_logout(request: Request) -> Response:
    """A button that ends the session."""
    principal = await _session_of(request)
    if principal is None or principal.session is None:
        return page("Log out", '<p>You are not logged in.</p><p><a href="/login">Log in</a></p>')
    signer = await state_of(request).access.signer()
    form = signer.form_token("logout", principal.session.nonce, time.time())
    body = (
        f"<p>You are logged in as <strong>{escape(principal.name)}</strong>.</p>"
        f'<form method="post" action="/logout"><input type="hidden" name="form" value="{form}">'
        '<button class="main">Log out</button></form>'
    )
    return page("Log out", body)


async def log_out(request: Request) -> Response:
    """End the session of this browser."""
    access = state_of(request).access
    principal = await _session_of(request)
    form = await read_form(request)
    nonce = "" if principal is None or principal.session is None else principal.session.nonce
    if nonce and not (await access.signer()).is_form_token(
        form.get("form", ""), "logout", nonce, time.time()
    ):
        return page(
            "Log out", '<p>That was not asked for by this page. <a href="/logout">Try again</a></p>', 403
        )
    response = RedirectResponse("/login", 303, _HEADERS)
    response.delete_cookie(
        access.cookie, path="/", secure=_is_secure(request), httponly=True, samesite="strict"
    )
    return response


def local_path(text: str) -> str:
    """`text` if it is a path on this server, else `/`: nobody is sent elsewhere."""
    fits = len(text) <= _MAX_NEXT and text.startswith("/") and text.isascii() and text.isprintable()
    if not fits or text[1:2] in ("/", "\\") or "\\" in text or urlsplit(text).netloc:
        return "/"
    return text


async def _session_of(request: Request) -> Principal | None:
    access = state_of(request).access
    cookie = cookies_of(request.scope["headers"]).get(access.cookie)
    return None if cookie is None else await access.by_cookie(cookie)


async def _login_form(request: Request, wanted: str, fault: str = "", status: int = 200) -> Response:
    signer = await state_of(request).access.signer()
    binding = cookies_of(request.scope["headers"]).get(FORM_COOKIE, "")
    binding = binding if is_binding(binding) else new_binding()
    said = f'<p class="fault" role="alert">{escape(fault)}</p>' if fault else ""
    body = (
        f'{said}<form method="post" action="/login">'
        f'<input type="hidden" name="form" value="{signer.form_token("login", binding, time.time())}">'
        f'<input type="hidden" name="next" value="{escape(wanted)}">'
        '<label for="token">Token</label>'
        '<input id="token" name="token" type="password" autocomplete="current-password" required autofocus'
        ' spellcheck="false" placeholder="hp_…">'
        '<button class="main">Log in</button></form>'
        '<p class="hint">Make one with <code>hotpath token create NAME</code> beside the database.</p>'
    )
    response = page("Log in", body, status)
    _set_cookie(response, request, FORM_COOKIE, binding, path="/login")
    return response


def _is_secure(request: Request) -> bool:
    return request.url.scheme == "https" or state_of(request).access.is_secure


def _set_cookie(
    response: Response,
    request: Request,
    name: str,
    value: str,
    *,
    path: str = "/",
    max_age: int | None = None,
) -> None:
    response.set_cookie(
        name, value, max_age=max_age, path=path, secure=_is_secure(request), httponly=True, samesite="strict"
    )
