"""WebSocket `/ws`: what happens, as it happens. The protocol is in docs/live.md.

A session has one task that reads, which never waits for the peer, and one that writes. The first to find that
it is over ends both: Hypercorn lets an application send to a peer that has gone for ever, so the writer must
not be left alone.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
import trio
from msgspec import Meta, Struct
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from hotpath.web.feeds import refusal
from hotpath.web.hub import Hub, Look
from hotpath.web.listener import MAX_MESSAGE
from hotpath.web.outbox import Outbox, Viewer
from hotpath.web.state import state_of

SUBSCRIPTIONS = 256
"""Subscriptions that one connection may have."""
BURST = 512
"""Messages that a client may send at once, and ..."""
PER_SECOND = 50
"""... how many a second it may go on with."""
GOING_AWAY = 1001
VIOLATION = 1008
TOO_LARGE = 1009
_CLOSE_SECONDS = 1.0

_Id = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
_Number = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
_Position = Annotated[list[_Number], Meta(min_length=2, max_length=2)]


class Subscribe(Struct, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    """Show me this."""

    id: _Id
    """By which its events are known; the client's choice."""
    channel: Literal["overview", "top", "job", "run", "log"]
    job: UUID | None = None
    after: _Number | _Position | None = None
    """Of a run: the last `seq` seen; of a log: the attempt and the position."""


class Unsubscribe(Struct, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True):
    """No more of this."""

    id: _Id


class Ping(Struct, tag_field="op", tag="ping", forbid_unknown_fields=True):
    """Are you there?"""


WHOLE = ("overview", "top")
"""Channels that are about no single job."""
_AFTER: dict[str, type] = {"run": int, "log": list}
_AFTER_TEXT = "a run goes on after a number (seq), a log after [attempt, position]"
_decode = msgspec.json.Decoder(Subscribe | Unsubscribe | Ping).decode


class _CloseError(Exception):
    """The connection is to be closed, for this reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Session:
    """One connection, from its acceptance to its end."""

    def __init__(self, websocket: WebSocket, hub: Hub) -> None:
        self._websocket = websocket
        self._hub = hub
        self._outbox = Outbox()
        self._viewers: dict[int, Viewer] = {}
        self._credit = float(BURST)
        self._credit_at = trio.current_time()

    async def run(self, stopping: trio.Event) -> None:
        """Serve it to its end, which may be the server's."""
        closing: _CloseError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(_wait_stop, stopping)
                await self._read()
                nursery.cancel_scope.cancel(reason="the client has gone")
        except* _CloseError as group:
            closing = _first(group)
        finally:
            for viewer in tuple(self._viewers.values()):
                self._outbox.forget(viewer)
        if closing is not None:
            await self._close(closing)

    async def _read(self) -> None:
        """Take messages until the client has gone. Never waits for anything else."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._spend()
            text = message.get("text")
            if text is None:
                self._complain("Bad message", "messages are text frames of JSON, not binary ones")
            elif len(text) > MAX_MESSAGE:
                raise _CloseError(TOO_LARGE, f"a message may have {MAX_MESSAGE:,} characters")
            else:
                self._take(text)

    def _take(self, text: str) -> None:
        try:
            message = _decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            self._complain("Bad message", str(error))
            return
        match message:
            case Subscribe():
                self._subscribe(message)
            case Unsubscribe():
                if viewer := self._viewers.get(message.id):
                    self._outbox.forget(viewer)
            case Ping():
                self._outbox.say('{"type":"pong"}')

    def _subscribe(self, message: Subscribe) -> None:
        if message.id in self._viewers:
            self._complain(
                "Bad subscription", f"id {message.id} is in use: unsubscribe first, or take another"
            )
            return
        viewer = Viewer(message.id, self._outbox, left=self._left)
        if len(self._viewers) >= SUBSCRIPTIONS:
            viewer.end(
                refusal(429, "Too many subscriptions", f"a connection may have {SUBSCRIPTIONS} at a time")
            )
        elif message.channel not in WHOLE and message.job is None:
            viewer.end(refusal(422, "Bad subscription", f"channel {message.channel} needs the field `job`"))
        elif message.after is not None and not isinstance(message.after, _AFTER.get(message.channel, ())):
            viewer.end(
                refusal(
                    422, "Bad subscription", f"channel {message.channel} has no such `after`: {_AFTER_TEXT}"
                )
            )
        else:
            self._viewers[message.id] = viewer
            self._hub.join(viewer, _look(message))

    def _left(self, viewer: Viewer) -> None:
        if self._viewers.get(viewer.id) is viewer:
            del self._viewers[viewer.id]
        self._hub.leave(viewer)

    def _complain(self, title: str, detail: str) -> None:
        self._outbox.say(f"{{{refusal(400, title, detail)}}}")

    def _spend(self) -> None:
        """Count a message; a client that sends too many has to go."""
        now = trio.current_time()
        self._credit = min(self._credit + (now - self._credit_at) * PER_SECOND, BURST) - 1
        self._credit_at = now
        if self._credit < 0:
            raise _CloseError(VIOLATION, f"more than {PER_SECOND} messages a second")

    async def _write(self) -> None:
        """Send frames while there is something to send."""
        pace = self._hub.pace
        due = 0.0
        while True:
            await self._outbox.wait()
            await trio.sleep_until(due)
            now = trio.current_time()
            pace.note(now - max(due, self._outbox.since))
            if frame := self._outbox.take():
                await self._websocket.send_text(frame)
                due = now + pace.seconds

    async def _close(self, closing: _CloseError) -> None:
        with trio.move_on_after(_CLOSE_SECONDS):
            await self._websocket.close(closing.code, closing.reason)


def _look(message: Subscribe) -> Look:
    after = message.after
    return Look(message.channel, message.job, tuple(after) if isinstance(after, list) else after)


async def _wait_stop(stopping: trio.Event) -> None:
    await stopping.wait()
    raise _CloseError(GOING_AWAY, "the server stops")


def _first(group: BaseExceptionGroup[_CloseError]) -> _CloseError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, _CloseError), "the group holds nothing else"
    return error


async def live(websocket: WebSocket) -> None:
    """Serve one WebSocket."""
    state = state_of(websocket)
    await websocket.accept()
    await Session(websocket, state.hub).run(state.stopping)


def routes() -> list[BaseRoute]:
    """The route of the WebSocket."""
    return [WebSocketRoute("/ws", live)]
