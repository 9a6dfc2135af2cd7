"""Schedules as YAML: what `hotpath schedule export` writes and `import` reads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from hotpath.cli.yaml_files import read_yaml, to_yaml
from hotpath.core.schedules import WITHIN, parse_span
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
            if getattr(each, name) != default and not _is_idle(each, name)
        }
        documents[each.name] = found if each.enabled else found | {"paused": True}
    return _HEAD + to_yaml({"schedules": documents})


def _is_idle(schedule: Schedule, field: str) -> bool:
    """Whether what the schedule still has of an earlier time says nothing now, and would be refused."""
    match field:
        case "catch_up_within":
            return schedule.catch_up == "none"
        case "timezone":
            return schedule.kind == "every"
    return False


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
            types, expected = _types(field)
            if not isinstance(value, types) or (isinstance(value, bool) and field != "paused"):
                raise UsageError(f"{where}: field `{field}` cannot be {str(value)[:60]!r}; give {expected}")
        if isinstance(within := given.get("catch_up_within"), str):
            given["catch_up_within"] = parse_span(within, f"{where}: field `catch_up_within`")
    return schedules


def _types(field: str) -> tuple[tuple[type, ...], str]:
    """What a field may be, for the program and for people."""
    match field:
        case "args":
            return (dict,), "the args by their names"
        case "paused":
            return (bool,), "true or false"
        case "priority":
            return (int,), "a whole number"
        case "timeout":
            return (int, float), "seconds"
        case "every" | "catch_up_within":
            return (int, float, str), "seconds, or a span such as 90s, 10m, 2h or 7d"
    return (str,), "text"
