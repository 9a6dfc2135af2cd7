"""One socket, and the task that waits on it: what asyncpg's protocol takes for its loop and its transport.

There is no reader task. The task that awaits an answer moves the bytes itself: it waits until the socket is
readable, receives, feeds the protocol, and looks whether its answer is there. A write is tried at once, so
that the usual query costs one ``send``, one wait and one ``recv``. What does not fit in the socket's buffer
is kept, and sent while answers are read, so that two peers that both write cannot block each other for
ever.

A wire is *busy* while an operation is under way. Only while it is not busy may a listener wait on the socket
(``wait_traffic``); an operation that begins takes the socket from it and gives it back at its end.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import wait_readable, wait_writable

from ._farewell import has_more, read_farewell

if TYPE_CHECKING:
    from asyncpg.protocol.protocol import Protocol

    from ._tls import TlsSession

# One read; bigger ones were no faster for big results and slower for small ones.
RECEIVE_BYTES = 65_536
# Bytes kept for a peer that reads slowly before bulk operations are held (and below which they go on).
WRITE_HIGH_WATER = 262_144
WRITE_LOW_WATER = 65_536


class InterruptedTransfer(TimeoutError):
    """Tells the protocol, in a form it handles, that the task was cancelled amid a bulk transfer."""


class AnsweredEarly(BaseException):
    """Ends a bulk transfer whose answer is there already; passes by what the protocol does for errors."""


class Waiter:
    """The future of one answer: awaiting it does the reading."""

    __slots__ = ("_done", "_exception", "_result", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._done = False
        self._result: Any = None
        self._exception: BaseException | None = None

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return False

    def cancel(self, *_: object) -> bool:
        return False

    def add_done_callback(self, callback: object, **_: object) -> None:
        """Callbacks serve asyncio's cancellation, which does not exist here."""

    def exception(self) -> BaseException | None:
        return self._exception

    def result(self) -> Any:
        if self._exception is not None:
            raise self._exception
        return self._result

    def set_result(self, result: Any) -> None:
        self._result = result
        self._done = True

    def set_exception(self, exception: BaseException) -> None:
        self._exception = exception
        self._done = True

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._done:
            wire = self._wire
            try:
                while not self._done:
                    if wire.unsent:
                        yield from wire.wait_either().__await__()
                    else:
                        yield from wait_readable(wire.fd).__await__()  # noqa: ASYNC105 - awaited
                    wire.receive()
            except trio.Cancelled:
                if not self._done:
                    yield from wire.interrupt(self).__await__()
                raise
            except trio.ClosedResourceError:
                # Another task closed the wire; the protocol has then completed this waiter with the reason.
                if not self._done:
                    raise
            except BaseException:
                wire.abort()
                raise
        if self._exception is not None:
            raise self._exception
        return self._result


