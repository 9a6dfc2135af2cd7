"""One authenticated session: the protocol, its statements and types. What a Connection or a pool holds.

A session knows nothing of the public API. A ``Connection`` is a handle on it; a pool gives out a new handle
each time, so that whatever outlives its turn (a statement, a cursor, the handle itself) is refused, not
misdirected.
"""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import trio
from asyncpg import introspection, serverversion
from asyncpg.exceptions import (
    InterfaceError,
    InternalClientError,
    InvalidCachedStatementError,
    OutdatedSchemaCacheError,
    PostgresError,
    PostgresLogMessage,
    UndefinedObjectError,
)
from asyncpg.protocol.protocol import BUILTIN_TYPE_NAME_MAP, NO_TIMEOUT, Protocol

from ._arrays import known_arrays
from ._cancel import interrupt_operation
from ._options import ConnectOptions
from ._statements import StatementCache
from ._wire import Waiter, Wire

if TYPE_CHECKING:
    from ._listen import Notifications

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)

# Seconds that close() lets the server take to end the session before the socket is closed anyway.
CLOSE_GRACE = 2.0
# Types may be dropped and made anew while they are looked up; more rounds than this is an error of ours.
_TYPE_ROUNDS = 5


def unique_name(prefix: str) -> str:
    """Return a name for a statement, portal or savepoint that no other has in this process."""
    return f"__apgtrio_{prefix}_{next(_numbers):x}__"


