"""What a user sees of an exception in their own code: name, message, and a traceback that begins where their
code does.

Frames of Hotpath and of Python's import machinery are left out, since they are ours and not theirs.
Everything is bounded and fit for a database's text, because an exception's text comes from anywhere.
"""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path

from hotpath.core.storable import storable

MESSAGE_BYTES = 8 * 1024
TRACEBACK_BYTES = 64 * 1024

_PACKAGE = str(Path(__file__).resolve().parent.parent) + "/"
_OURS = (_PACKAGE, str(Path(importlib.__file__).parent) + "/", "<frozen importlib", "<frozen runpy>")


def shorten(text: str, size: int) -> str:
    """The text if it is at most `size` bytes of UTF-8, else its start and its end with a notice between."""
    raw = text.encode()
    if len(raw) <= size:
        return text
    half = size // 2
    notice = f"\n[... {len(raw) - 2 * half} bytes ...]\n"
    return raw[:half].decode("utf-8", "ignore") + notice + raw[-half:].decode("utf-8", "ignore")


def is_ours(filename: str) -> bool:
    """Whether a traceback frame is Hotpath's or the import machinery's rather than the user's."""
    return filename.startswith(_OURS)


def message_of(exc: BaseException) -> str:
    """`str(exc)`, whatever the exception's own `__str__` does."""
    try:
        text = str(exc)
    except BaseException as fault:  # noqa: BLE001 - user code, and this is the last line of defence
        text = f"<{type(exc).__name__}.__str__ raised {type(fault).__name__}>"
    return shorten(storable(text), MESSAGE_BYTES)


def traceback_of(exc: BaseException) -> str:
    """The traceback as Python prints it, chained causes and groups included, without our frames."""
    try:
        seen = traceback.TracebackException.from_exception(exc, compact=True)
        _strip(seen, set())
        text = "".join(seen.format())
    except BaseException as fault:  # noqa: BLE001 - a broken __str__, __cause__ or __notes__ must not cost the job its end
        name = type(fault).__name__
        text = f"{type(exc).__name__}: {message_of(exc)}\n(its traceback cannot be shown: {name})\n"
    return shorten(storable(text), TRACEBACK_BYTES)


def _strip(seen: traceback.TracebackException, done: set[int]) -> None:
    """Take our frames out of the whole chain of causes."""
    if id(seen) in done:
        return
    done.add(id(seen))
    seen.stack = traceback.StackSummary.from_list(
        [frame for frame in seen.stack if not is_ours(frame.filename)]
    )
    for other in (seen.__cause__, seen.__context__, *(seen.exceptions or ())):
        if other is not None:
            _strip(other, done)
