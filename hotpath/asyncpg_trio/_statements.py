"""The cache of prepared statements: least recently used go first, and none stays longer than its lifetime."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

# What tells one cached statement from another: query text, record class, whether custom codecs are ignored.
StatementKey = tuple[str, type[Any], bool]


class StatementCache:
    """Prepared statements by what was asked for."""

    __slots__ = ("_entries", "_lifetime", "_on_remove", "_size")

    def __init__(self, size: int, lifetime: float, on_remove: Callable[[Any], None]) -> None:
        self._size = size
        self._lifetime = lifetime
        self._on_remove = on_remove
        self._entries: OrderedDict[StatementKey, tuple[Any, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Any]:
        return iter([statement for statement, _ in self._entries.values()])

    def get(self, key: StatementKey) -> Any | None:
        """Return a statement that may still be used, now the most recent one."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        statement, expires = entry
        if statement.closed or (self._lifetime and time.monotonic() > expires):
            del self._entries[key]
            self._on_remove(statement)
            return None
        self._entries.move_to_end(key)
        return statement

    def holds(self, statement: Any) -> bool:
        """Whether this very statement is in the cache."""
        entry = self._entries.get((statement.query, statement.record_class, statement.ignore_custom_codec))
        return entry is not None and entry[0] is statement

    def put(self, key: StatementKey, statement: Any) -> None:
        """Add a statement; those that no longer fit are given to ``on_remove``."""
        self._entries[key] = (statement, time.monotonic() + self._lifetime)
        while len(self._entries) > self._size:
            _, (oldest, _) = self._entries.popitem(last=False)
            self._on_remove(oldest)

    def clear(self) -> None:
        """Drop all; each is given to ``on_remove``."""
        entries, self._entries = self._entries, OrderedDict()
        for statement, _ in entries.values():
            self._on_remove(statement)
