"""API tokens: listed, made, revoked."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.store import tokens as store
from hotpath.store.approvals import MAX_SECONDS
from hotpath.store.tokens import MAX_NAME, token_document
from hotpath.web import shapes
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.problem import ProblemError
from hotpath.web.state import state_of


class ListTokens(msgspec.Struct, forbid_unknown_fields=True):
    """Which tokens."""

    revoked: Annotated[bool, Meta(description="Those too that were revoked.")] = False


class OneApiToken(msgspec.Struct, forbid_unknown_fields=True):
    """A token by its id."""

    id: Annotated[
        str, Meta(min_length=1, max_length=100, description="Id of the token, not the token itself.")
    ]


class NewToken(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A token to be made."""

    name: Annotated[
        str, Meta(min_length=1, max_length=MAX_NAME, description="What it is for; like no other.")
    ]
    scopes: Annotated[
        list[Literal["read", "run", "admin"]],
        Meta(min_length=1, max_length=3, description="What it opens, each more than the one before."),
    ]
    expires: Annotated[
        Annotated[float, Meta(gt=0, le=MAX_SECONDS)] | None,
        Meta(description="Seconds from now; by default never."),
    ] = None


async def list_tokens(request: Request, asked: ListTokens) -> Response:
    """The API tokens, without their secrets."""
    async with state_of(request).database.connection() as connection:
        found = await store.list_tokens(connection, revoked=asked.revoked)
    return reply(shapes.TokenList([shapes.TokenDocument(**token_document(each)) for each in found]))


async def create_token(request: Request, body: NewToken) -> Response:
    """Make an API token; the answer has it, and nothing else ever will."""
    async with state_of(request).database.connection() as connection:
        text, made = await store.create_token(connection, body.name, body.scopes, body.expires)
    return reply(shapes.NewTokenDocument(token=text, **token_document(made)), 201)


async def revoke_token(request: Request, asked: OneApiToken) -> Response:
    """Revoke an API token: from a moment later on it opens nothing."""
    async with state_of(request).database.connection() as connection:
        # By its id alone: a name may be anybody's, and look like an id.
        known = await store.list_tokens(connection)
        if all(each.id != asked.id for each in known):
            raise ProblemError(
                404, "No such token", "no token that is good has this id", type="unknown-token"
            )
        revoked = await store.revoke_token(connection, asked.id)
    return reply(shapes.TokenDocument(**token_document(revoked)))


TABLE = [
    Endpoint(
        method="GET", path=f"{PREFIX}/tokens", handler=list_tokens, scope="admin", group="tokens",
        answers={200: Answer("The tokens, by age.", shapes.TokenList)},
    ),
    Endpoint(
        method="POST", path=f"{PREFIX}/tokens", handler=create_token, scope="admin", group="tokens",
        example={"name": "grafana", "scopes": ["read"], "expires": 2_592_000},
        answers={201: Answer("It is made.", shapes.NewTokenDocument)},
    ),
    Endpoint(
        method="DELETE", path=PREFIX + "/tokens/{id}", handler=revoke_token, scope="admin", group="tokens",
        problems=(404,), answers={200: Answer("It is revoked.", shapes.TokenDocument)},
    ),
]  # fmt: skip
