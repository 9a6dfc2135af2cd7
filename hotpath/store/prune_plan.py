"""What retention does not keep any more, as it is now: whole days to drop, days to go through, objects of the
log store, and whether the tables are within the bound of the disk. Nothing is changed by looking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

import attrs

from hotpath import asyncpg_trio
from hotpath.core.retention import (
    Due,
    Keep,
    due_of,
    end_of,
    format_size,
    format_span,
    is_over,
    logs_due_of,
    longest,
)
from hotpath.store.queries import query
from hotpath.store.retention import Rules, read_rules

DISK = "disk"
"""Reason of a day that goes for the sake of the disk."""
LOOKED_AT = 500
"""Blocks of a day that are looked at to estimate what of it would go."""


@attrs.frozen
class Part:
    """The partition of a day that is over."""

    name: str
    parent: str
    day: date
    state: str
    """`attached`, `pending`: a detachment was cut off half-way, or `detached`: it is no partition any more.
    """
    bytes: int
    rows: int
    """As the server estimates them."""
    blocks: int
    mine: bool
    """Whether the right to drop it is there."""
    detach: str
    remove: str
    vacuum: str

    @property
    def span(self) -> tuple[datetime, datetime]:
        """Begin and end of its day."""
        return end_of(date.fromordinal(self.day.toordinal() - 1)), end_of(self.day)


@attrs.frozen
class Drop:
    """A partition that goes whole, and why."""

    part: Part
    why: str


@attrs.frozen
class Pass:
    """A day that is to be gone through."""

    name: str
    kind: str
    """`jobs`, `logs`, or `moved`: logs in a store."""
    day: date
    due: Due
    at: int
    """Block (object) to begin with."""
    until: int
    """Block behind the last, or the last object."""
    passed_over: int = 0
    """By what was done of it before."""
    part: Part | None = None


@attrs.frozen
class Objects:
    """Objects of a store, of one day, that go whole."""

    store: str
    day: date
    objects: int
    bytes: int


@attrs.frozen
class Disk:
    """What the tables take, and may take."""

    bytes: int
    bound: int | None
    after: int
    """Bytes when all that is planned has been dropped."""

    @property
    def held(self) -> bool:
        """Whether the bound holds then."""
        return self.bound is None or self.after <= self.bound


@attrs.frozen
class Plan:
    """What there is to do."""

    now: datetime
    rules: Rules
    drops: list[Drop]
    passes: list[Pass]
    objects: list[Objects]
    logs_before: date | None
    """Objects of days before this one go whole."""
    disk: Disk
    rest: list[Part]
    """The days that stay."""


async def make_plan(connection: asyncpg_trio.Connection) -> Plan:
    """Look at the rules, the days and the disk, and say what there is to do."""
    rules = await read_rules(connection)
    size = await connection.fetchrow(query("prune_size"))
    assert size is not None, "a query without a table has one row"
    parts = [_part(row) for row in await connection.fetch(query("prune_days"))]
    return await _decide(connection, rules, size["now"], size["bytes"], parts)


async def _decide(
    connection: asyncpg_trio.Connection, rules: Rules, now: datetime, total: int, parts: list[Part]
) -> Plan:
    keeps, born = rules.keeps, rules.born
    most = longest(keeps, rules.keep)
    drops = [Drop(part, why) for part in parts if (why := _why(part, most, now)) is not None]
    bound = rules.default.disk
    after = total - sum(drop.part.bytes for drop in drops)
    gone = {drop.part.name for drop in drops}
    for day in sorted({part.day for part in parts}) if bound is not None else ():
        if bound is None or after <= bound:
            break
        more = [part for part in parts if part.day == day and part.name not in gone]
        drops += [Drop(part, f"{DISK} {format_size(bound)}") for part in more]
        gone |= {part.name for part in more}
        after -= sum(part.bytes for part in more)
    rest = [part for part in parts if part.name not in gone]
    objects = [dict(row) for row in await connection.fetch(query("prune_object_days"))]
    logs_before = _before({row["day"] for row in objects}, drops, most.logs, now)
    whole = [
        Objects(row["store"], row["day"], row["objects"], row["bytes"])
        for row in objects
        if logs_before is not None and row["day"] < logs_before
    ]
    done = {row["part"]: row for row in await connection.fetch(query("prune_progress"))}
    passes = [
        *_passes(rest, now, keeps, born, done),
        *_moved(objects, logs_before, now, keeps, born, done),
    ]
    return Plan(now, rules, drops, passes, whole, logs_before, Disk(total, bound, after), rest)


def _part(row: Any) -> Part:
    return Part(**{field.name: row[field.name] for field in attrs.fields(Part)})


def _why(part: Part, most: Keep, now: datetime) -> str | None:
    """Why the whole of a day goes; None: it does not."""
    if part.state != "attached":
        return "detached before"
    field = "logs" if part.parent == "job_log" else "jobs"
    span: float = getattr(most, field)
    return f"{field} {format_span(span)}" if is_over(part.day, span, now) else None


def _before(days: Iterable[date], drops: list[Drop], logs: float, now: datetime) -> date | None:
    """The day before which all objects go: by the rule, and with the days that go for the disk's sake."""
    dropped = [drop.part.day for drop in drops if drop.why.startswith(DISK)]
    over = [day for day in days if is_over(day, logs, now) or (dropped and day <= max(dropped))]
    return date.fromordinal(max(over).toordinal() + 1) if over else None


