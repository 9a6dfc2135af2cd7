"""LISTEN as an asynchronous iterable with a bounded buffer that says what it lost."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio
from asyncpg.exceptions import ConnectionDoesNotExistError, InterfaceError, PostgresError

if TYPE_CHECKING:
    from ._connection import Connection
    from ._session import Session

# Notifications that wait for a slow iterator before the oldest are dropped.
DEFAULT_BUFFER = 1024
# Seconds that UNLISTEN may take when the context ends.
UNLISTEN_GRACE = 2.0
# PostgreSQL cuts longer names, silently; two that differ behind the cut would be one.
_MAX_CHANNEL_BYTES = 63


@attrs.frozen
class Notification:
    """One NOTIFY."""

    channel: str
    payload: str
    pid: int  # of the backend that sent it
    lost: int = 0  # how many before this one were dropped because the buffer was full


@attrs.frozen
class NotificationStatistics:
    """The state of one subscription."""

    buffered: int
    received: int
    lost: int


class Notifications:
    """The notifications of one ``Connection.listen``; iterate over it, in one task."""

    def __init__(self, session: Session, channels: Sequence[str], max_buffer: int) -> None:
        self.channels = tuple(dict.fromkeys(channels))
        self._session = session
        self._max_buffer = max_buffer
        self._buffer: deque[tuple[str, str, int]] = deque()
        self._lost_before = 0
        self._lost = 0
        self._received = 0
        self._open = True

    def _deliver(self, channel: str, payload: str, pid: int) -> None:
        self._received += 1
        if len(self._buffer) >= self._max_buffer:
            self._buffer.popleft()
            self._lost_before += 1
            self._lost += 1
        self._buffer.append((channel, payload, pid))

    def receive_nowait(self) -> Notification:
        """Return the next notification that has been read. Raises trio.WouldBlock when there is none."""
        if not self._buffer:
            raise trio.WouldBlock
        channel, payload, pid = self._buffer.popleft()
        lost, self._lost_before = self._lost_before, 0
        return Notification(channel, payload, pid, lost)

    async def receive(self) -> Notification:
        """Wait for the next notification.

        Raises asyncpg.ConnectionDoesNotExistError when the connection has gone, asyncpg.InterfaceError when
        the ``listen`` context has ended. If cancelled, nothing is lost.
        """
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if not self._open:
                raise InterfaceError("cannot receive: the listen() context has ended")
            if self._session.closed:
                lost = ConnectionDoesNotExistError("the connection was lost while listening")
                raise lost from self._session.wire.lost_error
            await self._session.wire.wait_traffic()
        return self.receive_nowait()

    def __aiter__(self) -> Notifications:
        return self

    async def __anext__(self) -> Notification:
        return await self.receive()

    def statistics(self) -> NotificationStatistics:
        """Return what this subscription has seen."""
        return NotificationStatistics(buffered=len(self._buffer), received=self._received, lost=self._lost)


@asynccontextmanager
async def open_subscription(
    connection: Connection, channels: Sequence[str], max_buffer: int
) -> AsyncIterator[Notifications]:
    """See ``Connection.listen``."""
    if not channels:
        raise ValueError("listen() needs at least one channel")
    if max_buffer < 1:
        raise ValueError("max_buffer must be at least 1")
    for channel in channels:
        if not 0 < len(channel.encode()) <= _MAX_CHANNEL_BYTES or "\0" in channel:
            raise ValueError(
                f"a channel name has 1 to {_MAX_CHANNEL_BYTES} bytes and no NUL, got {channel!r}"
            )
    session = connection._live()
    subscription = Notifications(session, channels, max_buffer)
    # Subscribed before LISTEN is sent: what arrives together with its answer is not lost.
    for channel in subscription.channels:
        session.subscribers.setdefault(channel, []).append(subscription)
    try:
        await connection.execute(";".join(f"LISTEN {_quote(channel)}" for channel in subscription.channels))
        yield subscription
    finally:
        subscription._open = False
        unused = _unsubscribe(session, subscription)
        if unused and not session.closed and not session.wire.busy and connection._session is session:
            command = ";".join(f"UNLISTEN {_quote(channel)}" for channel in unused)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + UNLISTEN_GRACE):
                try:
                    await connection.execute(command)
                except PostgresError:
                    pass  # in a failed transaction; nobody is subscribed, so what still comes is ignored
        if session.wire.idlers:
            session.wire.idlers.unpark_all()


def _unsubscribe(session: Session, subscription: Notifications) -> list[str]:
    """Take the subscription out; return the channels that nobody is subscribed to any more."""
    unused = []
    for channel in subscription.channels:
        remaining = [other for other in session.subscribers.get(channel, ()) if other is not subscription]
        if remaining:
            session.subscribers[channel] = remaining
        else:
            session.subscribers.pop(channel, None)
            unused.append(channel)
    return unused


def _quote(identifier: str) -> str:
    # LISTEN takes no parameters: the name is quoted as an identifier.
    return '"' + identifier.replace('"', '""') + '"'
