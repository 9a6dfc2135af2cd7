"""What happens on a server, as it happens: `/ws` of `hotpath serve`, as docs/live.md has it.

    async with open_remote("http://127.0.0.1:8765") as remote:
        async with remote.subscribe("log", job=job_id) as events:
            async for event in events:
                ...

A connection that is lost is made again, each subscription from where it was: what comes is whole, in order.
"""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import attrs
import msgspec
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError, WebSocketConnection
from trio_websocket import wrap_client_stream as wrap

from hotpath.errors import ServerError, UnknownJobError, UsageError

CONNECT_SECONDS = 10.0
PING_SECONDS = 20.0
"""Seconds between two questions whether the server is there."""
SILENT_SECONDS = 45.0
"""A server that says nothing for so long, no answer either, is gone."""
FIRST_PAUSE = 0.25
LAST_PAUSE = 10.0
"""Seconds between two tries to connect again: the first, and the longest."""
MAX_FRAME = 64 << 20
BUFFER = 64
"""Events of a subscription that wait to be taken; then the connection is not read from."""

Channel = Literal["log", "run", "job", "overview", "top"]


@attrs.define(eq=False)
class Subscription:
    """What somebody has asked for; iterate to get its events, to the end of what there is."""

    channel: Channel
    job: UUID | None
    after: Any
    """The last that was got: what to go on after."""
    _send: trio.MemorySendChannel[dict[str, Any]]
    _receive: trio.MemoryReceiveChannel[dict[str, Any]]
    _failure: Exception | None = None

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next event. Raises what the server refuses by: `UnknownJobError`, `ServerError`."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._failure is not None:
                raise self._failure from None
            raise StopAsyncIteration from None

    def request(self, id: int) -> str:
        """The message that asks for it from where it is."""
        asked: dict[str, Any] = {"op": "subscribe", "id": id, "channel": self.channel}
        if self.job is not None:
            asked["job"] = str(self.job)
        if self.after is not None:
            asked["after"] = self.after
        return msgspec.json.encode(asked).decode()

    async def take(self, event: dict[str, Any]) -> bool:
        """Hand an event on; False when it was the last."""
        match event["type"]:
            case "error":
                said = f"{event['title']}: {event['detail']}"
                self.fail(UnknownJobError(event["detail"]) if event["status"] == 404 else ServerError(said))
                return False
            case "log" | "gap":
                self.after = [event["attempt"], event["end"]]
            case "run":
                self.after = event["seq"]
        await self._send.send(event)
        if event["type"] == "end":
            self._send.close()
            return False
        return True

    def fail(self, error: Exception) -> None:
        """Have whoever iterates get this."""
        self._failure = error
        self._send.close()


