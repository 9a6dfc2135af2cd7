"""Which exceptions mean what to a worker (I11): weather, a collision, a value that cannot be stored, a bug.

`trouble_of` is the one place that decides; by SQLSTATE where the server spoke. The tuples below say the same
to an `except` clause.

| kind | what is done | which |
|---|---|---|
| weather | connect again, send again | connection lost or refused, restart, failover, full disk |
| collision | send again, on the same connection | deadlock, serialization, lock not to be had, canceled |
| data | look for the job that it is about, which fails | classes 22 and 54, what the driver cannot encode |
| bug | said loudly each time, sent again ever more slowly | all else that a server answers |

Outcomes are kept in all four. Nothing is given up for a bug either: rights that were revoked, a table that is
being migrated and a full table of a wrong plan look alike from here, and an outcome that was dropped is lost.
"""

from __future__ import annotations

import enum
import re

import asyncpg
import trio

from hotpath.errors import DatabaseUnavailableError, HotpathError


class Trouble(enum.Enum):
    """What an error calls for."""

    WEATHER = "weather"
    COLLISION = "collision"
    DATA = "data"
    BUG = "bug"


_WEATHER = (
    "08",  # connection exceptions; a pooler's refusals too
    "53",  # insufficient resources: disk full, out of memory, too many connections
    "57P",  # shut down, crashed, starting up, database dropped, idle session timed out
    "58",  # the server's own trouble with files
    "F0",  # its configuration is locked
    "25006",  # read-only: a standby, or a primary that has become one
    "25P03",  # idle in transaction for too long
    "25P04",  # a transaction for too long
    "26000",  # no such prepared statement: a pooler gave us another session
    "42P05",  # such a prepared statement is there: likewise
)
_COLLISION = (
    "40",  # deadlock, serialization failure
    "55P03",  # lock not available (lock_timeout)
    "55006",  # object in use
    "57014",  # canceled: statement_timeout, or somebody's pg_cancel_backend
)
_DATA = ("22", "54")  # data exceptions; limits of the program
_GONE = re.compile("clos|lost|released")  # in what the driver says of a connection that is no more


def trouble_of(error: BaseException) -> Trouble | None:
    """What `error` calls for; None when it did not come from the database or the way to it."""
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.exceptions.InvalidCachedStatementError):
        return Trouble.WEATHER  # a migration changed a result's type: a new session has new plans
    if isinstance(error, asyncpg.InterfaceError) and not _GONE.search(str(error)):
        return Trouble.BUG  # the driver was used wrongly
    if isinstance(error, asyncpg.PostgresError) and state:
        if state.startswith(_WEATHER):
            return Trouble.WEATHER
        if state.startswith(_COLLISION):
            return Trouble.COLLISION
        return Trouble.DATA if state.startswith(_DATA) else Trouble.BUG
    if isinstance(error, CONNECTION_ERRORS):
        return Trouble.WEATHER
    if isinstance(error, DATA_ERRORS):
        return Trouble.DATA
    return Trouble.BUG if isinstance(error, asyncpg.PostgresError) else None


def is_weather(error: BaseException) -> bool:
    """Whether it is weather, also where `hotpath.store.database` has put it in words."""
    if isinstance(error, DatabaseUnavailableError):
        return error.__cause__ is None or trouble_of(error.__cause__) in (Trouble.WEATHER, None)
    return trouble_of(error) is Trouble.WEATHER


def is_passing(error: BaseException) -> bool:
    """Whether another try may do: it is weather or a collision, and nothing that is said against what was
    asked.
    """
    return is_weather(error) or trouble_of(error) is Trouble.COLLISION


CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    trio.TooSlowError,  # no answer within the deadline: half-open, as far as anybody can tell
    asyncpg.InterfaceError,  # used after the connection was lost
    asyncpg.InternalClientError,  # the driver lost step with the server: only a new connection helps
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,  # a restart, a killed backend
    asyncpg.exceptions.InsufficientResourcesError,  # too many connections, a full disk
    asyncpg.exceptions.PostgresSystemError,  # the server's own trouble with files
    asyncpg.exceptions.ConfigFileError,
    asyncpg.exceptions.TransactionRollbackError,  # a deadlock
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.ObjectInUseError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # a standby, during a failover
    asyncpg.exceptions.InvalidSQLStatementNameError,  # a pooler gave us another session
    asyncpg.exceptions.DuplicatePreparedStatementError,
    asyncpg.exceptions.InvalidCachedStatementError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""Weather and collisions: wait, connect again, send again."""

TROUBLE: tuple[type[Exception], ...] = (HotpathError, *CONNECTION_ERRORS)
"""The same, as `hotpath.store.database` may already have put it."""

ANY_TROUBLE: tuple[type[Exception], ...] = (*TROUBLE, asyncpg.PostgresError)
"""What no task that runs beside the work may end by: all that a database can answer."""

DATA_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.exceptions.DataError,
    asyncpg.exceptions.ProgramLimitExceededError,
    ValueError,  # what the driver cannot encode
    OverflowError,
)
"""A value in the statement cannot be stored, whatever the server's health."""
