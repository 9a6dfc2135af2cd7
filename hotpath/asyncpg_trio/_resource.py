"""What statements, cursors and transactions have in common: they end with the handle they were made on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncpg.exceptions import InterfaceError

if TYPE_CHECKING:
    from ._connection import Connection
    from ._session import Session


class ConnectionResource:
    """Something that belongs to one ``Connection``."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _live(self) -> Session:
        """Return the session, idle. Raises InterfaceError when it is released, closed or at work."""
        session = self._connection._session
        if session is None:
            raise InterfaceError(
                f"cannot use this {type(self).__name__}: its connection has been released back to the pool"
            )
        session.check_idle()
        return session
