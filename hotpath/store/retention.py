"""For how long what is kept: what is said in the database and by scripts, and what it adds up to.

Of each field (`jobs`, `results`, `args`, `logs`) counts what is said first: by the database for the script,
by the script itself (`hotpath.settings(retention=...)`, `NAME.script.yaml`), by the database for all. What
nobody says anything of is kept for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.core.names import fault_of
from hotpath.core.retention import (
    FIELDS,
    FOREVER_TEXT,
    Keep,
    effective,
    format_size,
    format_span,
    parse_size,
    parse_span,
)
from hotpath.errors import UsageError
from hotpath.model import Retention
from hotpath.store.queries import query
from hotpath.store.scripts import unknown_script

ALL = ""
"""Name under which the database says something for all scripts."""
_decode = msgspec.json.decode


@attrs.frozen
class Entry:
    """What the database says for a script, or for all (`script` is None)."""

    script: str | None
    said: Retention
    """In seconds; None: not said."""
    disk: int | None = None
    """For all: bytes that all tables together may take."""
    remarks: tuple[str, ...] = ()
    """What of it does not come out as it was said, or takes something away at once; when it is set."""


@attrs.frozen
class ScriptRule:
    """What counts for a script."""

    id: int
    name: str
    since: datetime
    """When the script was registered."""
    own: Retention | None
    """What its current version says of itself."""
    keep: Keep
    """All taken together."""


@attrs.frozen
class Rules:
    """All that is said, and what it adds up to."""

    default: Entry
    entries: list[Entry]
    """For scripts, by name; of such too as nobody has registered yet."""
    scripts: list[ScriptRule]

    @property
    def keep(self) -> Keep:
        """What counts for scripts of which nothing is said."""
        return effective(self.default.said)

    @property
    def keeps(self) -> Mapping[int, Keep]:
        """What counts, by the number of the script."""
        return {script.id: script.keep for script in self.scripts}

    @property
    def born(self) -> Mapping[int, datetime]:
        """Since when there is a script, by its number."""
        return {script.id: script.since for script in self.scripts}


async def read_rules(connection: asyncpg_trio.Connection) -> Rules:
    """What is said now."""
    said: dict[str, Entry] = {}
    for row in await connection.fetch(query("retention_rules")):
        spans = Retention(**{field: row[field] for field in FIELDS})
        said[row["script"]] = Entry(row["script"] or None, spans, row["disk"])
    default = said.pop(ALL, Entry(None, Retention()))
    scripts = []
    for row in await connection.fetch(query("retention_scripts")):
        own = _own(row["said"])
        # Jobs that are pinned to a version of a script are of a script of their own, `NAME@HASH`.
        entry = said.get(row["name"]) or said.get(row["name"].partition("@")[0])
        keep = effective(None if entry is None else entry.said, own, default.said)
        scripts.append(ScriptRule(row["id"], row["name"], row["created_at"], own, keep))
    return Rules(default, list(said.values()), scripts)


async def set_rule(
    connection: asyncpg_trio.Connection,
    script: str | None,
    spans: Mapping[str, Any],
    *,
    disk: Any = None,
) -> Entry:
    """Say for how long things are kept, for a script or (None) for all: spans as people write them, by field;
    what is not given stays as it was said; a `disk` of `"forever"` is no bound. Returns what is said now.
    Raises `UsageError` that names the field, for a script that nobody has registered, too.
    """
    values: dict[str, float] = {}
    for name, span in spans.items():
        if name not in FIELDS:
            raise UsageError(f"{name} is nothing that is kept: there are {', '.join(FIELDS)}")
        if span is not None:
            try:
                values[name] = parse_span(span)
            except ValueError as error:
                raise UsageError(f"{name} must be {error}") from None
    size, unbound = None, disk == FOREVER_TEXT
    if disk is not None:
        if script is not None:
            raise UsageError("disk is a bound of all tables together: say it without a script")
        try:
            size = None if unbound else parse_size(disk)
        except ValueError as error:
            raise UsageError(f"disk must be {error}; `{FOREVER_TEXT}` is no bound") from None
    if not values and size is None and not unbound:
        raise UsageError(f"say for how long: {', '.join(FIELDS)}{'' if script else ' or disk'}")
    if script is not None:
        await _check_script(connection, script)
    async with connection.transaction():
        spanned = [values.get(field) for field in FIELDS]
        await connection.execute(query("retention_put"), script or ALL, *spanned, size, unbound)
        await connection.execute(query("config_changed"), f"retention:{script or ALL}")
    rules = await read_rules(connection)
    if script is None:
        entry, keep = rules.default, rules.keep
    else:
        entry = next(entry for entry in rules.entries if entry.script == script)
        keep = next(each.keep for each in rules.scripts if each.name == script)
    remarks = outlived(entry.said, keep)
    if size is not None:
        row = await connection.fetchrow(query("prune_size"))
        assert row is not None, "an aggregate has one row"
        if row["bytes"] > size:
            now = f"the tables take {format_size(row['bytes'])} now"
            remarks += (f"disk {format_size(size)}: {now}, so the oldest days go, whatever their rule",)
    return attrs.evolve(entry, remarks=remarks)


def outlived(said: Retention, keep: Keep) -> tuple[str, ...]:
    """Remarks about what was said to be kept for longer than the job itself is."""
    spans = {field: getattr(said, field) for field in FIELDS}
    return tuple(
        f"{field} {format_span(span)}: kept for {format_span(keep.jobs)}, since nothing of a job outlives it"
        for field, span in spans.items()
        if span is not None and span > keep.jobs
    )


async def clear_rule(connection: asyncpg_trio.Connection, script: str | None) -> bool:
    """Say nothing any more for a script, or for all (None); whether something was said."""
    async with connection.transaction():
        cleared = bool(await connection.fetchval(query("retention_clear"), script or ALL))
        await connection.execute(query("config_changed"), f"retention:{script or ALL}")
    return cleared


async def _check_script(connection: asyncpg_trio.Connection, script: str) -> None:
    if fault := fault_of(script):
        raise UsageError(f"script {script[:80]!r} cannot be the name of a script: {fault}")
    rows = await connection.fetch(query("script_names"))
    if all(row["name"] != script for row in rows):
        raise UsageError(await unknown_script(connection, script))


def _own(raw: str | None) -> Retention | None:
    if raw is None or raw == "null":
        return None
    said = _decode(raw)
    return Retention(**{field: said.get(field) for field in FIELDS})


def retention_document(said: Retention | Keep | None) -> dict[str, Any] | None:
    """Spans as programs see them: texts such as `30d` or `forever`; None where nothing is said."""
    return None if said is None else {field: format_span(getattr(said, field)) for field in FIELDS}


def rules_document(rules: Rules) -> dict[str, Any]:
    """All that is said as programs see it."""
    entries = {entry.script: entry for entry in rules.entries}
    return {
        "default": {**(retention_document(rules.default.said) or {}), "disk": rules.default.disk},
        "scripts": [
            {
                "script": script.name,
                "database": retention_document(entries[script.name].said) if script.name in entries else None,
                "own": retention_document(script.own),
                "kept": retention_document(script.keep),
            }
            for script in rules.scripts
        ],
        "kept": retention_document(rules.keep),
    }