class Session:
    """See the module's text. Methods other than ``terminate`` expect their caller to hold ``operation``."""

    def __init__(
        self,
        protocol: Protocol[Any],
        wire: Wire,
        *,
        address: Any,
        host_name: str | None,
        options: ConnectOptions,
        params: Any,
    ) -> None:
        self.protocol = protocol
        self.wire = wire
        self.address = address  # of the peer that answered: a cancellation must go to that one
        self.host_name = host_name  # as the user gave it: what a certificate has to match
        self.options = options
        self.params = params
        self._config = options.config  # read by the protocol: its command_timeout, always None here
        self.record_class: type[Any] = protocol.get_record_class()
        self.backend_pid: int = protocol.backend_pid
        self.backend_secret: int = protocol.backend_secret
        self.server_version = serverversion.split_server_version_string(
            protocol.get_settings().server_version
        )
        self.cancels_sent = 0
        self.notifications_received = 0
        self.subscribers: dict[str, list[Notifications]] = {}
        self.log_listeners: list[Callable[[PostgresLogMessage], None]] = []
        # Sessions of one pool: a change of schema that one of them notices concerns all.
        self.family: weakref.WeakSet[Session] = weakref.WeakSet((self,))
        self.statements = StatementCache(
            options.config.statement_cache_size,
            options.config.max_cached_statement_lifetime,
            _forget_weakly(weakref.ref(self)),
        )
        self._unwanted: set[Any] = set()
        self._parsed_at = -1  # bytes that had been sent when a statement was last parsed
        self._cancel_waiter: Waiter | None = None
        old = self.server_version < (14, 0)
        self._type_query = introspection.INTRO_LOOKUP_TYPES_13 if old else introspection.INTRO_LOOKUP_TYPES
        protocol.set_connection(self)
        wire.on_interrupt = _interrupt_weakly(weakref.ref(self))

    def __del__(self) -> None:
        # The last reference is gone: nobody waits, so closing the socket is all there is to do.
        wire = getattr(self, "wire", None)
        if wire is not None and not wire.lost:
            wire.abort()

    # State.

    @property
    def closed(self) -> bool:
        return self.wire.lost or not self.protocol.is_connected()

    @property
    def reusable(self) -> bool:
        """Whether somebody else may go on with the session."""
        return not (self.closed or self.wire.busy or self.protocol.is_in_transaction())

    def check_idle(self) -> None:
        """Raise InterfaceError when the session is closed or at work for another task."""
        if self.wire.lost or not self.protocol.is_connected():
            raise InterfaceError("connection is closed")
        if self.wire.busy:
            raise InterfaceError("cannot perform operation: another operation is in progress")

    # Queries.

    def execute(
        self,
        query: str,
        args: Sequence[Any],
        limit: int,
        *,
        extra: bool = False,
        record_class: type[Any] | None = None,
        ignore_custom_codec: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """Run ``query`` with a cached statement: rows, or with ``extra`` (rows, status, completed)."""
        call = self.protocol.bind_execute
        return self.run_cached(
            query, call, (args, "", limit, extra, NO_TIMEOUT), record_class, ignore_custom_codec
        )

    async def run_cached(
        self,
        query: str,
        call: Callable[..., Awaitable[Any]],
        arguments: tuple[Any, ...],
        record_class: type[Any] | None = None,
        ignore_custom_codec: bool = False,  # noqa: FBT001, FBT002 - hot: keywords cost
    ) -> Any:
        """Call with a statement for ``query``; again with a new one if DDL has outdated it."""
        for last in (False, True):
            statement = self.statements.get((query, record_class or self.record_class, ignore_custom_codec))
            if statement is None:
                statement = await self.prepare(
                    query, record_class=record_class, ignore_custom_codec=ignore_custom_codec, look_up=False
                )
            try:
                return await call(statement, *arguments)
            except OutdatedSchemaCacheError:
                # The rows came in a shape that the cached types do not have; the statement has run.
                self.reload_schema_state()
                raise
            except InvalidCachedStatementError:
                self.drop_statements()
                if last or self.protocol.is_in_transaction():
                    raise
            except Exception:
                await self.end_parsing()  # arguments that cannot be encoded are refused before they are sent
                raise
        raise AssertionError("the second round returns or raises")

    async def prepare(
        self,
        query: str,
        *,
        name: str | bool = False,
        record_class: type[Any] | None = None,
        ignore_custom_codec: bool = False,
        use_cache: bool = True,
        look_up: bool = True,
    ) -> Any:
        """Return a prepared statement (asyncpg's state of one), from the cache where that is allowed."""
        record_class = record_class or self.record_class
        key = (query, record_class, ignore_custom_codec)
        config = self._config
        if use_cache:
            statement = self.statements.get(key) if look_up else None
            if statement is not None:
                return statement
            longest = config.max_cacheable_statement_size
            use_cache = config.statement_cache_size > 0 and (not longest or len(query) <= longest)
        if not isinstance(name, str):
            name = unique_name("stmt") if name or use_cache else ""
        prepare: Any = self.protocol.prepare  # its stub does not know NO_TIMEOUT
        try:
            statement = await prepare(
                name, query, NO_TIMEOUT, record_class=record_class, ignore_custom_codec=ignore_custom_codec
            )
            self._parsed_at = self.wire.bytes_sent
            overwritten = await self._learn_types(statement)
            statement._init_codecs()
        except (Exception, trio.Cancelled) as error:
            if isinstance(error, trio.Cancelled) and self.wire.latest.exception() is None:
                self._parsed_at = self.wire.bytes_sent  # it was done before it could be stopped
            await self.end_parsing()
            raise
        if overwritten or (not statement.name and not config.statement_cache_size):
            # The unnamed statement is parsed again where it is used: it was replaced meanwhile, or a pooler
            # between us and the server may run each message on another server connection.
            statement.mark_unprepared()
        if use_cache:
            self.statements.put(key, statement)
        if self._unwanted:
            await self._close_unwanted()
        return statement

    async def end_parsing(self) -> None:
        """End what the server has begun if a statement was parsed, and nothing was sent since.

        asyncpg parses without the Sync that ends an execution: locks would be kept, and notifications.
        """
        if self._parsed_at != self.wire.bytes_sent or self.protocol.is_in_transaction() or self.closed:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_GRACE):
            try:
                await self.protocol.query("", None)
            except (AttributeError, PostgresError):
                pass  # an empty query has no status, as the protocol expects; or the connection has gone

    async def _learn_types(self, statement: Any) -> bool:
        """Look up the types that ``statement`` uses and nobody has seen; True when that replaced it."""
        missing = statement._init_types()
        overwritten = False
        rounds = 0
        if missing and (arrays := known_arrays(missing)):
            self.protocol.get_settings().register_data_types(arrays)
            missing = statement._init_types()
        while missing:
            types, by_unnamed = await self.introspect_types(missing)
            self.protocol.get_settings().register_data_types(types)
            overwritten = by_unnamed and not statement.name
            missing = statement._init_types()
            rounds += 1
            if rounds > _TYPE_ROUNDS:
                raise InternalClientError(f"could not resolve types {sorted(missing)} of a query")
        return overwritten

    async def introspect_types(self, oids: Iterable[int]) -> tuple[list[Any], bool]:
        """Return what the catalog says of ``oids``, and whether the unnamed statement was used to ask."""
        jit = "off"
        if self.server_version >= (11, 0):
            # Compiling the look-up would cost far more than running it.
            try:
                jit = (
                    await self._ask("SELECT current_setting('jit') AS cur, set_config('jit', 'off', false)")
                )[0][0]
            except UndefinedObjectError:
                pass
        types = await self._ask(self._type_query, list(oids))
        if jit != "off":
            await self._ask("SELECT set_config('jit', $1, false)", jit)
        return types, not self._config.statement_cache_size

    async def introspect_type(self, name: str, schema: str) -> Any:
        """Return the catalog's record of one type. Raises ValueError when there is none."""
        if schema == "pg_catalog" and not name.endswith("[]"):
            oid = BUILTIN_TYPE_NAME_MAP.get(name.lower())
            if oid is not None:
                return introspection.TypeRecord((oid, None, b"b"))
        rows = await self._ask(introspection.TYPE_BY_NAME, name, schema)
        if not rows:
            raise ValueError(f"unknown type: {schema}.{name}")
        return rows[0]

    async def _ask(self, query: str, *args: Any) -> list[Any]:
        rows: list[Any] = await self.execute(query, args, 0, ignore_custom_codec=True)
        return rows

    async def fetch_setting(self, query: str) -> str:
        """Return the one value of a query without arguments, as text."""
        # Unnamed: asked while connecting, when nobody knows yet whether a pooler is between.
        statement = await self.prepare(query, name="", use_cache=False, ignore_custom_codec=True)
        rows = await self.protocol.bind_execute(statement, (), "", 0, False, NO_TIMEOUT)
        return str(rows[0][0])

    # Statements and types that are no longer good.

    def forget(self, statement: Any) -> None:
        """Have a statement that nobody refers to closed on the server, when next one is prepared."""
        if statement.refs == 0 and statement.name and not self.statements.holds(statement):
            statement.mark_closed()
            self._unwanted.add(statement)

    async def _close_unwanted(self) -> None:
        unwanted, self._unwanted = self._unwanted, set()
        for statement in unwanted:
            await self.protocol.close_statement(statement, NO_TIMEOUT)

    def drop_statements(self) -> None:
        """Forget all cached statements, in all sessions of the family."""
        for session in list(self.family):
            session.statements.clear()

    def reload_schema_state(self) -> None:
        """Forget types and statements, in all sessions of the family."""
        for session in list(self.family):
            session.protocol.get_settings().clear_type_cache()
            session.statements.clear()

    # What the protocol calls.

    def _process_notification(self, pid: int, channel: str, payload: str) -> None:
        self.notifications_received += 1
        for subscriber in self.subscribers.get(channel, ()):
            subscriber._deliver(channel, payload, pid)

    def _process_log_message(self, fields: dict[str, str], last_query: str | None) -> None:
        if not self.log_listeners:
            return
        message: Any = PostgresLogMessage.new(fields, query=last_query)
        for listener in list(self.log_listeners):
            try:
                listener(message)
            except Exception:  # noqa: BLE001 - must not end the parsing of a message
                _log.exception("a log listener failed")

    def _cancel_current_command(self, sent: Waiter, acknowledged: Waiter | None = None) -> None:
        # Only the request is noted here, in the middle of a protocol step; drain_operation acts on it.
        sent.set_result(None)
        self._cancel_waiter = acknowledged

    def _cleanup(self) -> None:
        for statement in self.statements:
            statement.mark_closed()
        self._unwanted.clear()
        self.statements.clear()
        self.log_listeners.clear()

    # Ends.

    def abandon_copy_out(self) -> Waiter:
        """Have the protocol discard what the server still sends; the waiter is done at the end of it."""
        self.protocol._request_cancel()  # type: ignore[attr-defined]
        return self.take_cancel_waiter() or self.wire.create_future()

    def take_cancel_waiter(self) -> Waiter | None:
        """The waiter of a cancellation that the protocol itself asked for, if it did."""
        waiter, self._cancel_waiter = self._cancel_waiter, None
        return waiter

    def terminate(self) -> None:
        """Close the session now. Whoever waits on it gets ConnectionDoesNotExistError."""
        if not self.wire.lost:
            try:
                self.protocol.abort()
            except InternalClientError:
                pass  # not far enough for a Terminate message
            self.wire.abort()
        self._cleanup()

    async def close(self) -> None:
        """Say Terminate and wait, at most CLOSE_GRACE seconds, until the server has ended the session."""
        wire = self.wire
        try:
            if not wire.lost and not wire.busy and self.protocol.is_connected():
                wire.take()
                wire.lingering = True
                self.protocol.abort()
                with trio.move_on_after(CLOSE_GRACE):
                    while not wire.lost:
                        await wire.step()
            else:
                await trio.lowlevel.checkpoint()
        finally:
            wire.lingering = False
            self.terminate()


# The wire and the cache refer to their session weakly: when the last user drops it, it closes there and then.


def _interrupt_weakly(reference: weakref.ref[Session]) -> Callable[[Waiter], Awaitable[None]]:
    async def interrupt(waiter: Waiter) -> None:
        session = reference()
        if session is not None:
            await interrupt_operation(session, waiter)

    return interrupt


def _forget_weakly(reference: weakref.ref[Session]) -> Callable[[Any], None]:
    def forget(statement: Any) -> None:
        session = reference()
        if session is not None:
            session.forget(statement)

    return forget


@attrs.frozen(kw_only=True)
class ConnectionStatistics:
    """What a connection has done so far."""

    queries: int  # statements run, as the protocol counts them
    cached_statements: int
    bytes_sent: int  # on the socket: with TLS, encrypted
    bytes_received: int
    notifications: int  # received, delivered or not
    cancels_sent: int  # CancelRequests, one for each operation that was cancelled while it ran
