"""Transactions and savepoints: whatever ends the block, ends the transaction too."""

from __future__ import annotations

import enum
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio
from asyncpg.exceptions import InterfaceError, PostgresError

from ._resource import ConnectionResource
from ._session import unique_name

if TYPE_CHECKING:
    from ._connection import Connection

# Seconds that a rollback may take after a cancellation before the connection is closed instead.
ROLLBACK_GRACE = 5.0

_ISOLATION_LEVELS = {
    "read_committed": "READ COMMITTED",
    "read_uncommitted": "READ UNCOMMITTED",
    "repeatable_read": "REPEATABLE READ",
    "serializable": "SERIALIZABLE",
}


class _State(enum.Enum):
    NEW = "not yet started"
    STARTED = "already started"
    COMMITTED = "already committed"
    ROLLED_BACK = "already rolled back"
    FAILED = "in error state"


class Transaction(ConnectionResource):
    """One transaction, or one savepoint within; ``async with`` commits it, or rolls it back on any exception.

    A cancellation during the commit leaves it open whether the commit took effect: ask the database.
    """

    __slots__ = ("_deferrable", "_isolation", "_managed", "_readonly", "_savepoint", "_state")

    def __init__(
        self, connection: Connection, isolation: str | None, *, readonly: bool, deferrable: bool
    ) -> None:
        super().__init__(connection)
        if isolation is not None and isolation not in _ISOLATION_LEVELS:
            raise ValueError(
                f"isolation is expected to be one of {sorted(_ISOLATION_LEVELS)}, got {isolation!r}"
            )
        self._isolation = isolation
        self._readonly = readonly
        self._deferrable = deferrable
        self._state = _State.NEW
        self._savepoint: str | None = None
        self._managed = False

    def __repr__(self) -> str:
        return f"<asyncpg_trio.Transaction {self._state.value}>"

    async def __aenter__(self) -> Self:
        if self._managed:
            raise InterfaceError("cannot enter context: already in an `async with` block")
        self._managed = True
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._managed = False
        if error is not None and self._connection.is_closed():
            # There is nothing left to roll back, and what ended the connection is on its way up.
            self._leave(_State.FAILED)
            await trio.lowlevel.checkpoint()
            return
        await self.end(commit=error is None)

    async def start(self) -> None:
        """Send BEGIN, or SAVEPOINT within an open transaction."""
        if self._state is not _State.NEW:
            raise InterfaceError(f"cannot start; the transaction is {self._state.value}")
        connection = self._connection
        top = connection._top_transaction
        if top is None:
            if connection.is_in_transaction():
                raise InterfaceError("cannot use Connection.transaction() in a manually started transaction")
            command = self._begin()
        else:
            if self._isolation and self._isolation != await top._actual_isolation():
                raise InterfaceError("nested transaction has a different isolation level")
            self._savepoint = unique_name("savepoint")
            command = f"SAVEPOINT {self._savepoint}"
        self._live()
        if top is None:
            connection._top_transaction = self
        try:
            await connection.execute(command)
        except BaseException:
            # A BEGIN that was cancelled may have been carried out.
            self._leave(_State.FAILED)
            if top is None:
                await self._roll_back_shielded("ROLLBACK")
            raise
        self._state = _State.STARTED

    def _begin(self) -> str:
        parts = ["BEGIN"]
        if self._isolation is not None:
            parts.append(f"ISOLATION LEVEL {_ISOLATION_LEVELS[self._isolation]}")
        if self._readonly:
            parts.append("READ ONLY")
        if self._deferrable:
            parts.append("DEFERRABLE")
        return " ".join(parts)

    async def _actual_isolation(self) -> str:
        if self._isolation is None:
            shown: str = await self._connection.fetchval("SHOW transaction_isolation")
            self._isolation = shown.replace(" ", "_")
        return self._isolation

    async def commit(self) -> None:
        """Commit, or release the savepoint; for transactions begun with ``start``."""
        await self._end_manually(commit=True)

    async def rollback(self) -> None:
        """Roll back, to the savepoint if it is one; for transactions begun with ``start``."""
        await self._end_manually(commit=False)

    async def _end_manually(self, *, commit: bool) -> None:
        if self._managed:
            raise InterfaceError("cannot end the transaction by hand within an `async with` block")
        await self.end(commit=commit)

    async def end(self, *, commit: bool) -> None:
        """Commit or roll back. A rollback is carried out even when the task is cancelled."""
        if self._state is not _State.STARTED:
            raise InterfaceError(f"cannot end; the transaction is {self._state.value}")
        undo = f"ROLLBACK TO {self._savepoint}" if self._savepoint else "ROLLBACK"
        if not commit:
            self._leave(_State.ROLLED_BACK)
            await self._roll_back_shielded(undo)
            return
        self._live()
        try:
            await self._connection.execute(f"RELEASE {self._savepoint}" if self._savepoint else "COMMIT")
        except BaseException:
            self._leave(_State.FAILED)
            await self._roll_back_shielded(undo)
            raise
        self._leave(_State.COMMITTED)

    def _leave(self, state: _State) -> None:
        self._state = state
        if self._connection._top_transaction is self:
            self._connection._top_transaction = None

    async def _roll_back_shielded(self, command: str) -> None:
        """Roll back what is open; close the connection rather than leave it open."""
        connection = self._connection
        if not connection.is_in_transaction():
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        done = False
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + ROLLBACK_GRACE):
                await connection.execute(command)
                done = True
        except PostgresError:
            # The user has ended the savepoint by SQL: the transaction around it decides.
            done = self._savepoint is not None and not connection.is_closed()
            if not done:
                raise
        finally:
            if not done:
                connection.terminate()
