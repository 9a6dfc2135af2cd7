"""How much memory there is: the machine's, or what its container may use."""

from __future__ import annotations

import os
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_there() -> int:
    """Bytes of memory that this process may hope for."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _LIMITS:
        try:
            there = min(there, int(Path(path).read_text()))
        except (OSError, ValueError):  # no such file, or `max`
            continue
    return there
