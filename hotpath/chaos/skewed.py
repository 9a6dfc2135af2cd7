"""A wall clock that is wrong: copied as `sitecustomize.py` to where one command's processes find it.

`HOTPATH_CHAOS_SKEW` says by how many seconds. `time.time`, `time.time_ns` and the `now` of `datetime` are
shifted for everybody in the process; the monotonic clocks are not.
"""

import ctypes
import datetime as dt
import gc
import os
import time
from collections.abc import Callable
from typing import Any


def _shift(seconds: int) -> None:
    real_time, real_time_ns = time.time, time.time_ns
    moment = dt.timedelta(seconds=seconds)
    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_time_ns() + seconds * 1_000_000_000
    # The class stays itself, else nothing that looks at types would know it: its own dictionary is changed.
    for name in ("now", "utcnow"):
        real: Callable[..., dt.datetime] = getattr(dt.datetime, name)

        def shifted(
            _cls: type, /, *args: Any, _real: Callable[..., dt.datetime] = real, **kwargs: Any
        ) -> dt.datetime:
            return _real(*args, **kwargs) + moment

        namespace = gc.get_referents(dt.datetime.__dict__)[0]
        namespace[name] = classmethod(shifted)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))


if _seconds := int(os.environ.get("HOTPATH_CHAOS_SKEW", "0")):
    _shift(_seconds)
