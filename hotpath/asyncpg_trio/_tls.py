"""TLS between the protocol and the socket: bytes in, bytes out, so that writes can still be tried at once."""

from __future__ import annotations

import ssl
from typing import Any

# SSLRequest: length and code, to which the server answers with one byte.
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_READ_BYTES = 65_536


class TlsSession:
    """One TLS client session over memory buffers."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    async def handshake(self, sock: Any) -> None:
        """Shake hands over a connected Trio socket.

        Raises ssl.SSLError when the peer or its certificate is refused, ConnectionError when it goes away.
        """
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                wants_read = True
            except ssl.SSLError:
                await _send_all(sock, self._outgoing.read())  # the alert that says why
                raise
            else:
                wants_read = False
            await _send_all(sock, self._outgoing.read())
            if not wants_read:
                return
            data = await sock.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("connection closed during the TLS handshake")
            self._incoming.write(data)

    def encrypt(self, data: Any) -> bytes:
        """Return the records that carry ``data``."""
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> tuple[bytes, bool]:
        """Return the plain bytes that ``data`` completes, and whether the peer has ended the session.

        Raises ssl.SSLError on a record that does not verify.
        """
        self._incoming.write(data)
        return self.drain()

    def drain(self) -> tuple[bytes, bool]:
        """Return the plain bytes at hand, as ``decrypt``."""
        parts: list[bytes] = []
        while True:
            try:
                part = self._object.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                return b"".join(parts), False
            except ssl.SSLZeroReturnError:
                return b"".join(parts), True
            if not part:
                return b"".join(parts), True
            parts.append(part)

    def take_outgoing(self) -> bytes:
        """Return what TLS itself has to send."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def cipher(self) -> tuple[str, str, int] | None:
        """Return name, protocol version and secret bits of the cipher in use."""
        return self._object.cipher()

    def version(self) -> str | None:
        """Return the version of TLS in use, e.g. ``TLSv1.3``."""
        return self._object.version()


async def _send_all(sock: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await sock.send(view) :]


async def request_tls(sock: Any) -> bool:
    """Ask a PostgreSQL server for TLS; True when it will, False when it declines.

    Raises ConnectionError when it answers anything else. What an unauthenticated peer says before TLS is not
    shown: anybody on the path could have written it.
    """
    await _send_all(sock, SSL_REQUEST)
    answer = await sock.recv(1)
    if answer == b"S":
        return True
    if answer == b"N":
        return False
    if not answer:
        raise ConnectionError("the server closed the connection when asked for TLS")
    raise ConnectionError("the server answered the request for TLS with an error; its log may say why")


async def open_tls(sock: Any, context: ssl.SSLContext, server_name: str | None) -> TlsSession:
    """Shake hands on ``sock`` and return the session."""
    session = TlsSession(context, server_name)
    await session.handshake(sock)
    return session