class Remote:
    """Made by `open_remote`."""

    def __init__(self, address: _Address) -> None:
        self._address = address
        self._subscriptions: dict[int, Subscription] = {}
        self._serial = 0
        self._socket: WebSocketConnection | None = None
        self._failure: Exception | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the server is connected now."""
        return self._socket is not None

    @asynccontextmanager
    async def subscribe(
        self, channel: Channel, *, job: UUID | None = None, after: Any = None
    ) -> AsyncIterator[Subscription]:
        """Events of a channel while the context lasts: `overview`, `top`; of a `job` its `job`, `log` or, if
        it is a flow's, `run`. `after`: the last that was seen: (attempt, position) of a log, `seq` of a run.
        """
        send, receive = trio.open_memory_channel[dict[str, Any]](BUFFER)
        subscription = Subscription(channel, job, after, send, receive)
        self._serial += 1
        id = self._serial
        self._subscriptions[id] = subscription
        if self._failure is not None:
            subscription.fail(self._failure)
        try:
            with receive:
                await self._say(subscription.request(id))
                yield subscription
        finally:
            if self._subscriptions.pop(id, None) is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await self._say(f'{{"op":"unsubscribe","id":{id}}}')

    async def keep(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Stay connected; the first connection has to succeed. Raises `ServerError`."""
        pause = FIRST_PAUSE
        is_first = True
        while True:
            try:
                async with _connected(self._address) as socket:
                    self._socket = socket
                    if is_first:
                        task_status.started()
                    is_first = False
                    for id, subscription in self._subscriptions.items():
                        await socket.send_message(subscription.request(id))
                    pause = FIRST_PAUSE
                    await self._read(socket)
            except ServerError as error:
                if is_first:
                    raise
                if error.is_final:
                    self._fail(error)
                    return
            finally:
                self._socket = None
            await trio.sleep(pause * random.uniform(0.7, 1.3))
            pause = min(pause * 2, LAST_PAUSE)

    async def _read(self, socket: WebSocketConnection) -> None:
        """Hand on what comes until the connection is lost."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ask_whether_there, socket)
                while True:
                    with trio.move_on_after(SILENT_SECONDS) as scope:
                        message = await socket.get_message()
                    if scope.cancelled_caught:
                        break
                    for event in self._events(message):
                        await self._take(event)
                nursery.cancel_scope.cancel(reason="the server is silent")
        except* ConnectionClosed:
            pass

    def _events(self, message: str | bytes) -> list[dict[str, Any]]:
        """The events of a frame. Raises `ServerError` for one that is none."""
        try:
            return msgspec.json.decode(message, type=_Frame).events
        except msgspec.DecodeError:
            said = f"what answers at {self._address.url} is no server of Hotpath, or of another version"
            raise ServerError(said, is_final=True) from None

    async def _take(self, event: dict[str, Any]) -> None:
        id = event.get("id", -1)
        subscription = self._subscriptions.get(id)
        if subscription is None:
            return
        if event["type"] == "resync":
            await self._say(subscription.request(id))
            return
        try:
            if not await subscription.take(event):
                self._subscriptions.pop(id, None)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # nobody listens: it is being unsubscribed

    async def _say(self, message: str) -> None:
        if self._socket is not None:
            try:
                await self._socket.send_message(message)
            except ConnectionClosed:
                pass  # said again when there is a connection

    def _fail(self, error: ServerError) -> None:
        self._failure = error
        for subscription in self._subscriptions.values():
            subscription.fail(error)


class _Frame(msgspec.Struct):
    """What a server sends."""

    events: list[dict[str, Any]]


async def _ask_whether_there(socket: WebSocketConnection) -> None:
    while True:
        await trio.sleep(PING_SECONDS)
        await socket.send_message('{"op":"ping"}')


@attrs.frozen
class _Address:
    """Where a server is."""

    url: str
    host: str
    port: int
    is_secure: bool
    path: str
    token: str | None = attrs.field(repr=False)


def _address(url: str, token: str | None) -> _Address:
    """Raises `UsageError` for a URL that no server can have."""
    shape = "expected http://host:port or https://host"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"the server's URL {url!r} cannot be read; {shape}") from None
    secure = {"http": False, "ws": False, "https": True, "wss": True}.get(parts.scheme)
    if secure is None or not parts.hostname:
        raise UsageError(f"the server's URL {url!r} is none; {shape}")
    token = (token or "").strip() or None
    if token is not None and not (token.isascii() and token.isprintable()):
        raise UsageError("the API token (HOTPATH_TOKEN) has characters that no token has: copy it anew")
    return _Address(
        url=f"{parts.scheme}://{parts.hostname}" + ("" if port is None else f":{port}"),
        host=parts.hostname,
        port=port or (443 if secure else 80),
        is_secure=secure,
        path=parts.path.rstrip("/").removesuffix("/ws") + "/ws",
        token=token,
    )


@asynccontextmanager
async def _connected(address: _Address) -> AsyncIterator[WebSocketConnection]:
    """A connection while the context lasts. Raises `ServerError`."""
    stream: Any = None
    failure: ServerError | None = None  # raised below: Python before 3.11.4 makes a group of it in `except*`
    try:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(CONNECT_SECONDS) as scope:
                stream = await _stream(address)
                host = f"[{address.host}]" if ":" in address.host else address.host
                headers = []
                if address.token:
                    headers = [(b"authorization", b"Bearer " + address.token.encode())]
                socket = await wrap(
                    nursery,
                    stream,
                    f"{host}:{address.port}",
                    address.path,
                    extra_headers=headers,
                    max_message_size=MAX_FRAME,
                    receive_buffer_size=1 << 16,
                )
            if scope.cancelled_caught:
                raise ServerError(
                    f"the server at {address.url} did not answer within {CONNECT_SECONDS:.0f} s"
                )
            yield socket
            nursery.cancel_scope.cancel(reason="the connection is over")
    except* (OSError, HandshakeError, ConnectionClosed, trio.BrokenResourceError) as group:
        failure = _refused(address, group)
    except* ServerError as group:
        failure = _first(group)
    finally:
        if stream is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await trio.aclose_forcefully(stream)
    if failure is not None:
        raise failure


async def _stream(address: _Address) -> Any:
    stream = await trio.open_tcp_stream(address.host, address.port)
    if not address.is_secure:
        return stream
    secure = trio.SSLStream(
        stream, ssl.create_default_context(), server_hostname=address.host, https_compatible=True
    )
    try:
        await secure.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


def _refused(address: _Address, group: BaseExceptionGroup[Exception]) -> ServerError:
    error = _first(group)
    match error:
        case ConnectionRejected(status_code=401):
            how = "it was not taken: it may have expired" if address.token else "set HOTPATH_TOKEN"
            return ServerError(f"the server at {address.url} wants a token ({how})", is_final=True)
        case ConnectionRejected(status_code=status):
            return ServerError(
                f"the server at {address.url} refuses this with status {status}", is_final=status == 403
            )
        case ssl.SSLError():
            return ServerError(
                f"the server at {address.url} cannot be reached by TLS: {error}", is_final=True
            )
    reason = _first(error.__cause__ or error)  # Trio says which address failed, its cause says how
    if isinstance(reason, OSError) and reason.errno and reason.errno > 0:
        reason = os.strerror(reason.errno)
    said = str(reason or type(error).__name__).splitlines()[0]
    return ServerError(f"no server of Hotpath at {address.url} ({said}): start one with `hotpath serve`")


def _first(group: BaseException) -> Any:
    error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def open_remote(url: str, token: str | None = None) -> AsyncIterator[Remote]:
    """Connect to a server, and stay connected while the context lasts.

    `url`: as `hotpath serve` prints it. `token`: an API token, where the server asks for one. Raises
    `UsageError` for a URL that is none, and `ServerError` when there is no server or it does not let us in.
    """
    remote = Remote(_address(url, token))
    raised: Exception | None = None
    failure: ServerError | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(remote.keep)
            try:
                yield remote
            except Exception as error:  # noqa: BLE001 - raised again below, as itself and not in a group
                raised = error
            nursery.cancel_scope.cancel(reason="the remote is closed")
    except* ServerError as group:
        failure = _first(group)
    if failure is not None:
        raise failure
    if raised is not None:
        raise raised
