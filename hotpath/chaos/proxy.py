"""The network between one command and the database: a proxy that can stall, slow down, or break off.

For a private cluster it listens on a socket in a directory of this user's own, since that cluster asks for no
password; for a database of the user's, which does, on a port of this host.
"""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import attrs
import trio

from hotpath.errors import UsageError

CHUNK = 1 << 16


@attrs.frozen
class Upstream:
    """Where the database really is: a socket's path, or host and port."""

    url: str
    path: str | None
    host: str
    port: int

    async def connect(self) -> trio.abc.HalfCloseableStream:
        """A new connection to it."""
        if self.path is not None:
            return await trio.open_unix_socket(self.path)
        return await trio.open_tcp_stream(self.host, self.port)

    def elsewhere(self, host: str, port: int) -> str:
        """The same database by another address: a directory with a socket in it, or a host."""
        parts = urlsplit(self.url)
        login = parts.netloc.rpartition("@")[0]
        name = parts.path or "/"
        rest = [
            f"{key}={quote(value, safe='')}"
            for key, values in parse_qs(parts.query).items()
            if key not in ("host", "port", "user", "password")
            for value in values
        ]
        query = parse_qs(parts.query)
        if not login and "user" in query:
            login = quote(query["user"][0], safe="")
            if "password" in query:
                login += ":" + quote(query["password"][0], safe="")
        at = f"{login}@" if login else ""
        if host.startswith("/"):
            rest = [f"host={host}", f"port={port}", *rest]
            return f"postgresql://{at}{name}?{'&'.join(rest)}"
        return f"postgresql://{at}{host}:{port}{name}" + (f"?{'&'.join(rest)}" if rest else "")


def find_upstream(url: str) -> Upstream:
    """The one place that a database URL means. Raises UsageError for several, or for a certificate that has
    to carry the host's name.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    hosts = parts.netloc.rpartition("@")[2]
    host = query.get("host", [""])[0] or parts.hostname or "localhost"
    if "," in hosts or "," in host:
        raise UsageError("several hosts")
    if query.get("sslmode", [""])[0] == "verify-full":
        raise UsageError("sslmode=verify-full")
    port = int(query.get("port", [str(parts.port or 5432)])[0])
    path = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else None
    return Upstream(url, path, host, port)


@attrs.define(eq=False)
class Proxy:
    """One command's way to the database."""

    upstream: Upstream
    sockets: Path
    number: int
    url: str = ""
    """What the command is given as address of its database."""
    delay: float = 0.0
    """Seconds that each piece of data is held up."""
    _open: set[trio.abc.HalfCloseableStream] = attrs.field(factory=set)
    _flowing: trio.Event = attrs.field(factory=trio.Event)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Forward until cancelled."""
        self._flowing.set()
        listener = self._listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._forward, [listener])
            task_status.started()

    def _listen(self) -> trio.SocketListener:
        if self.upstream.path is not None:
            directory = self.sockets / str(self.number)
            directory.mkdir(mode=0o700, exist_ok=True)
            path = directory / ".s.PGSQL.5432"
            path.unlink(missing_ok=True)
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            plain.bind(str(path))
            self.url = self.upstream.elsewhere(str(directory), 5432)
        else:
            plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            plain.bind(("127.0.0.1", 0))
            self.url = self.upstream.elsewhere("127.0.0.1", plain.getsockname()[1])
        plain.listen(128)
        return trio.SocketListener(trio.socket.from_stdlib_socket(plain))

    def stall(self) -> None:
        """Forward nothing; nobody is told."""
        if self._flowing.is_set():
            self._flowing = trio.Event()

    def resume(self) -> None:
        """Forward again, without delay."""
        self._flowing.set()
        self.delay = 0.0

    async def reset(self) -> None:
        """Break off every connection."""
        for stream in list(self._open):
            await trio.aclose_forcefully(stream)

    async def _forward(self, near: trio.abc.HalfCloseableStream) -> None:
        await self._flowing.wait()  # a new connection is accepted by the kernel, and then nobody answers
        try:
            far = await self.upstream.connect()
        except OSError:
            await trio.aclose_forcefully(near)
            return
        pair = (near, far)
        self._open.update(pair)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, near, far, nursery.cancel_scope)
                nursery.start_soon(self._pump, far, near, nursery.cancel_scope)
        finally:
            self._open.difference_update(pair)
            for stream in pair:
                await trio.aclose_forcefully(stream)

    async def _pump(
        self, source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, both: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(CHUNK):
                await self._flowing.wait()
                if self.delay:
                    await trio.sleep(self.delay)
                await sink.send_all(data)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        both.cancel()  # PostgreSQL never closes one half only
