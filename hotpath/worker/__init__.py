"""Workers: the loop that claims, runs and flushes, the process around it, the supervisor above, and the
library's way in.

What the library offers is loaded when it is first asked for: a worker process needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hotpath.worker.serve import Dedicated as Dedicated
    from hotpath.worker.serve import Worker as Worker
    from hotpath.worker.serve import dedicated as dedicated
    from hotpath.worker.serve import serve_worker as serve_worker

__all__ = ["Dedicated", "Worker", "dedicated", "serve_worker"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from hotpath.worker import serve

    return getattr(serve, name)
