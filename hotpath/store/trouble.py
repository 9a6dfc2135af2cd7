"""Which exceptions mean what to a worker: trouble that passes, or data that cannot be stored."""

from __future__ import annotations

import asyncpg

from hotpath.errors import HotpathError

CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.InterfaceError,  # used after the connection was lost
    asyncpg.InternalClientError,  # the driver lost step with the server: only a new connection helps
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,  # a restart, a killed backend
    asyncpg.exceptions.InsufficientResourcesError,  # too many connections, a full disk
    asyncpg.exceptions.TransactionRollbackError,  # a deadlock
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # a standby, during a failover
    asyncpg.exceptions.InvalidSQLStatementNameError,  # a pooler gave us another session
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""The connection or the server is in trouble: wait, connect again, send again."""

TROUBLE: tuple[type[Exception], ...] = (HotpathError, *CONNECTION_ERRORS)
"""The same, as `hotpath.store.database` may already have put it."""

DATA_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.exceptions.DataError,
    asyncpg.exceptions.ProgramLimitExceededError,
    ValueError,  # what the driver cannot encode
    OverflowError,
)
"""A value in the statement cannot be stored, whatever the server's health."""
