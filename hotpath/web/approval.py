"""The page behind a resume token: what is to be approved, and the two buttons. The token is the credential,
so nobody has to log in, and to look at the page says nothing: programs that preview links do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from html import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hotpath.core.flow.tokens import ExpiredTokenError, TokenError
from hotpath.errors import BadArgsError, NotSuspendedError, UsageError
from hotpath.store.approvals import Asked, ask_by_token, resume_by_token
from hotpath.web import forms
from hotpath.web.endpoints import ANSWER_SECONDS
from hotpath.web.login import page, read_form
from hotpath.web.state import state_of

_PURPOSE = "resume"
_MAX_NAME = 200


def routes() -> list[BaseRoute]:
    """The page's routes."""
    return [
        Route("/resume/{token}", show, methods=["GET"]),
        Route("/resume/{token}", answer, methods=["POST"]),
    ]


async def show(request: Request) -> Response:
    """What the token asks."""
    asked = await _ask(request)
    return asked if isinstance(asked, Response) else await _form(request, asked, {})


async def answer(request: Request) -> Response:
    """Take the answer that the form was sent with."""
    asked = await _ask(request)
    if isinstance(asked, Response):
        return asked
    state = state_of(request)
    token, given = request.path_params["token"], await read_form(request)
    signer = await state.access.signer()
    if not signer.is_form_token(given.get("form", ""), _PURPOSE, token, time.time()):
        return await _form(request, asked, given, "This page was open for too long. Answer once more.", 403)
    approve = given.get("answer") == "approve"
    if not approve and given.get("answer") != "disapprove":
        return await _form(request, asked, given, "Say whether you approve.", 400)
    try:
        schema = asked.wait.form if asked.wait is not None and approve else None
        payload, approver = forms.read(schema, given), given.get("approver", "").strip()[:_MAX_NAME]
        async with state.database.connection(within=ANSWER_SECONDS) as connection:
            await resume_by_token(connection, token, payload, approve=approve, approver=approver)
    except (forms.FieldError, BadArgsError, UsageError) as error:
        return await _form(request, asked, given, str(error), 400)
    except NotSuspendedError as error:
        return page("Too late", f"<p>{escape(str(error))}</p>", 409)
    except TokenError as error:
        return _closed(error)
    word = "approved" if approve else "disapproved"
    return page(
        f"You have {word}", f"{_about(asked)}<p>The run has your answer. You can close this page.</p>"
    )


async def _ask(request: Request) -> Asked | Response:
    """What the token asks, if that is still open; else the page that says why not."""
    try:
        async with state_of(request).database.connection(within=ANSWER_SECONDS) as connection:
            asked = await ask_by_token(connection, request.path_params["token"])
    except TokenError as error:
        return _closed(error)
    if asked.is_used:
        return page("Answered", f"{_about(asked)}<p>This link was used: it counts once.</p>", 410)
    if asked.job is None:
        return page("No such run", "<p>The run that this link is for is not kept any more.</p>", 410)
    if not asked.is_open:
        said = f"<p>The run has ended ({escape(asked.job.state.value)}): there is nothing to answer.</p>"
        return page("Too late", _about(asked) + said, 410)
    return asked


def _closed(error: TokenError) -> Response:
    if isinstance(error, ExpiredTokenError):
        return page("Too late", "<p>This link has expired. Ask for a new one.</p>", 410)
    return page("This link opens nothing", "<p>It was changed, or cut: copy it whole.</p>", 404)


def _about(asked: Asked) -> str:
    script = "" if asked.job is None else f"<dt>Flow</dt><dd>{escape(asked.job.script)}</dd>"
    return (
        f"<dl>{script}<dt>Run</dt><dd><code>{asked.said.run}</code></dd>"
        f"<dt>Step</dt><dd><code>{escape(asked.said.key)}</code></dd></dl>"
    )


async def _form(
    request: Request, asked: Asked, given: Mapping[str, str], fault: str = "", status: int = 200
) -> Response:
    signer = await state_of(request).access.signer()
    sign = signer.form_token(_PURPOSE, request.path_params["token"], time.time())
    wait = asked.wait
    said = f'<p class="fault" role="alert">{escape(fault)}</p>' if fault else ""
    more = ""
    if wait is None:
        more = (
            '<p class="hint">The run does not wait for this at the moment; an answer counts when it does.</p>'
        )
    elif wait.required > 1:
        more = f'<p class="hint">{wait.said} of {wait.required} answers are there.</p>'
    name = escape(given.get("approver", asked.said.approver))
    body = (
        f'{_about(asked)}{more}{said}<form method="post">'
        f'<input type="hidden" name="form" value="{sign}">'
        f"{forms.render(None if wait is None else wait.form, given)}"
        f'<label for="approver">Your name</label>'
        f'<input id="approver" name="approver" maxlength="{_MAX_NAME}" value="{name}" autocomplete="name">'
        '<button name="answer" value="approve" class="main">Approve</button>'
        '<button name="answer" value="disapprove" formnovalidate>Disapprove</button></form>'
    )
    return page("Approve?", body, status)
