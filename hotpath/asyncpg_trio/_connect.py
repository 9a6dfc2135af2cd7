"""From options to a session: addresses in turn, TLS as ``sslmode`` says, then the host's role."""

from __future__ import annotations

import inspect
import random
import socket
from typing import Any

import asyncpg
import trio
from asyncpg.connect_utils import SessionAttribute, SSLMode, SSLNegotiation
from asyncpg.exceptions import (
    CannotConnectNowError,
    InvalidAuthorizationSpecificationError,
    InvalidPasswordError,
    PostgresError,
    TargetServerAttributeNotMatched,
)
from asyncpg.protocol.protocol import Protocol

from ._options import ConnectOptions, SocketOptions
from ._session import Session
from ._tls import TlsSession, open_tls, request_tls
from ._wire import Wire

Address = str | tuple[str, int]


class _OtherTransport(Exception):
    """The server refused this transport without looking at who asked; the other one may do."""


async def open_session(options: ConnectOptions, record_class: type[Any] = asyncpg.Record) -> Session:
    """Connect to the first address that answers and has the wanted role; see ``connect`` for the errors."""
    wanted = SessionAttribute(options.params.target_session_attrs)
    params = await _with_password(options.params)
    unwanted: list[Session] = []
    chosen: Session | None = None
    failures: list[tuple[Address, Exception]] = []
    try:
        for address in options.addresses:
            try:
                session = await _open_address(address, options, params, record_class)
                unwanted.append(session)
                if await _has_role(session, wanted):
                    chosen = session
                    break
            except (OSError, CannotConnectNowError, asyncpg.ConnectionDoesNotExistError) as error:
                failures.append((address, error))
        else:
            if wanted is SessionAttribute.prefer_standby and unwanted:
                chosen = random.choice(unwanted)
    finally:
        for session in unwanted:
            if session is not chosen:
                session.terminate()
    if chosen is not None:
        return chosen
    if unwanted:
        raise TargetServerAttributeNotMatched(f"none of the hosts is {wanted.value}")
    address, failure = failures[-1]
    for earlier_address, earlier in failures[:-1]:
        failure.add_note(f"tried before: {_name(earlier_address)}: {earlier}")
    failure.add_note(f"while connecting to {_name(address)}")
    raise failure


def _name(address: Address) -> str:
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


async def _with_password(params: Any) -> Any:
    """Call a password that is a function, so that it is asked once for each connection."""
    password = params.password
    if callable(password):
        password = password()
        if inspect.isawaitable(password):
            password = await password
    return params._replace(password=password)


async def _open_address(
    address: Address, options: ConnectOptions, params: Any, record_class: type[Any]
) -> Session:
    limit = options.connect_timeout
    with trio.CancelScope(deadline=trio.current_time() + limit if limit else float("inf")) as scope:
        return await _try_transports(address, options, params, record_class)
    assert scope.cancelled_caught
    raise TimeoutError(f"no connection to {_name(address)} within {limit} s (connect_timeout)")


async def _try_transports(
    address: Address, options: ConnectOptions, params: Any, record_class: type[Any]
) -> Session:
    """Make the attempts that ``sslmode`` prescribes: allow is plain then TLS, prefer is TLS then plain."""
    if isinstance(address, str) or params.sslmode is SSLMode.disable:
        attempts = [params._replace(ssl=None)]
    elif params.sslmode is SSLMode.allow:
        attempts = [params._replace(ssl=None), params]
    elif params.sslmode is SSLMode.prefer:
        attempts = [params, params._replace(ssl=None)]
    else:
        attempts = [params]
    refusal: BaseException | None = None
    for number, attempt in enumerate(attempts, 1):
        try:
            return await _open_transport(
                address, options, attempt, record_class, last=number == len(attempts)
            )
        except _OtherTransport as signal:
            refusal = signal.__cause__
        except InvalidPasswordError:
            raise
        except (InvalidAuthorizationSpecificationError, asyncpg.ConnectionDoesNotExistError) as error:
            # A wrong password says more than "no entry for this transport".
            if isinstance(refusal, InvalidPasswordError):
                raise refusal from error
            raise
    raise AssertionError("the last attempt either connects or raises")


