"""Which runtime a worker has: a built-in one for a script, another package's for what is no script."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from hotpath.runtime.choose import choose

if TYPE_CHECKING:
    from hotpath.model import Description
    from hotpath.runtime.lane import Lane
    from hotpath.runtime.protocol import Runtime
    from hotpath.scripts.locate import Located

FLOWS = "hotpath.flows.runtime:make_runtime"
"""Of flows that are files: by name, since workers know nothing of flows."""


def runtime_of(located: Located, description: Description) -> str | None:
    """`package.module:factory` of the runtime for what was found; None: a built-in one."""
    return FLOWS if description.kind == "flow" and located.is_flow else None


def make_runtime(
    name: str | None, description: Description, *, lane: Lane | None = None, concurrency: int | None = None
) -> Runtime:
    """The runtime of this name, made by `factory(description, lane, concurrency)`; for None the built-in one
    that fits. `concurrency` goes before what the script says of itself.
    """
    if name is None:
        return choose(description, lane=lane, concurrency=concurrency)
    module, _, factory = name.partition(":")
    runtime: Runtime = getattr(importlib.import_module(module), factory)(description, lane, concurrency)
    return runtime
