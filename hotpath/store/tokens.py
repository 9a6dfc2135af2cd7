"""API tokens of `hotpath serve`: made, found, listed, revoked. A token is `hp_<id>_<secret>`; the
database knows the id, and of the secret (256 random bits) its SHA-256.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b32encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import attrs

from hotpath import asyncpg_trio
from hotpath.errors import HotpathError, UsageError
from hotpath.store.approvals import MAX_SECONDS
from hotpath.store.queries import query

SCOPES = ("read", "run", "admin")
"""What a token may do, each more than the one before: look; put jobs in and act on them; tokens, groups."""
MAX_NAME = 100

_TOKEN = re.compile(r"hp_([a-z2-7]{12})_([0-9a-f]{64})")


class UnknownTokenError(HotpathError):
    """No token that is not revoked has this id or name."""


@attrs.frozen(kw_only=True)
class ApiToken:
    """A token as it is stored, without its secret."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    """From then on it opens nothing, by the database's clock; None: no such time."""
    last_used_at: datetime | None
    """To the minute."""
    revoked_at: datetime | None
    expired: bool = False
    """Whether its time was over when it was read."""
    hash: bytes = attrs.field(default=b"", repr=False)
    """SHA-256 of its secret, where that was asked for."""

    @property
    def state(self) -> str:
        """`good`, `expired` or `revoked`, when it was read."""
        return "revoked" if self.revoked_at is not None else "expired" if self.expired else "good"

    def opens_with(self, secret: str) -> bool:
        """Whether this is its secret; takes the same time whichever it is."""
        return hmac.compare_digest(self.hash, _hash(secret))


def read_token(text: str) -> tuple[str, str] | None:
    """Id and secret of a token; None for text that is none."""
    match = _TOKEN.fullmatch(text)
    return (match[1], match[2]) if match else None


def allows(scopes: Iterable[str], needed: str) -> bool:
    """Whether one of these scopes includes the one that is needed."""
    return any(SCOPES.index(scope) >= SCOPES.index(needed) for scope in scopes)


def token_document(token: ApiToken) -> dict[str, Any]:
    """A token as `--json` and the HTTP API show it."""
    times = ("created_at", "expires_at", "last_used_at", "revoked_at")
    shown = {name: when.astimezone(UTC) if (when := getattr(token, name)) else None for name in times}
    return {"id": token.id, "name": token.name, "scopes": token.scopes, "state": token.state} | shown


async def create_token(
    connection: asyncpg_trio.Connection, name: str, scopes: Sequence[str], expires: float | None
) -> tuple[str, ApiToken]:
    """Make a token; returns its text, which nobody can find out again, and what is stored.

    `expires`: seconds from now, None for never. Raises `UsageError` for values that no token can have, and
    when there is a token of this name.
    """
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"the name of a token has 1 to {MAX_NAME} printable characters")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise UsageError(f"a token has one or more of the scopes {', '.join(SCOPES)}")
    if expires is not None and not 0 < expires <= MAX_SECONDS:
        raise UsageError(f"a token expires after more than 0 and at most {MAX_SECONDS} seconds")
    number = b32encode(secrets.token_bytes(8)).decode().lower()[:12]
    secret = secrets.token_hex(32)
    ordered = [scope for scope in SCOPES if scope in scopes]
    row = await connection.fetchrow(query("token_create"), number, name, _hash(secret), ordered, expires)
    if row is None:
        raise UsageError(f"there is a token named {name!r} already: revoke it, or choose another name")
    return f"hp_{number}_{secret}", _token(row)


async def use_token(connection: asyncpg_trio.Connection, token_id: str) -> ApiToken | None:
    """The token with this id and its hash, if it is neither revoked nor expired; notes that it was used."""
    row = await connection.fetchrow(query("token_use"), token_id)
    return None if row is None else _token(row)


async def list_tokens(connection: asyncpg_trio.Connection, *, revoked: bool = False) -> list[ApiToken]:
    """All tokens by age, the revoked ones only if asked for."""
    return [_token(row) for row in await connection.fetch(query("token_list"), revoked)]


async def revoke_token(connection: asyncpg_trio.Connection, token: str) -> ApiToken:
    """Revoke the token with this id, else the one of this name. Raises `UnknownTokenError`."""
    row = await connection.fetchrow(query("token_revoke"), token)
    if row is None:
        raise UnknownTokenError(f"there is no token {token!r}; `hotpath token list` shows them")
    return _token(row)


async def any_usable(connection: asyncpg_trio.Connection) -> bool:
    """Whether there is a token that opens anything."""
    found: bool = await connection.fetchval(query("token_usable"))
    return found


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _token(row: Any) -> ApiToken:
    return ApiToken(**dict(row) | {"scopes": tuple(row["scopes"])})