async def _open_transport(
    address: Address, options: ConnectOptions, params: Any, record_class: type[Any], *, last: bool
) -> Session:
    stream, tls = await _open_stream(address, options.sockets, params, last=last)
    sock = socket.socket(fileno=stream.detach())
    sock.setblocking(False)
    wire = Wire(sock, tls)
    try:
        peer = address if isinstance(address, str) else sock.getpeername()
        connected = wire.create_future()
        protocol = Protocol(address, connected, params, record_class, wire)
        wire.attach(protocol)
        protocol.connection_made(wire)
        if tls is not None:
            protocol.is_ssl = True
        try:
            await connected
        except PostgresError as error:
            refused_unseen = not protocol._auth_received and not isinstance(error, CannotConnectNowError)
            if refused_unseen and not last:
                raise _OtherTransport from error
            raise
        host_name = None if isinstance(address, str) else address[0]
        return Session(protocol, wire, address=peer, host_name=host_name, options=options, params=params)
    except BaseException:
        wire.abort()
        raise


async def _open_stream(
    address: Address, sockets: SocketOptions, params: Any, *, last: bool
) -> tuple[trio.socket.SocketType, TlsSession | None]:
    """Connect, set the socket's options, and shake hands if ``params`` ask for TLS."""
    stream = await _connect_socket(address, sockets)
    tls: TlsSession | None = None
    try:
        if params.ssl and not isinstance(address, str):
            direct = params.ssl_negotiation is SSLNegotiation.direct
            if direct or await request_tls(stream):
                try:
                    tls = await open_tls(stream, params.ssl, address[0])
                except OSError as error:
                    if params.sslmode is SSLMode.prefer and not last:
                        raise _OtherTransport from error
                    raise
            elif params.sslmode is not SSLMode.prefer:
                raise ConnectionError(f"the server at {_name(address)} does not offer TLS")
    except BaseException:
        stream.close()
        raise
    return stream, tls


async def _connect_socket(address: Address, options: SocketOptions) -> trio.socket.SocketType:
    if isinstance(address, str):
        targets: list[tuple[int, Any]] = [(socket.AF_UNIX, address)]
    else:
        found = await trio.socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        targets = [(family, target) for family, _, _, _, target in found]
    failure: OSError | None = None
    for family, target in targets:
        stream = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            await stream.connect(target)
            if family != getattr(socket, "AF_UNIX", None):
                _set_options(stream, options)
            return stream
        except OSError as error:
            stream.close()
            failure = error
        except BaseException:
            stream.close()
            raise
    raise failure or OSError(f"no address for {_name(address)}")


def _set_options(stream: trio.socket.SocketType, options: SocketOptions) -> None:
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(options.keepalives))
    for name, value in (
        ("TCP_KEEPIDLE", options.keepalives_idle),
        ("TCP_KEEPINTVL", options.keepalives_interval),
        ("TCP_KEEPCNT", options.keepalives_count),
        ("TCP_USER_TIMEOUT", options.tcp_user_timeout),
    ):
        if value is not None and hasattr(socket, name):  # as libpq: where the system has it
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _has_role(session: Session, wanted: SessionAttribute) -> bool:
    """Whether the server is what ``target_session_attrs`` asks for; asked as libpq asks."""
    if wanted is SessionAttribute.any:
        return True
    settings = session.protocol.get_settings()
    if wanted in (SessionAttribute.read_write, SessionAttribute.read_only):
        read_only = getattr(settings, "default_transaction_read_only", None)
        if read_only is None:
            read_only = await session.fetch_setting("SHOW transaction_read_only")
        elif read_only == "off":
            read_only = await _in_recovery(session)
        return (read_only == "on") is (wanted is SessionAttribute.read_only)
    in_recovery = await _in_recovery(session) == "on"
    return in_recovery is (wanted is not SessionAttribute.primary)


async def _in_recovery(session: Session) -> str:
    reported = getattr(session.protocol.get_settings(), "in_hot_standby", None)
    if reported is not None:
        return str(reported)
    return await session.fetch_setting(
        "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'on' ELSE 'off' END"
    )
