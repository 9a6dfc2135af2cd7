"""Schedules as YAML: what `hotpath schedule export` writes and `import` reads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from hotpath.cli.yaml_files import read_yaml, to_yaml
from hotpath.core.schedules import WITHIN
from hotpath.errors import UsageError
from hotpath.store.schedules import Schedule

MAX_BYTES = 16 << 20
FIELDS = (
    "script", "args", "cron", "every", "at", "timezone", "catch_up", "catch_up_within", "overlap", "tag",
    "priority", "timeout",
)  # fmt: skip
_DEFAULTS = {
    "args": {}, "timezone": "UTC", "catch_up": "last", "catch_up_within": WITHIN, "overlap": "allow",
    "tag": None, "priority": 0, "timeout": None,
}  # fmt: skip
_HEAD = """\
# Schedules, for `hotpath schedule import`. The args of their jobs stand here as they are, secrets too.
"""


def to_file(schedules: Iterable[Schedule]) -> str:
    """Schedules as a file: of each what is not the default, and whether it is paused; without those that are
    over.
    """
    documents: dict[str, Any] = {}
    for each in schedules:
        if each.state == "over":
            continue
        every = float(each.expression) if each.kind == "every" else 0.0
        found: dict[str, Any] = {"script": each.script, each.kind: every or each.expression}
        found |= {
            name: getattr(each, name)
            for name, default in _DEFAULTS.items()
            if getattr(each, name) != default and not (name == "catch_up_within" and each.catch_up == "none")
        }
        documents[each.name] = found if each.enabled else found | {"paused": True}
    return _HEAD + to_yaml({"schedules": documents})


def read_file(name: str) -> dict[str, dict[str, Any]]:
    """The schedules of a file (`-`: stdin), by name: what is given for each. Raises `UsageError` that names
    the schedule and the field.
    """
    schedules = read_yaml(name, "schedule", MAX_BYTES)
    for schedule, given in schedules.items():
        where = f"{name}: schedule {str(schedule)[:80]}"
        if not isinstance(schedule, str) or not isinstance(given, dict):
            raise UsageError(f"{where}: expected a name, and below it its fields")
        if isinstance(given.get("at"), datetime):  # YAML has times of its own
            given["at"] = given["at"].isoformat()
        for field, value in given.items():
            if field not in (*FIELDS, "paused"):
                raise UsageError(
                    f"{where}: field `{field}` is unknown; there are {', '.join(FIELDS)}, paused"
                )
            if not isinstance(value, _types(field)) or (isinstance(value, bool) and field != "paused"):
                raise UsageError(f"{where}: field `{field}` cannot be {str(value)[:60]!r}")
    return schedules


def _types(field: str) -> tuple[type, ...]:
    match field:
        case "args":
            return (dict,)
        case "paused":
            return (bool,)
        case "priority":
            return (int,)
        case "catch_up_within" | "timeout":
            return (int, float)
        case "every":
            return (int, float, str)
    return (str,)