def _passes(
    parts: list[Part],
    now: datetime,
    keeps: Mapping[int, Keep],
    born: Mapping[int, datetime],
    done: Mapping[str, Any],
) -> list[Pass]:
    found = []
    for part in parts:
        if part.parent == "job_attempt":
            continue  # its rows go with those of job_done
        is_log = part.parent == "job_log"
        due = (logs_due_of if is_log else due_of)(part.day, now, keeps, born)
        if due and part.blocks:
            kind = "logs" if is_log else "jobs"
            one = _resumed(part.name, kind, part.day, due, part.blocks, done.get(part.name))
            if one is not None:
                found.append(attrs.evolve(one, part=part))
    return found


def _moved(
    objects: list[dict[str, Any]],
    logs_before: date | None,
    now: datetime,
    keeps: Mapping[int, Keep],
    born: Mapping[int, datetime],
    done: Mapping[str, Any],
) -> list[Pass]:
    found = []
    lasts: dict[date, int] = {}
    for row in objects:
        lasts[row["day"]] = max(row["last"], lasts.get(row["day"], 0))
    for day, last in lasts.items():
        due = logs_due_of(day, now, keeps, born)
        if due and (logs_before is None or day >= logs_before):
            name = f"log_moved_{day:%Y%m%d}"
            one = _resumed(name, "moved", day, due, last, done.get(name))
            if one is not None:
                found.append(one)
    return found


def _resumed(name: str, kind: str, day: date, due: Due, until: int, done: Any) -> Pass | None:
    """The pass, from where it has got to; None: that has been done."""
    if done is not None:
        before = Due(frozenset(done["jobs"]), frozenset(done["results"]), frozenset(done["args"]))
        if due.is_within(before) and (kind != "moved" or until <= done["until"]):
            if done["at"] is not None:
                return Pass(name, kind, day, before, done["at"], done["until"], done["passed_over"])
            if not (done["passed_over"] and done["old"]):
                return None
    return Pass(name, kind, day, due, 0, until)


@attrs.frozen
class Estimate:
    """About what one pass takes away."""

    one: Pass
    rows: dict[str, int]
    bytes: dict[str, int]


async def estimate(connection: asyncpg_trio.Connection, one: Pass) -> Estimate:
    """Look at a part of the day, and say about how much of it would go."""
    if one.part is None:
        return Estimate(one, {}, {})
    share = min(1.0, LOOKED_AT / max(one.part.blocks, 1))
    scripts = [sorted(one.due.jobs)]
    names: tuple[str, ...] = ("logs",)
    statement = "prune_sample_logs"
    if one.kind == "jobs":
        scripts += [sorted(one.due.results), sorted(one.due.args)]
        names, statement = ("jobs", "results", "args"), "prune_sample"
    row = await connection.fetchrow(query(statement), *one.part.span, share * 100, *scripts)
    assert row is not None, "counts come back"
    rows = {name: round(row[name] / share) for name in names if row[name]}
    return Estimate(one, rows, {name: round(row[f"{name}_bytes"] / share) for name in rows})


def plan_document(plan: Plan, estimates: list[Estimate]) -> dict[str, Any]:
    """What there is to do as programs see it."""
    names = {script.id: script.name for script in plan.rules.scripts}
    return {
        "partitions": [
            {
                "name": drop.part.name, "day": drop.part.day, "why": drop.why, "rows": drop.part.rows,
                "bytes": drop.part.bytes, "allowed": drop.part.mine,
            }
            for drop in plan.drops
        ],
        "days": [
            {
                "name": each.one.name, "day": each.one.day,
                "scripts": {
                    field: sorted(names.get(script, str(script)) for script in getattr(each.one.due, field))
                    for field in ("jobs", "results", "args")
                    if getattr(each.one.due, field)
                },
                "rows": each.rows, "bytes": each.bytes,
            }
            for each in estimates
        ],
        "objects": [attrs.asdict(each) for each in plan.objects],
        "disk": {**attrs.asdict(plan.disk), "held": plan.disk.held},
    }  # fmt: skip
