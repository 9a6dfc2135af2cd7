"""What is examined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs

from hotpath.config import Config
from hotpath.store.database import Database
from hotpath.store.queries import query

SECONDS = 8.0
"""Within which a check has to be done, however the database is."""

# A server cuts a statement at a kilobyte, so what is quoted may have no end.
_QUOTED = re.compile(
    r"""(?<!\w)[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z) | (\$\w*\$).*?(?:\1|\Z)""",
    re.DOTALL | re.VERBOSE,
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_SHELL = re.compile(r'[\\"$`]')
_NUMBER = re.compile(r"\b\d+(?:\.\d+)?\b")


@attrs.frozen
class Patient:
    """An installation, as this program reaches it."""

    config: Config
    database: Database

    async def rows(self, name: str, *values: Any) -> Sequence[Any]:
        """What a statement of the store says."""
        async with self.database.connection(within=SECONDS) as connection:
            return await connection.fetch(query(name), *values)

    async def row(self, name: str, *values: Any) -> Any:
        """The one row of it."""
        async with self.database.connection(within=SECONDS) as connection:
            return await connection.fetchrow(query(name), *values)


def shape_of(statement: str | None) -> str | None:
    """A statement without what it is about: values may be secrets."""
    if statement is None:
        return None
    bare = _COMMENT.sub(" ", _QUOTED.sub("'?'", statement))
    text = " ".join(_NUMBER.sub("?", bare).split())
    return text if len(text) <= 120 else text[:119] + "…"


def quoted(name: str) -> str:
    """A text in single quotes as SQL takes it, to stand within double quotes of a shell: somebody else may
    have chosen it, and who mends pastes it.
    """
    return "'" + pasted(name.replace("'", "''")) + "'"


def pasted(text: str) -> str:
    """A text as it stands within double quotes of a shell."""
    return _SHELL.sub(r"\\\g<0>", text)
