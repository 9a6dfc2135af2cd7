"""Results of steps and of flows that are good for a while (`cache_ttl`), by version and args."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from hotpath.core.notes import Cached

if TYPE_CHECKING:
    from hotpath.model import ScriptVersion

MOST = 1_000
MOST_BYTES = 64 << 10
"""What is larger is kept in the database only."""


def cache_key(version: str, args: bytes) -> bytes:
    """Key of a call: its script's version, and its args."""
    return hashlib.sha256(version.encode() + b"\0" + args).digest()


def version_with_steps(version: ScriptVersion) -> str:
    """A flow's version for its results: its own, and those of the scripts that it calls by path, which may
    change without it.
    """
    digest = hashlib.sha256(version.description.hash.encode())
    for step in sorted(version.steps, key=lambda step: step.description.path):
        digest.update(f"\0{step.description.path}\0{step.description.hash}".encode())
    return digest.hexdigest()


class Cache:
    """What this process remembers; the database has the rest. By this process's clock."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def get(self, key: bytes) -> bytes | None:
        """The result, while it is good."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found[0] < time.monotonic():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return found[1]

    def put(self, version: str, args: bytes, result: bytes, ttl: float) -> Cached:
        """Remember a result for `ttl` seconds; what to note for others."""
        key = cache_key(version, args)
        if len(result) <= MOST_BYTES:
            self._kept[key] = time.monotonic() + ttl, result
            self._kept.move_to_end(key)
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return Cached(key, ttl, result)
