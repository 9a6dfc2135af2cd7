"""The server ends a session between two statements: it says why, and hangs up a moment later.

asyncpg's protocol knows errors only as answers. One that comes when nothing was asked leaves it open and of
no use until the end of file arrives, so such a farewell is looked for here, and is the end of the session.
"""

from __future__ import annotations

import re
from typing import Any

from asyncpg.exceptions import PostgresError

_READY = b"Z\x00\x00\x00\x05"  # ReadyForQuery without its last byte, the state of the transaction
# Severity, SQLSTATE and text of an ErrorResponse, in the order in which PostgreSQL writes them. No string of
# a notice or a notification holds a NUL, so none of them can pass for this.
_FATAL = re.compile(rb"\x00V(?:FATAL|PANIC)\x00C([0-9A-Z]{5})\x00M([^\x00]*)\x00")


def has_more(data: bytes) -> bool:
    """Whether ``data``, with which an operation ended, does not end with it."""
    return data[-6:-1] != _READY


def read_farewell(data: bytes, *, idle: bool) -> Any | None:
    """Return the error by which the server ends the session, if ``data`` holds one.

    When not ``idle``, only what comes after the end of the operation counts: before it there may be anything.
    """
    found = _FATAL.search(data, 0 if idle else max(data.rfind(_READY), 0))
    if found is None:
        return None
    code, message = (part.decode(errors="replace") for part in found.groups())
    return PostgresError.new({"S": "FATAL", "V": "FATAL", "C": code, "M": message})
