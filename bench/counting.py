"""Counts what a program asks of the database: a proxy before the server that reads along."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import attrs
import trio

_CODES_BEFORE_START = (80877103, 80877104, 80877102)  # requests of TLS, of GSS encryption, of a cancellation


@attrs.define
class Count:
    """How often a program has waited for the server's answer."""

    url: str
    """The database's address, by way of the proxy."""
    asked: Counter[str] = attrs.field(factory=Counter)
    """Round trips, by the `application_name` of the session: simple queries, and the ends of extended ones
    (Sync).
    """

    def of(self, name: str) -> int:
        """Round trips of the sessions whose names begin so."""
        return sum(count for its, count in self.asked.items() if its.startswith(name))


@attrs.define
class _Reader:
    """The messages that a client sends, as far as they are counted."""

    count: Count
    _buffer: bytearray = attrs.field(factory=bytearray)
    _name: str | None = None

    def feed(self, data: bytes) -> None:
        """Some more bytes from the client."""
        self._buffer += data
        while True:
            head = 0 if self._name is None else 1
            if len(self._buffer) < head + 4:
                return
            length = int.from_bytes(self._buffer[head : head + 4]) + head
            if len(self._buffer) < length:
                return
            if self._name is not None:
                self.count.asked[self._name] += self._buffer[0] in b"QS"
            elif int.from_bytes(self._buffer[4:8]) not in _CODES_BEFORE_START:
                words = bytes(self._buffer[8:length]).split(b"\0")
                self._name = (
                    dict(zip(words[::2], words[1::2], strict=False)).get(b"application_name", b"").decode()
                )
            del self._buffer[:length]


@asynccontextmanager
async def counting(url: str) -> AsyncIterator[Count]:
    """A proxy before this database for as long as the block lasts."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    user = parts.username or query.get("user", ["postgres"])[0]
    password = f":{quote(parts.password)}" if parts.password else ""

    async def connect() -> Any:
        directory = query.get("host", [""])[0]
        if parts.hostname is None and directory.startswith("/"):
            return await trio.open_unix_socket(Path(directory) / f".s.PGSQL.{query.get('port', ['5432'])[0]}")
        return await trio.open_tcp_stream(parts.hostname or "localhost", parts.port or 5432)

    async with trio.open_nursery() as nursery:

        async def serve(client: trio.SocketStream) -> None:
            try:
                async with client, await connect() as server, trio.open_nursery() as pumps:
                    reader = _Reader(count)
                    pumps.start_soon(_pump, client, server, reader, pumps.cancel_scope)
                    pumps.start_soon(_pump, server, client, None, pumps.cancel_scope)
            except* OSError:
                pass

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        count = Count(f"postgresql://{user}{password}@127.0.0.1:{port}{parts.path}?sslmode=disable")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield count
        nursery.cancel_scope.cancel(reason="the counting is over")


async def _pump(source: Any, sink: Any, reader: _Reader | None, scope: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(1 << 16):
            if reader is not None:
                reader.feed(data)
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel(reason="one side has gone")
