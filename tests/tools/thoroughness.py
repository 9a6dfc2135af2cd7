"""How much time to take: with HOTPATH_TEST_THOROUGH=1 tests try many more cases, other ones each time, and
start commands cold.
"""

from __future__ import annotations

import os

THOROUGH = os.environ.get("HOTPATH_TEST_THOROUGH", "") not in {"", "0"}


def examples(quick: int, thorough: int) -> int:
    """How many cases to try: enough to find a guard that is missing; or enough to find what nobody thought
    of.
    """
    return thorough if THOROUGH else quick
