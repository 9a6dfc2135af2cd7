"""How a cancelled task leaves its connection: usable, or closed, never half.

PostgreSQL has no message that stops a query on its own connection. A second connection carries a
CancelRequest with the session's process id and secret; the server signals the backend and closes that
second connection. Only then is the signal delivered, and only after that may the next query be sent, or it
could be the one that is hit. The first connection then reports the end of the operation: an error if the
signal came in time, else the result, since a statement that had already finished cannot be undone. All this
is shielded, and bounded by CANCEL_GRACE.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

import trio

from ._tls import open_tls, request_tls

if TYPE_CHECKING:
    from ._session import Session
    from ._wire import Waiter

# Seconds that a cancelled operation may take to end before its connection is closed instead, unless the
# connection has a `cancel_grace` of its own.
CANCEL_GRACE = 5.0

_CANCEL_CODE = 80_877_102


async def interrupt_operation(session: Session, waiter: Waiter) -> None:
    """End the operation that ``waiter`` stands for; when it does not end in time, close the connection."""
    if session.wire.copying_out:
        # This waiter is for the next chunk only; have the protocol discard all of them up to the end.
        waiter = session.abandon_copy_out()
    else:
        session.wire.receive()  # the answer may be there already: then nothing needs to be stopped
        if waiter.done():
            return
    await drain_operation(session, waiter)


async def drain_operation(session: Session, waiter: Waiter) -> None:
    """Ask the server to stop and read until ``waiter`` is done, shielded, or close the connection."""
    wire = session.wire
    grace = session.options.cancel_grace
    with trio.CancelScope(
        shield=True, deadline=trio.current_time() + (CANCEL_GRACE if grace is None else grace)
    ):
        session.cancels_sent += 1
        try:
            await send_cancel_request(session)
        except OSError:
            # The server cannot be reached a second time; the operation may still end by itself.
            pass
        while not waiter.done() and not wire.lost:
            await wire.step()
    if not waiter.done():
        session.terminate()


async def send_cancel_request(session: Session) -> None:
    """Send a CancelRequest and wait until the server has acted on it, which it shows by closing.

    Raises OSError when the server cannot be reached. Goes over TLS when the session does.
    """
    address = session.address
    family = socket.AF_UNIX if isinstance(address, str) else session.wire.sock.family
    with trio.socket.socket(family, socket.SOCK_STREAM) as stream:
        await stream.connect(address)
        request = struct.pack("!iiii", 16, _CANCEL_CODE, session.backend_pid, session.backend_secret)
        tls = session.wire.tls
        if tls is not None:
            request = await _encrypt_request(session, stream, request)
        await stream.send(request)
        try:
            while await stream.recv(4096):
                pass
        except ConnectionResetError:
            pass  # some servers and poolers reset instead of closing


async def _encrypt_request(session: Session, stream: Any, request: bytes) -> bytes:
    params = session.params
    if params.ssl_negotiation.value != "direct" and not await request_tls(stream):
        raise ConnectionError("the server offered TLS for the session but not for its cancellation")
    tls = await open_tls(stream, params.ssl, session.host_name)
    return tls.encrypt(request)
