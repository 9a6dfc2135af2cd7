"""What every request may use: made when the server starts, closed when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from starlette.requests import HTTPConnection

from hotpath.client import Client
from hotpath.store.database import Database
from hotpath.web.options import ServeOptions

if TYPE_CHECKING:
    import trio


@attrs.define(eq=False, kw_only=True)
class ServerState:
    """The server's own things; `state_of(request)` finds them."""

    client: Client
    options: ServeOptions
    nursery: trio.Nursery
    """For what outlives a request and ends with the server."""

    @property
    def database(self) -> Database:
        """The database that is served."""
        return self.client.database


def state_of(connection: HTTPConnection) -> ServerState:
    """The server's state, from any request or WebSocket."""
    found: ServerState = connection.app.state.server
    return found
