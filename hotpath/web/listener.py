"""Listens, accepts connections, and ends them when the server stops."""

from __future__ import annotations

import errno
import logging
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.worker_context import WorkerContext
from starlette.types import ASGIApp

from hotpath.errors import HotpathError, UsageError
from hotpath.web.connection import Connection, Stream
from hotpath.web.options import ServeOptions

log = logging.getLogger("hotpath.web")

BACKLOG = 1024
MAX_HEAD = 32 << 10
"""Bytes of a request's head."""
MAX_MESSAGE = 16 << 10
"""Characters of one WebSocket message from a client."""
PING_SECONDS = 20.0
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
REFUSE_SECONDS = 0.2
"""How long one that is refused has to take that."""
_SPARE_FILES = 256  # descriptors for all that is no client's connection
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: text/plain\r\ncontent-length: 22\r\n\r\ntoo many connections.\n"
)


def open_sockets(options: ServeOptions) -> list[socket.socket]:
    """Sockets bound to all addresses of the host, of one port. Raises `HotpathError`, `UsageError` for a host
    that is none.
    """
    try:
        found = socket.getaddrinfo(
            options.host,
            options.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG,
        )
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"--host {options.host} is no address of this machine: {error}") from None
    sockets: list[socket.socket] = []
    port = options.port
    try:
        addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
        for number, (family, address) in enumerate(addresses, 1):
            try:
                sockets.append(_bind(family, (address[0], port, *address[2:]), alone=len(addresses) == 1))
            except OSError as error:
                # A name may mean ::1 where there is no IPv6; one address of it is enough.
                if error.errno not in _NOT_HERE or (not sockets and number == len(addresses)):
                    raise
                continue
            port = sockets[0].getsockname()[1]
    except OSError as error:
        for each in sockets:
            each.close()
        raise _say(error, options.host, port) from None
    return sockets


def _bind(family: int, address: Any, *, alone: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not alone)  # `::` alone: IPv4 too
        bound.bind(address)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _say(error: OSError, host: str, port: int) -> HotpathError:
    match error.errno:
        case errno.EADDRINUSE:
            return HotpathError(
                f"port {port} of {host} is in use: stop what listens there, or give another --port"
            )
        case errno.EACCES:
            return HotpathError(
                f"port {port} needs rights that this user does not have: give a --port above 1023"
            )
        case errno.EADDRNOTAVAIL:
            return UsageError(f"--host {host} is no address of this machine")
    return HotpathError(f"cannot listen on port {port} of {host}: {error.strerror or error}")


def tls_context(options: ServeOptions) -> ssl.SSLContext | None:
    """What TLS needs; None without it. Raises `UsageError` for files that are none."""
    if options.certfile is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(options.certfile, options.keyfile)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or getattr(error, "reason", None) or error
        raise UsageError(
            f"--certfile {options.certfile} with its --keyfile cannot be used: {reason}"
        ) from None
    return context


def settings() -> HypercornConfig:
    """Hypercorn's settings, as far as its protocols look at them."""
    config = HypercornConfig()
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD
    config.websocket_max_message_size = MAX_MESSAGE
    config.websocket_ping_interval = PING_SECONDS
    config.keep_alive_max_requests = 100_000
    config.errorlog = None  # what there is to say, we say
    return config


class Listener:
    """The connections of a server, at most so many at a time. One that comes then replaces the oldest that
    waits for a request; where none does, the oldest of an address that has more than half of them, if it is
    another one; else it is refused.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app = ASGIWrapper(cast("Any", app))
        self._config = settings()
        self._context = WorkerContext(None)
        self._most = _raise_limit(options.max_connections)
        self._connections: dict[Connection, str] = {}  # by age, with the address of each
        self._held: Counter[str] = Counter()
        self._all_gone = trio.Event()

    async def run(
        self,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
        stopping: trio.Event,
        grace: float,
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `stopping` is set and then, within `grace` seconds, requests have ended."""
        plain = [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]
        listeners: list[Any] = plain if tls is None else [
            trio.SSLListener(each, tls, https_compatible=True) for each in plain
        ]  # fmt: skip
        async with trio.open_nursery() as nursery:
            try:
                async with trio.open_nursery() as accepting:
                    accept = partial(trio.serve_listeners, self._serve, listeners, handler_nursery=nursery)
                    accepting.start_soon(accept)
                    task_status.started([_url(each, tls) for each in sockets])
                    await stopping.wait()
                    accepting.cancel_scope.cancel(reason="the server stops")
                await self._context.terminated.set()
                for connection in list(self._connections):
                    if connection.is_idle:
                        connection.abort()
                if self._connections:
                    with trio.move_on_after(grace):
                        await self._all_gone.wait()
            finally:
                for connection in list(self._connections):
                    connection.abort()
                nursery.cancel_scope.cancel(reason="the grace is over")

    async def _serve(self, stream: Stream) -> None:
        address = _peer(stream)
        if not self._make_room(address):
            await _refuse(stream)
            return
        connection = Connection(stream, self._config, self._context)
        self._connections[connection] = address
        self._held[address] += 1
        try:
            await connection.run(self._app)
        except* Exception:
            log.exception("a connection ended by a fault of the server's own")
        finally:
            self._forget(connection)
            if not self._connections and self._context.terminated.is_set():
                self._all_gone.set()

    def _make_room(self, address: str) -> bool:
        if len(self._connections) < self._most:
            return True
        waiting = next((each for each in self._connections if each.is_idle), None)
        if waiting is None:
            # Nobody alone may keep all others out.
            most = max(self._held, key=lambda each: self._held[each])
            if most == address or self._held[most] <= self._most // 2:
                return False
            waiting = next(each for each, whose in self._connections.items() if whose == most)
        waiting.abort()
        self._forget(waiting)  # it may take a moment to end; the next one that comes replaces another
        return True

    def _forget(self, connection: Connection) -> None:
        address = self._connections.pop(connection, None)
        if address is not None:
            self._held[address] -= 1
            if not self._held[address]:
                del self._held[address]


async def _refuse(stream: Stream) -> None:
    """Say that there are too many. What has come is read, or the system would take the answer back."""
    if isinstance(stream, trio.SocketStream):
        with trio.move_on_after(REFUSE_SECONDS):
            try:
                await stream.send_all(_FULL)
                await stream.send_eof()
                await stream.receive_some(MAX_HEAD)
            except (OSError, trio.BrokenResourceError):
                pass  # it has gone


def _peer(stream: Stream) -> str:
    """The address that it comes from; empty where it has gone."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    try:
        return str(transport.socket.getpeername()[0])
    except OSError:
        return ""


def _raise_limit(wanted: int) -> int:
    """Have the system allow that many connections, or as many as it does; return the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
        soft = max(soft, most)
    allowed = wanted if soft == resource.RLIM_INFINITY else min(wanted, max(soft - _SPARE_FILES, soft // 2))
    if allowed < wanted:
        log.warning("the system allows %d open files: at most %d connections", soft, allowed)
    return allowed


def _url(listening: socket.socket, tls: ssl.SSLContext | None) -> str:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if tls is None else 'https'}://{shown}:{port}"
