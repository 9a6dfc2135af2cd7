"""A dozen messages of PostgreSQL's protocol, synchronously, over a Unix socket without authentication.

The launcher has to know whether the server is ready, still recovering, or not there, whether a database
exists, and to create it. Programs like psql and createdb answer that too, each at the price of a process
(10–20 ms against 2 ms) and not in every set of binaries. This is not a driver: `hotpath.asyncpg_trio` is.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

_PROTOCOL_3 = 196608
_LENGTH = struct.Struct("!I")


class ServerRefused(Exception):
    """The server answered with an error; `sqlstate` is its five-character code."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Session:
    """One connection; use as a context manager. Raises `OSError` when nothing listens or the server goes
    away, `ServerRefused` when it answers with an error.
    """

    def __init__(self, path: Path, *, database: str, user: str, seconds: float) -> None:
        """Connect to the socket `path`; `seconds` bounds every single wait for the server."""
        self.server_version = ""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(str(path))
            parameters = (
                b"".join(part.encode() + b"\0" for part in ("user", user, "database", database)) + b"\0"
            )
            self._socket.sendall(_LENGTH.pack(8 + len(parameters)) + _LENGTH.pack(_PROTOCOL_3) + parameters)
            self._read_until_ready()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._socket.sendall(b"X\0\0\0\4")
        except OSError:
            pass  # it is gone already
        self._socket.close()

    def execute(self, statement: str) -> list[list[str | None]]:
        """Run one statement and return its rows as text."""
        body = statement.encode() + b"\0"
        self._socket.sendall(b"Q" + _LENGTH.pack(4 + len(body)) + body)
        return self._read_until_ready()

    def _read_until_ready(self) -> list[list[str | None]]:
        refused: ServerRefused | None = None
        rows: list[list[str | None]] = []
        while True:
            kind = self._read(1)
            body = self._read(_LENGTH.unpack(self._read(4))[0] - 4)
            if kind == b"E":
                fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
                refused = ServerRefused(fields.get(b"C", ""), fields.get(b"M", ""))
                if fields.get(b"V", fields.get(b"S")) == "FATAL":
                    raise refused
            elif kind == b"R" and body != b"\0\0\0\0":
                raise ServerRefused("28000", "the server asks for a password")
            elif kind == b"S":
                name, value, _ = body.split(b"\0")
                if name == b"server_version":
                    self.server_version = value.decode().split()[0]
            elif kind == b"D":
                rows.append(_columns(body))
            elif kind == b"Z":
                if refused is not None:
                    raise refused
                return rows

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the server closed the connection")
            data += part
        return data


def _columns(body: bytes) -> list[str | None]:
    values: list[str | None] = []
    at = 2
    while at < len(body):
        (size,) = struct.unpack_from("!i", body, at)
        at += 4
        values.append(None if size < 0 else body[at : at + size].decode())
        at += max(size, 0)
    return values


def quote_identifier(name: str) -> str:
    """Quote a name for the statements that take no parameters (CREATE DATABASE)."""
    return '"' + name.replace('"', '""') + '"'
