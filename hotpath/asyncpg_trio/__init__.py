"""asyncpg on Trio: asyncpg's compiled protocol driven straight over a Trio socket, with no asyncio loop.

The names and meanings are asyncpg's, so its documentation applies, but for what README.md lists. This package
knows nothing of the one it is in.
"""

from __future__ import annotations

from . import _seam

_seam.check_asyncpg_version()
_seam.install()

from asyncpg.exceptions import (  # noqa: E402 - the version is checked before anything relies on it
    ConnectionDoesNotExistError,
    InterfaceError,
    PostgresError,
    TargetServerAttributeNotMatched,
)
from asyncpg.protocol import Record  # noqa: E402

from ._cancel import CANCEL_GRACE  # noqa: E402
from ._connection import Connection  # noqa: E402
from ._cursor import Cursor  # noqa: E402
from ._listen import Notification, Notifications, NotificationStatistics  # noqa: E402
from ._open import connect  # noqa: E402
from ._pool import Pool, PoolStatistics, create_pool  # noqa: E402
from ._prepared import PreparedStatement  # noqa: E402
from ._session import CLOSE_GRACE, ConnectionStatistics  # noqa: E402
from ._transaction import Transaction  # noqa: E402

__all__ = [
    "CANCEL_GRACE",
    "CLOSE_GRACE",
    "Connection",
    "ConnectionDoesNotExistError",
    "ConnectionStatistics",
    "Cursor",
    "InterfaceError",
    "Notification",
    "NotificationStatistics",
    "Notifications",
    "Pool",
    "PoolStatistics",
    "PostgresError",
    "PreparedStatement",
    "Record",
    "TargetServerAttributeNotMatched",
    "Transaction",
    "connect",
    "create_pool",
]
