"""What is marked of steps of a flow, beside what they give."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from hotpath.core.notes import Mark

if TYPE_CHECKING:
    from hotpath.core.flow.waits import StepCall

RUNNING = "running:"
"""What the key of a mark begins with that says that a step is under way, and takes a while."""
BLANK = "blank:"
"""What the key of a mark begins with of a step of which nothing is to be kept to look at."""


def running_mark(call: StepCall, since_us: int, script: int, life: int) -> Mark:
    """The step of this script is under way since then, in the run's so manieth life."""
    said = {
        "id": UUID(bytes=call.id),
        "since": since_us,
        "attempt": call.attempt,
        "script": script,
        "life": life,
    }
    return Mark(f"{RUNNING}{call.key}", msgspec.json.encode(said))


def blank_mark(call: StepCall) -> Mark:
    """Args, result and log of the step go when its run ends."""
    return Mark(f"{BLANK}{call.key}", msgspec.json.encode({"id": UUID(bytes=call.id)}))
