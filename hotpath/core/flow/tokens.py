"""Tokens with which somebody approves or disapproves one step of one run, once, without any other right.

A token is text for a URL: base64 without padding of

    version (1 byte) | run (16) | nonce (12) | expires (8, big-endian) | key, NUL, approver (UTF-8) |
    HMAC-SHA256 (32)

The HMAC is over all that stands before it, with the database's secret as its key. Nothing in a token is
secret but that it exists. That it is used once is the database's to see, by run, key and nonce.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from uuid import UUID

import attrs

from hotpath.errors import HotpathError

NONCE_BYTES = 12
SECRET_BYTES = 16
"""A shorter secret is none."""
MAX_KEY_BYTES = 1024
"""Of a step's key and the approver's name together: a token is to fit into a URL."""

_VERSION = b"\x01"
_EXPIRES = 1 + 16 + NONCE_BYTES
_KEY = _EXPIRES + 8
_MAC_BYTES = 32
_MAX_TEXT = (_KEY + MAX_KEY_BYTES + 1 + _MAC_BYTES) * 4 // 3 + 1
_TEXT = re.compile(r"[A-Za-z0-9_-]+")


class TokenError(HotpathError):
    """A token that opens nothing."""


class NotATokenError(TokenError):
    """The text is no token at all, or only a part of one."""


class ForgedTokenError(TokenError):
    """It looks like a token, but this database's secret did not sign it."""


class ExpiredTokenError(TokenError):
    """Its time is over."""


@attrs.frozen
class Token:
    """What a token says."""

    run: UUID
    key: str
    """Key of the step that is to be approved."""
    nonce: bytes
    """Unlike that of any other token of this step; one nonce counts once."""
    expires_us: int
    """Microseconds since the epoch, by the database's clock; from then on it opens nothing."""
    approver: str = ""
    """Whom it was made for; empty: it does not say."""


def make_nonce() -> bytes:
    """A nonce for one token, random."""
    return secrets.token_bytes(NONCE_BYTES)


def steady_nonce(secret: bytes, run: UUID, key: str, approver: str) -> bytes:
    """The nonce of the one token that this approver has for this step: always the same, known to nobody
    without the secret.
    """
    said = b"\0".join((b"hotpath nonce", run.bytes, key.encode(), approver.encode()))
    return _digest(secret, said)[:NONCE_BYTES]


def make_token(secret: bytes, run: UUID, key: str, nonce: bytes, expires_us: int, approver: str = "") -> str:
    """A token for step `key` of the run, good until `expires_us` (microseconds since the epoch).

    Raises ValueError for a secret under `SECRET_BYTES`, a nonce that is not of `NONCE_BYTES`, an empty key,
    key and approver over `MAX_KEY_BYTES` or with a NUL, and a time that is negative or beyond 2^63.
    """
    if not key or "\0" in key + approver or len((key + approver).encode()) > MAX_KEY_BYTES:
        raise ValueError(f"a key and an approver have 1 to {MAX_KEY_BYTES} bytes and no NUL")
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    if not 0 <= expires_us < 1 << 63:
        raise ValueError(f"a token cannot expire at {expires_us}")
    said = _VERSION + run.bytes + nonce + expires_us.to_bytes(8) + f"{key}\0{approver}".encode()
    return urlsafe_b64encode(said + _sign(secret, said)).rstrip(b"=").decode()


def read_token(secret: bytes, token: str, now_us: int) -> Token:
    """What this token says, if it is good at `now_us` (microseconds since the epoch).

    Raises `NotATokenError`, `ForgedTokenError` or `ExpiredTokenError`; ValueError for a secret under
    `SECRET_BYTES`.
    """
    raw = _decode(token)
    said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _sign(secret, said)):
        raise ForgedTokenError("forged token: it was not made by this database, or it was changed")
    expires_us = int.from_bytes(said[_EXPIRES:_KEY])
    if now_us >= expires_us:
        raise ExpiredTokenError("the token has expired: ask for a new one, or resume the run by its id")
    key, _, approver = said[_KEY:].decode().partition("\0")
    return Token(UUID(bytes=said[1:17]), key, said[17:_EXPIRES], expires_us, approver)


def _sign(secret: bytes, said: bytes) -> bytes:
    return _digest(secret, b"hotpath resume token\0" + said)


def _digest(secret: bytes, said: bytes) -> bytes:
    if len(secret) < SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes or more, not {len(secret)}")
    return hmac.digest(secret, said, sha256)


def _decode(token: str) -> bytes:
    text = token.strip()
    if len(text) <= _MAX_TEXT and len(text) % 4 != 1 and _TEXT.fullmatch(text):
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        canonical = urlsafe_b64encode(raw).rstrip(b"=").decode()
        # One token has one spelling: the last character's unused bits are 0.
        if canonical == text and raw[:1] == _VERSION and len(raw) > _KEY + _MAC_BYTES:
            return raw
    raise NotATokenError("not a resume token: copy it whole, as `resume_token` gave it")
