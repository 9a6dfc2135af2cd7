"""What every request may use: made when the server starts, closed when it ends."""

from __future__ import annotations

import attrs
import trio
from starlette.requests import HTTPConnection

from hotpath.client import Client
from hotpath.store.database import Database
from hotpath.web.access import Access
from hotpath.web.hub import Hub
from hotpath.web.options import ServeOptions
from hotpath.web.scrapes import Scrapes
from hotpath.worker.changes import Changes

LOADS = 2
"""Requests of many jobs that are read at a time."""
LOGS = 3
"""Requests for logs that are answered at a time."""


@attrs.define(eq=False, kw_only=True)
class ServerState:
    """The server's own things; `state_of(request)` finds them."""

    client: Client
    options: ServeOptions
    nursery: trio.Nursery
    """For what outlives a request and ends with the server."""
    stopping: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set when the server was told to stop: long polls and WebSockets end then, within the grace."""
    changes: Changes = attrs.field(factory=Changes, init=False)
    """Of what is configured in the database."""
    loads: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(LOADS), init=False)
    """Requests that put in many jobs: each has a connection, and a transaction, for as long as it sends."""
    logs: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(LOGS), init=False)
    """Requests for logs: each has a connection, also while the store that logs move to does not answer."""
    access: Access = attrs.field(init=False)
    """Who may do what."""
    hub: Hub = attrs.field(init=False)
    """What WebSockets look at."""
    scrapes: Scrapes = attrs.field(init=False)
    """What Prometheus is told."""

    def __attrs_post_init__(self) -> None:
        self.access = Access(self.client.database, self.options)
        self.hub = Hub(self.client.database, self.nursery)
        self.scrapes = Scrapes(self.client.database)

    @property
    def database(self) -> Database:
        """The database that is served."""
        return self.client.database


def state_of(connection: HTTPConnection) -> ServerState:
    """The server's state, from any request or WebSocket."""
    found: ServerState = connection.app.state.server
    return found
