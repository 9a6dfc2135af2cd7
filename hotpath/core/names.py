"""What a script may be called: `flow_x`, `f/team/score`.

A pin, which means one version of a script, is called like it, `@` and twelve digits of the version's hash.

A name is a path without its ending: segments between slashes, each of letters, digits, `_`, `.` and `-`,
beginning with a letter, a digit or `_`. So a name is a safe file name, never climbs out of the workspace, and
needs no quoting in a shell or a URL.
"""

from __future__ import annotations

import re

from hotpath.errors import ScriptError

MAX_BYTES = 255
"""Length up to which a name is accepted."""

_VERSION = re.compile(r"[0-9a-fA-F]{4,64}", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


def fault_of(name: object) -> str | None:
    """What is wrong with a script's name, or None if nothing is."""
    if not isinstance(name, str):
        return f"it is of type {type(name).__name__}, not text"
    if not name:
        return "it is empty"
    if len(name) > MAX_BYTES:
        return f"it is {len(name)} characters long, at most {MAX_BYTES} are allowed"
    if name.startswith("/"):
        return "it begins with a slash: names are relative to the workspace"
    if name.endswith("/"):
        return "it ends with a slash"
    for segment in name.split("/"):
        if not segment:
            return "it has two slashes in a row"
        if segment in {".", ".."}:
            return f"it has the segment `{segment}`"
        if ".." in segment:
            return f"its segment `{segment}` has two dots in a row"
        if not _SEGMENT.fullmatch(segment):
            wrong = next((sign for sign in segment if not re.fullmatch(r"[A-Za-z0-9_.-]", sign)), segment[0])
            where = "begins with" if wrong == segment[0] else "has"
            return (
                f"its segment {segment!r} {where} {wrong!r}: "
                "letters, digits, `_`, `-` and `.` are allowed, the latter two not first"
            )
    return None


def check_name(name: str) -> str:
    """The name itself, if it is one; `ScriptError` that says what is wrong if it is not."""
    if fault := fault_of(name):
        shown = name if len(name) <= 80 else name[:77] + "..."
        raise ScriptError(f"{shown!r} cannot be the name of a script: {fault}")
    return name


def is_pin(name: str) -> bool:
    """Whether it is the name of a pin, and not that of a script or of a file."""
    _, at, version = name.rpartition("@")
    return bool(at) and "/" not in version and "." not in version


def plain_name(name: str) -> str:
    """The name of the script of which a pin (`f/x@1a2b3c4d5e6f`) means a version; any other name itself."""
    return name.partition("@")[0]


def version_of_name(name: str) -> str | None:
    """How the hash of the version begins that a name means; None: whichever is current. `ScriptError` for
    what cannot be the beginning of a hash.
    """
    plain, _, version = name.partition("@")
    if not is_pin(name):
        return None
    if not _VERSION.fullmatch(version):
        shown = version if len(version) <= 80 else version[:77] + "..."
        raise ScriptError(
            f"{check_name(plain)}@{shown}: a version is named by 4 to 64 hex digits, as `hotpath scripts "
            f"{plain}` shows them"
        )
    return version.lower()
