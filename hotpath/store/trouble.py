"""Which exceptions mean what to a worker: trouble that passes, or data that cannot be stored."""

from __future__ import annotations

import asyncpg

CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.InterfaceError,  # used after the connection was lost
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

DATA_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.exceptions.DataError,
    asyncpg.exceptions.ProgramLimitExceededError,
    ValueError,  # what the driver cannot encode
    OverflowError,
)
"""A value in the statement cannot be stored, whatever the server's health."""