class WriteGate:
    """Stands in for the event by which the protocol's bulk writers wait until the peer has taken enough."""

    __slots__ = ("_open", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._open = True

    def set(self) -> None:
        self._open = True

    def clear(self) -> None:
        self._open = False

    def is_set(self) -> bool:
        return self._open

    async def wait(self) -> bool:
        """Send (and read what comes back meanwhile) until below the low-water mark."""
        wire = self._wire
        try:
            await trio.lowlevel.checkpoint()
            wire.receive()  # a refusal, or the end of the connection, shows only here
            while not self._open and not wire.lost and not wire.latest.done():
                await wire.step()
        except trio.Cancelled as cancelled:
            if not wire.latest.done():
                # The scope stays cancelled, so the protocol's next wait raises Cancelled again, after it
                # has told the server that the transfer is over.
                raise InterruptedTransfer from cancelled
        if wire.lost or wire.latest.done():
            raise AnsweredEarly  # the server has refused, or gone: sending more would be in vain
        return True


class Wire:
    """A connected, non-blocking socket with its unsent bytes; see the module's text."""

    def __init__(self, sock: socket.socket, tls: TlsSession | None = None) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.tls = tls
        self.protocol: Protocol[Any] | None = None
        self.unsent = bytearray()
        self.lost = False  # no more bytes can come or go
        self.busy = False  # an operation is under way
        self.copying_out = False  # and it is a COPY that sends us data
        self.lingering = False  # abort() leaves the socket open, so that the server can be seen to close it
        self.idle_scope: trio.CancelScope | None = None  # of the listener that waits on the socket
        self.idlers = trio.lowlevel.ParkingLot()  # listeners that wait for the end of `busy`
        self.on_interrupt: Callable[[Waiter], Any] | None = None
        self.latest = Waiter(self)  # of the operation under way
        self.bytes_sent = self.bytes_received = 0
        self._paused = False
        self._send_error: OSError | None = None
        self.lost_error: Exception | None = None  # what the system or TLS said when the peer was lost

    def attach(self, protocol: Protocol[Any]) -> None:
        """Make ``protocol`` the one that is fed, and hold its bulk writers by this wire's measure."""
        self.protocol = protocol
        protocol.writing_allowed = WriteGate(self)  # type: ignore[attr-defined]

    # What the protocol asks of a loop.

    def create_future(self) -> Waiter:
        self.latest = waiter = Waiter(self)
        return waiter

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self.lost

    def time(self) -> float:
        return time.monotonic()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise RuntimeError(context.get("message", "asyncpg reported an error in its protocol"))

    # What the protocol asks of a transport.

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self.sock, "ssl_object": self.tls}.get(name)

    def pause_reading(self) -> None:
        """Nothing to do: nobody reads while nobody awaits."""

    resume_reading = pause_reading

    def write(self, data: Any) -> None:
        if self.tls is not None:
            data = self.tls.encrypt(data)
        self.bytes_sent += len(data)
        if not self.unsent:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                # What the server said before it went may still be readable: the next read reports the end.
                self._send_error = error
                return
            if sent == len(data):
                return
            data = data[sent:]
        elif self._send_error is not None:
            return
        self.unsent += data
        if len(self.unsent) > WRITE_HIGH_WATER and not self._paused and self.protocol is not None:
            self._paused = True
            self.protocol.pause_writing()

    def writelines(self, buffers: Iterable[Any]) -> None:
        self.write(b"".join(buffers))

    def abort(self) -> None:
        """Close the socket now; wakes whoever waits on it."""
        if self.lingering:
            return
        self.lost = True
        self.unsent.clear()
        if self.sock.fileno() >= 0:
            try:
                trio.lowlevel.notify_closing(self.sock)
            except RuntimeError:
                pass  # closed by a finaliser outside of Trio: nobody waits
            self.sock.close()
        if self.idlers:
            self.idlers.unpark_all()

    close = abort

    # What moves the bytes.

    def flush(self) -> None:
        """Send what the socket takes without waiting."""
        if self._send_error is not None:
            self.unsent.clear()
        elif self.unsent:
            try:
                del self.unsent[: self.sock.send(self.unsent)]
            except BlockingIOError:
                pass
            except OSError as error:
                self._send_error = error
                self.unsent.clear()
        if self._paused and len(self.unsent) <= WRITE_LOW_WATER and self.protocol is not None:
            self._paused = False
            self.protocol.resume_writing()

    def receive(self) -> bool:
        """Read what is there and feed the protocol; never waits. True when there was something."""
        if self.lost:
            return False
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            self._lose(error)
            return False
        if not data:
            self._lose(self._send_error)
            return False
        self.bytes_received += len(data)
        if self.tls is not None:
            self._receive_tls(data)
        else:
            self._feed(data)
        return True

    def _feed(self, data: bytes) -> None:
        if self.protocol is None:
            return
        self.protocol.data_received(data)
        if self.on_interrupt is None or self.copying_out:
            return  # while connecting an error is an answer; and copied data may look like anything
        if self.busy and not (self.latest._done and has_more(data)):
            return
        if (farewell := read_farewell(data, idle=not self.busy)) is not None:
            self._lose(farewell)

    def _receive_tls(self, data: bytes) -> None:
        assert self.tls is not None
        try:
            plain, ended = self.tls.decrypt(data)
        except OSError as error:  # ssl.SSLError is one: a damaged or forged record
            self._lose(error)
            return
        if plain:
            self._feed(plain)
        answer = self.tls.take_outgoing()
        if answer:  # TLS itself answers: key updates, alerts
            self.unsent += answer
            self.flush()
        if ended:
            self._lose(self._send_error)

    def _lose(self, error: Exception | None) -> None:
        """The peer is gone: tell the protocol, which tells whoever waits."""
        if self.lost:
            return
        self.lost_error = error
        self.lingering = False
        self.abort()
        if self.protocol is not None:
            self.protocol.connection_lost(error)

    async def wait_either(self) -> None:
        """Wait until the socket can be read or written, then send what it takes."""

        async def wait_one(wait: Callable[[int], Any]) -> None:
            try:
                await wait(self.fd)
            except trio.ClosedResourceError:
                pass
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_one, wait_writable)
                nursery.start_soon(wait_one, wait_readable)
        except BaseExceptionGroup:
            # Cancelled from outside, in several tasks: say so with the one plain Cancelled of this task.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise
        if not self.lost:
            self.flush()

    async def step(self) -> None:
        """Wait once for the socket and move what can be moved."""
        if self.lost:
            return
        if self.unsent:
            await self.wait_either()
        else:
            try:
                await wait_readable(self.fd)
            except trio.ClosedResourceError:
                return
        self.receive()

    async def interrupt(self, waiter: Waiter) -> None:
        """The awaiting task was cancelled: have the operation ended, so that the wire is usable or closed."""
        if self.on_interrupt is None:
            self.abort()  # not yet a session: nothing worth saving
        else:
            await self.on_interrupt(waiter)

    # Turns on the socket: operations first, listeners between them.

    def take(self) -> None:
        """Begin an operation: the socket is its task's until ``release``."""
        self.busy = True
        if self.idle_scope is not None:
            self.idle_scope.cancel()

    def release(self) -> None:
        """End an operation."""
        self.busy = False
        if self.idlers:
            self.idlers.unpark_all()

    async def wait_traffic(self) -> None:
        """Wait until something may have come for a listener: read it, or wait for whoever is reading.

        Returns early and for no reason at times: the caller looks and calls again.
        """
        if self.busy or self.idle_scope is not None:
            await self.idlers.park()
            return
        with trio.CancelScope() as self.idle_scope:
            try:
                if self.unsent:
                    await self.wait_either()
                else:
                    await wait_readable(self.fd)
                # Between the wake-up and now an operation may have begun: then the bytes are its to read,
                # or it would wait for what was already taken.
                if not self.busy:
                    self.receive()
            except trio.ClosedResourceError:
                pass
            finally:
                self.idle_scope = None
                if self.idlers:
                    self.idlers.unpark_all()
