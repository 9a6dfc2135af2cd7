"""Keys of steps: paths that say where in a run a step stands, the same each time the run is played again.

`a` is a step of the flow itself; `l[3]/b` one within iteration 3 of loop `l`; `br[1]/c` one within branch 1,
`br[default]/c` one within the default branch of `br`; `s/a` one of sub-flow `s`. In a flow written as code
the second call of `score` is `score#2`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from uuid import UUID

FAILURE = "failure"
"""Last part of a failure module's key, whatever its id."""
PREPROCESSOR = "preprocessor"
"""Last part of a preprocessor's key, whatever its id."""
DEFAULT = "default"
"""Stands in a `BranchOne`'s key for the number of its default branch."""

TRY = "~"
"""Parts the key of a step from the number of its try, where each try goes through the queue as a job."""

_BRACKETS = re.compile(r"\[([^\]]*)\]")

# An id is 48 bits of the run's time, then 80: version 7 on top, the variant 16 bits below, the rest a hash.
_HASHED = (1 << 80) - 1 & ~(0xF << 76) & ~(0b11 << 62)
_TIME = (1 << 48) - 1 << 80
_FIXED = 7 << 76 | 0b10 << 62


def child_key(outer: str, step: str) -> str:
    """Key of a step in what has key `outer`: an iteration, a branch, a sub-flow; `""` is the flow itself."""
    return f"{outer}/{step}" if outer else step


def iteration_key(key: str, number: int | str) -> str:
    """Key of a loop's iteration, from 0, or of a branch, from 0 or `DEFAULT`: no step, but around some."""
    return f"{key}[{number}]"


def around(key: str) -> str:
    """Key of the step that this one stands in: `l` for `l[3]/b`; `""` for a step of the flow itself."""
    head = key.rpartition("/")[0]
    return head.rpartition("[")[0] if head.endswith("]") else head


def step_of(key: str) -> str:
    """The step's own id: `b` of `l[3]/b`; a call of a code flow keeps its number, `score#2`."""
    return key[key.rfind("/") + 1 :].partition("[")[0].partition(TRY)[0]


def iteration_of(key: str) -> str:
    """Numbers of the iterations and branches that the step is in, outermost first: `3.1` of `l[3]/m[1]/b`.

    Empty for one that is in none.
    """
    return ".".join(_BRACKETS.findall(key)) if "[" in key else ""


def step_uuids(run: UUID, generation: int) -> Callable[[str], bytes]:
    """`step_uuid` for many steps of one run."""
    number = run.int
    fixed = number & _TIME | _FIXED
    prefix = (generation << 128 | number).to_bytes(18)

    def of(key: str) -> bytes:
        digest = blake2b(prefix + key.encode(), digest_size=10).digest()
        return (fixed | int.from_bytes(digest) & _HASHED).to_bytes(16)

    return of


def step_uuid(run: UUID, key: str, generation: int) -> bytes:
    """Id of a step's job, 16 bytes of a UUIDv7: always the same for the same step of the same run.

    It has the run's time, so that it lies where the run lies. `generation` (0 up to 2^15 - 1) counts how
    often the whole run was started anew: its steps are then others.
    """
    return step_uuids(run, generation)(key)
