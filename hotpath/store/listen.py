"""A listening connection that proves itself: notifications in, notes of sleep out.

A connection can be open and deaf: packets dropped, a proxy that forwards nothing, a pooler that has given our
session to somebody else. So the listener sends itself a notification on a channel of its own, at the start
and every PROVE seconds; when that does not come back it is deaf, and the context ends with `DeafError`.
Whoever listens polls as well.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.errors import DatabaseUnavailableError
from hotpath.store.queries import query
from hotpath.store.reach import reach

PROVE = 10.0
"""Seconds between two proofs."""
DEAF = 5.0
"""Seconds after which a statement, or a proof that has not come back, means that the connection is deaf."""
NAME = "hotpath listen"
SETTINGS = {"synchronous_commit": "off"}  # notes of sleep are hints: they need not wait for the disk


class DeafError(DatabaseUnavailableError):
    """The listening connection does not hear: connect again, and poll meanwhile."""


class PooledError(DeafError):
    """A transaction pooler is between: LISTEN has no session to live in, however often one connects."""


@attrs.frozen(eq=False)
class Listener:
    """A connection that listens. Its statements may be sent from any task."""

    connection: asyncpg_trio.Connection
    notifications: asyncpg_trio.Notifications
    """What came on the channels that were asked for; iterate in one task."""
    _proofs: asyncpg_trio.Notifications
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def doze(self, worker: int, tags: Sequence[int], seconds: float) -> None:
        """Say that the worker sleeps on these tags, and for how long to believe it."""
        await self._execute(query("doze"), worker, list(tags), seconds)

    async def awake(self, worker: int) -> None:
        """Take that back."""
        await self._execute(query("awake"), worker)

    async def prove(self) -> None:
        """Send ourselves a notification and hear it. Raises `DeafError` after DEAF seconds."""
        token = secrets.token_hex(8)
        with trio.move_on_after(DEAF):
            await self._execute(query("prove"), self._proofs.channels[0], token)
            while (await self._proofs.receive()).payload != token:
                pass
            return
        self.connection.terminate()
        raise DeafError(f"no notification of its own reached the listening connection within {DEAF:g} s")

    async def keep_proving(self) -> None:
        """Prove again and again; ends only by raising."""
        while True:
            await trio.sleep(PROVE)
            await self.prove()

    async def _execute(self, statement: str, *values: object) -> None:
        async with self._lock:
            with trio.move_on_after(DEAF) as scope:
                await self.connection.execute(statement, *values)
        if scope.cancelled_caught:
            self.connection.terminate()
            raise DeafError(f"the listening connection did not answer within {DEAF:g} s")


@asynccontextmanager
async def open_listener(dsn: str, *channels: str) -> AsyncIterator[Listener]:
    """Listen to channels while the context lasts, on a connection that has proved itself and goes on doing
    so.

    Raises what the driver raises when connecting, and in the block too when the connection is lost;
    `DeafError` when it is there and does not hear, `PooledError` when it cannot.
    """
    reached = await reach(dsn, name=NAME, settings=SETTINGS)
    connection = reached.connection
    try:
        if reached.pooled:
            raise PooledError(
                "LISTEN does not work through a transaction pooler: "
                "set HOTPATH_LISTEN_URL to the server's own address"
            )
        own = f"hotpath_proof_{secrets.token_hex(8)}"
        async with connection.listen(*channels) as notifications, connection.listen(own) as proofs:
            listener = Listener(connection, notifications, proofs)
            await listener.prove()
            async with _one_error(), trio.open_nursery() as nursery:
                nursery.start_soon(listener.keep_proving)
                yield listener
                nursery.cancel_scope.cancel(reason="the listening is over")
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await connection.close()


@asynccontextmanager
async def _one_error() -> AsyncIterator[None]:
    """Raise the first of a nursery's errors by itself: callers know none of our tasks."""
    try:
        yield
    except BaseExceptionGroup as group:
        await trio.lowlevel.checkpoint_if_cancelled()  # then that is all there is to say
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
