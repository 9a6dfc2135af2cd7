"""The SQL of Hotpath: one statement a file, never formatted by string.

`query("cycle")` is the text of `sql/cycle.sql`. Tests PREPARE every file and EXPLAIN the hot ones.
"""

from __future__ import annotations

import functools
from importlib import resources


@functools.cache
def query(name: str) -> str:
    """Text of the statement in `sql/NAME.sql`. Raises FileNotFoundError for a name that is not there."""
    return (resources.files("hotpath.store") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def names() -> list[str]:
    """Names of all statements, sorted."""
    folder = resources.files("hotpath.store") / "sql"
    return sorted(
        entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql")
    )
