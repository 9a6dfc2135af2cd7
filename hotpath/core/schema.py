"""Args and their JSON Schema: one validator for whoever enqueues, without importing the script."""

from __future__ import annotations

import re

_AT = re.compile(r" - at `(.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected `(.*?)`(, got `(.*)`)?(.*)$", re.DOTALL)


def explain(error: Exception) -> str:
    """A msgspec error about args as one line that names the field: "field `x`: expected int, got str"."""
    text = str(error)
    path = ""
    if at := _AT.search(text):
        path = re.sub(r"^\$(\[\d+\](?=\.|$))?\.?", "", at.group(1))
        text = text[: at.start()]
    if missing := _MISSING.match(text):
        return f"field `{_join(path, missing.group(1))}` is missing"
    if unknown := _UNKNOWN.match(text):
        return f"field `{_join(path, unknown.group(1))}` is unknown"
    if expected := _EXPECTED.match(text):
        text = f"expected {expected.group(1)}"
        if expected.group(3):
            text += f", got {expected.group(3)}"
        text += expected.group(4)
    else:
        text = text[:1].lower() + text[1:]
    return f"field `{path}`: {text}" if path else f"args: {text}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
