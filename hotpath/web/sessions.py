"""What the server signs: session cookies, and the tokens in forms. No I/O; time is an argument, in seconds
since the epoch.

A session names the API token that began it, so that it ends when that is revoked. Keys are made from the
database's secret by a label of their own, so that one kind of signature is never good for another.
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256

import attrs

SESSION_SECONDS = 12 * 3600
"""After so long one has to log in again."""
FORM_SECONDS = 3600
"""How long a form may stay open."""

_SESSION = re.compile(r"([a-z2-7]{12})\.([0-9]{1,11})\.([0-9a-f]{32})\.([0-9a-f]{64})")
_FORM = re.compile(r"([0-9]{1,11})\.([0-9a-f]{64})")
_BINDING = re.compile(r"[0-9a-f]{32}")


@attrs.frozen
class Session:
    """A browser that has logged in."""

    token_id: str
    expires: int
    """Seconds since the epoch."""
    nonce: str
    """What its forms are bound to."""


class Signer:
    """Signs and checks, with keys made from the database's secret."""

    def __init__(self, secret: bytes) -> None:
        self._session = hmac.digest(secret, b"hotpath session cookie", sha256)
        self._form = hmac.digest(secret, b"hotpath form token", sha256)

    def begin(self, token_id: str, now: float, until: float | None) -> tuple[str, Session]:
        """A cookie's value for a new session and what it says; it ends by `until` at the latest."""
        end = now + SESSION_SECONDS
        session = Session(token_id, int(end if until is None else min(end, until)), secrets.token_hex(16))
        said = f"{session.token_id}.{session.expires}.{session.nonce}"
        return f"{said}.{_sign(self._session, said)}", session

    def read(self, cookie: str, now: float) -> Session | None:
        """The session that this cookie's value is of; None when it is forged, changed, or over."""
        match = _SESSION.fullmatch(cookie)
        if match is None:
            return None
        said, _, mac = cookie.rpartition(".")
        session = Session(match[1], int(match[2]), match[3])
        good = hmac.compare_digest(mac, _sign(self._session, said))
        return session if good and now < session.expires else None

    def form_token(self, purpose: str, binding: str, now: float) -> str:
        """What a form for this purpose carries, when it is shown to whoever has `binding`."""
        expires = int(now + FORM_SECONDS)
        return f"{expires}.{_sign(self._form, _form(purpose, binding, expires))}"

    def is_form_token(self, text: str, purpose: str, binding: str, now: float) -> bool:
        """Whether `form_token` made this for the same purpose and binding, and not too long ago."""
        match = _FORM.fullmatch(text)
        if match is None or not binding:
            return False
        expires = int(match[1])
        return (
            hmac.compare_digest(match[2], _sign(self._form, _form(purpose, binding, expires)))
            and now < expires
        )


def new_binding() -> str:
    """A random value for the cookie that the form for logging in is bound to."""
    return secrets.token_hex(16)


def is_binding(text: str) -> bool:
    """Whether it has the form of one."""
    return _BINDING.fullmatch(text) is not None


def _form(purpose: str, binding: str, expires: int) -> str:
    return f"{purpose}\0{binding}\0{expires}"


def _sign(key: bytes, said: str) -> str:
    return hmac.new(key, said.encode(), sha256).hexdigest()
