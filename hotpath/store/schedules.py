"""Schedules in the database: set, looked at, paused, run by hand. `hotpath.store.ticks` has them tick.

A schedule names its script, not a version: each tick is checked against the one that is current then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.core import schedules as rules
from hotpath.core.cron import parse_cron
from hotpath.core.placeholders import MISSING, FillError, decode, fill
from hotpath.core.schema import ArgsValidator
from hotpath.core.secrets import Places, masker_of
from hotpath.errors import BadArgsError, HotpathError, UsageError
from hotpath.model import MASK, Job, State
from hotpath.store.jobs import check_options, decode_args, job_of, milliseconds, refusals
from hotpath.store.queries import query
from hotpath.store.scripts import find_script, is_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
PAGE = 1000
"""Schedules that one page of a list may hold."""
MOST_NEXT = 1000
"""Ticks ahead that can be asked for."""
_TIMING = ("cron", "every", "at")


class UnknownScheduleError(HotpathError):
    """No schedule has this name."""


@attrs.frozen(kw_only=True)
class Schedule:
    """A schedule as it is stored."""

    id: int
    name: str
    script: str
    args: dict[str, Any]
    tag: str | None
    priority: int
    timeout: float | None
    kind: str
    """`cron`, `every` or `at`."""
    expression: str
    """A cron expression; seconds; a time in UTC."""
    timezone: str
    anchor: datetime
    """What an interval is counted from."""
    catch_up: str
    catch_up_within: float
    """Seconds."""
    overlap: str
    enabled: bool
    next_at: datetime | None
    """The next tick; None: it is paused, or over."""
    held_at: datetime | None
    """A tick that waits for the job before to end."""
    last_at: datetime | None
    last_job: UUID | None
    ticks: int
    """That became jobs."""
    missed: int
    """That nobody was there for, and that were not caught up: at least so many."""
    skipped: int
    """That were not allowed to overlap."""
    refused: int
    """That could not become jobs."""
    last_error: str | None
    """Why the last tick was refused, unless one was accepted since."""
    last_error_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def state(self) -> str:
        """`active`, `paused`, or `over`: there is no tick to come."""
        if not self.enabled:
            return "paused"
        return "over" if self.next_at is None and self.held_at is None else "active"

    def coming(self, count: int) -> list[datetime]:
        """The next ticks, at most `count`; none of one that is paused or over."""
        if not self.enabled:
            return []
        timing = rules.parse_timing(self.kind, self.expression, zone_of(self.timezone), self.anchor)
        return list(rules.coming(timing, self.next_at, count))


@attrs.frozen
class Tick:
    """One tick that became a job."""

    at: datetime
    by_hand: bool
    job: UUID | None
    state: State | None
    """Of the job; None: nobody knows it any more."""
    started_at: datetime | None
    duration_ms: float | None


def zone_of(name: str) -> tzinfo:
    """The time zone of this name. Raises `UsageError`."""
    import zoneinfo  # only who has a schedule needs it

    try:
        if is_text(name) and len(name) <= 100:
            return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        pass
    raise UsageError(f"timezone: there is no time zone {name[:60]!r}; give one such as Europe/Berlin, or UTC")


async def set_schedule(
    connection: asyncpg_trio.Connection, name: str, given: Mapping[str, Any], *, replace: bool = False
) -> Schedule:
    """Make the schedule, or change what is `given` of one that is there (all of it, with `replace`): script,
    args, tag, priority, timeout, one of cron, every (seconds or a span) and at (a time), timezone, catch_up,
    catch_up_within (seconds), overlap. A value of None is not given; a tag of "" and a timeout of 0 are the
    script's own.

    A new timing begins now; other changes leave the next tick where it is. In force with the commit. Raises
    `UsageError` and `BadArgsError` that name the field, `UnknownScriptError`.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"name: {name[:60]!r} is not 1 to 100 letters, digits, dots, dashes and underscores, a letter or "
            "digit first"
        )
    given = {key: value for key, value in given.items() if value is not None}
    _check_together(given)
    async with connection.transaction():
        begun = await connection.fetchrow(query("schedule_lock"), name)
        assert begun is not None, "a query without a table has one row"
        now = begun["now"]
        there = await _read(connection, name)
        row = _merged(there, {} if replace or there is None else _wanted(there), given, now)
        known = await find_script(connection, row["script"])
        schema = known.version.description.schema
        row["args"] = _args(schema, row["args"])
        await _check_texts(connection, known.version.script, row["tag"], row["args"])
        with refusals(row["script"]):
            stored = await connection.fetchrow(
                query("schedule_put"), name, row["script"], row["args"].decode(), row["tag"], row["priority"],
                row["timeout_ms"], row["kind"], row["expression"], row["timezone"], row["anchor"],
                row["catch_up"], row["catch_up_within"], row["overlap"], row["enabled"], row["next_at"],
                row["held_at"],
            )  # fmt: skip
        await _changed(connection, name)
    return _schedule(stored)


def _check_together(given: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other. Raises `UsageError`."""
    timing = [key for key in _TIMING if key in given]
    if len(timing) > 1:
        raise UsageError(f"{timing[1]} contradicts {timing[0]}: a schedule has one of {', '.join(_TIMING)}")
    if "every" in given and "timezone" in given:
        raise UsageError("timezone contradicts every: an interval goes by no clock on the wall")
    if given.get("catch_up") == "none" and "catch_up_within" in given:
        raise UsageError("catch_up_within contradicts catch_up none: nothing is caught up")
    check_options(
        given.get("tag") or None, given.get("priority", 0), None, given.get("timeout") or None
    )  # what "" and 0 mean, every value of a job would be refused for


def _wanted(there: Schedule) -> dict[str, Any]:
    """A schedule as what was given for it."""
    return {
        "script": there.script, "args": there.args, "tag": there.tag, "priority": there.priority,
        "timeout": there.timeout, "timezone": there.timezone, "catch_up": there.catch_up,
        "catch_up_within": there.catch_up_within, "overlap": there.overlap,
        "kind": there.kind, "expression": there.expression,
    }  # fmt: skip


def _merged(
    there: Schedule | None, before: Mapping[str, Any], given: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The row to be stored. Raises `UsageError`."""
    row: dict[str, Any] = {
        "args": {}, "tag": None, "priority": 0, "timeout": None, "timezone": "UTC", "catch_up": "last",
        "catch_up_within": rules.WITHIN, "overlap": "allow", **before, **given,
    }  # fmt: skip
    if "script" not in row:
        raise UsageError("script is missing: name the script that the schedule is for")
    row["tag"], row["timeout_ms"] = row["tag"] or None, milliseconds(row["timeout"] or None)
    kind = next((key for key in _TIMING if key in given), row.get("kind"))
    if kind is None:
        raise UsageError("when is missing: give one of cron, every and at")
    if kind == "every" and "timezone" in given:
        raise UsageError(f"timezone contradicts the interval that {there.name if there else 'it'} has")
    rules.check_policies(row["catch_up"], row["catch_up_within"], row["overlap"])
    zone = zone_of(row["timezone"])
    row["kind"], row["expression"] = kind, _expression(kind, row, given, zone)
    is_same = there is not None and (kind, row["expression"], row["timezone"]) == (
        there.kind, there.expression, there.timezone,
    )  # fmt: skip
    row["enabled"] = there is None or there.enabled
    if there is not None and is_same:
        row["anchor"], row["next_at"] = there.anchor, there.next_at
        row["held_at"] = there.held_at if row["overlap"] == "queue_one" else None
        return row
    row["anchor"], row["held_at"] = now.replace(microsecond=0), None
    row["next_at"] = _first(kind, row, given, zone, now)
    if not row["enabled"] and kind != "at":
        row["next_at"] = None
    return row


def _expression(kind: str, row: Mapping[str, Any], given: Mapping[str, Any], zone: tzinfo) -> str:
    """What is stored of the timing, checked. Raises `UsageError`."""
    value = given.get(kind, row.get("expression"))
    if kind == "every":
        seconds = rules.parse_span(value, "every") if isinstance(value, str) else float(value)
        return f"{rules.check_every(seconds):.15g}"
    if kind == "at":
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise UsageError(f"at must be a datetime with a time zone, not {value!r}")
            value = value.astimezone(UTC).isoformat()
        return rules.parse_time(value, zone, "at").isoformat()
    return parse_cron(value, zone).expression


def _first(
    kind: str, row: Mapping[str, Any], given: Mapping[str, Any], zone: tzinfo, now: datetime
) -> datetime | None:
    """The first tick. Raises `UsageError` for a time that is over."""
    timing = rules.parse_timing(kind, row["expression"], zone, row["anchor"])
    found = timing.after(now)
    if found is None and isinstance(timing, rules.Once):
        late = (now - timing.at).total_seconds()
        if given.get("catch_up") not in ("last", "all"):
            raise UsageError(
                f"at: {row['expression']} is over; give a later time, or say catch_up last to have it run now"
            )
        if late > row["catch_up_within"]:
            raise UsageError(
                f"at: {row['expression']} is over for longer than catch_up_within, "
                f"{row['catch_up_within']:g} s; give a later time, or a longer catch_up_within"
            )
        return timing.at
    if isinstance(timing, rules.Once) and timing.at - now > rules.FARTHEST:
        raise UsageError(f"at: {row['expression']} is more than a hundred years ahead; give an earlier time")
    return found


def _args(schema: Mapping[str, Any], args: Any) -> bytes:
    """The args as JSON. Raises `BadArgsError`."""
    if not isinstance(args, Mapping):
        raise BadArgsError("args must be one JSON object, such as '{\"x\": 1}'")
    if MASK in Places(schema).texts(args):
        raise BadArgsError(
            f"args: a secret is {MASK}, as it is shown and not as it is; give the secret itself"
        )
    return ArgsValidator(schema).encode(args)


async def _check_texts(
    connection: asyncpg_trio.Connection, script: int, tag: str | None, args: bytes
) -> None:
    """Refuse args that the tag or a key of the jobs cannot be made of: each tick would be refused. Raises
    `BadArgsError` that names the arg.
    """
    said = await connection.fetchrow(query("load_clock"), script)
    assert said is not None, "there is one row of `meta`"
    entry = msgspec.json.decode(said["entry"] or "{}")
    tag = tag or entry.get("tag") or ""
    values = decode(args)
    try:
        fill(tag, values, f"the tag {tag}", workspace=said["workspace"])
        fill(entry.get("key", ""), values, "the key of the limit", missing=MISSING)
        fill(entry.get("unique", {}).get("key", ""), values, "the unique key")
        fill(entry.get("debounce", {}).get("key") or "", values, "the key of debounce")
    except FillError as error:
        raise BadArgsError(str(error)) from None


async def get_schedule(connection: asyncpg_trio.Connection, name: str) -> Schedule:
    """The schedule of this name. Raises `UnknownScheduleError`."""
    found = await _read(connection, name)
    if found is None:
        raise _unknown(name)
    return found


async def list_schedules(
    connection: asyncpg_trio.Connection, *, script: str | None = None, after: str = "", limit: int = PAGE
) -> list[Schedule]:
    """Schedules by name, from behind `after` on. Raises `UsageError`."""
    if not 1 <= limit <= PAGE:
        raise UsageError(f"limit must be from 1 to {PAGE}, not {limit}")
    for field, value in (("script", script), ("after", after)):
        if value is not None and not is_text(value):
            raise UsageError(f"{field} must be text without NUL and without lone surrogates, not {value!r}")
    return [_schedule(row) for row in await connection.fetch(query("schedule_list"), after, script, limit)]


async def delete_schedule(connection: asyncpg_trio.Connection, name: str) -> None:
    """Forget it; its jobs stay. Raises `UnknownScheduleError`."""
    async with connection.transaction():
        if not is_text(name) or await connection.fetchval(query("schedule_delete"), name) is None:
            raise _unknown(name)
        await _changed(connection, name)


async def pause_schedule(connection: asyncpg_trio.Connection, name: str) -> Schedule:
    """Let it not tick until it is resumed; what it has put in goes on. Raises `UnknownScheduleError`."""
    return await _enable(connection, name, enabled=False)


async def resume_schedule(connection: asyncpg_trio.Connection, name: str) -> Schedule:
    """Have it tick again from now on: what came meanwhile is not caught up, but for a time that was to come
    once. Raises `UnknownScheduleError`.
    """
    return await _enable(connection, name, enabled=True)


async def _enable(connection: asyncpg_trio.Connection, name: str, *, enabled: bool) -> Schedule:
    await get_schedule(connection, name)  # before a lock is taken for anything
    async with connection.transaction():
        begun = await connection.fetchrow(query("schedule_lock"), name)
        there = await get_schedule(connection, name)
        if there.enabled == enabled:
            return there
        next_at = there.next_at
        if there.kind != "at":
            timing = rules.parse_timing(there.kind, there.expression, zone_of(there.timezone), there.anchor)
            assert begun is not None, "a query without a table has one row"
            next_at = timing.after(begun["now"]) if enabled else None
        row = await connection.fetchrow(query("schedule_enable"), name, enabled, next_at)
        await _changed(connection, name)
    return _schedule(row)


async def run_schedule(connection: asyncpg_trio.Connection, name: str) -> UUID:
    """A tick now, whatever its times and policies say; the job. Raises `UnknownScheduleError`, and what an
    enqueue raises.
    """
    with refusals(name):
        job: Any = await connection.fetchval(query("schedule_run"), name) if is_text(name) else None
    if job is None:
        raise _unknown(name)
    return UUID(int=job.int)


async def read_ticks(connection: asyncpg_trio.Connection, schedule: Schedule, limit: int) -> list[Tick]:
    """Its last ticks that became jobs, the newest first."""
    return [
        Tick(
            at=row["at"],
            by_hand=row["by_hand"],
            job=None if row["job"] is None else UUID(int=row["job"].int),
            state=None if row["state"] is None else State(row["state"]),
            started_at=row["started_at"],
            duration_ms=row["duration_ms"],
        )
        for row in await connection.fetch(query("schedule_ticks"), schedule.id, limit)
    ]


async def schedule_jobs(connection: asyncpg_trio.Connection, name: str, limit: int) -> list[Job]:
    """Jobs that it has put in, the last tick's first. Raises `UnknownScheduleError`."""
    await get_schedule(connection, name)
    return [job_of(row) for row in await connection.fetch(query("schedule_jobs"), name, limit)]


async def schedule_of(connection: asyncpg_trio.Connection, job: UUID) -> tuple[str, datetime] | None:
    """The schedule that put this job in, and for which of its ticks; None: none that is there."""
    row = await connection.fetchrow(query("schedule_of"), job)
    return None if row is None else (row["name"], row["at"])


async def masked_schedules(
    connection: asyncpg_trio.Connection, schedules: Iterable[Schedule]
) -> list[Schedule]:
    """These as they may be shown: without the secrets in their args."""
    given = list(schedules)
    if not given:
        return given
    rows = await connection.fetch(query("secret_schemas"), sorted({each.script for each in given}))
    places: dict[str, list[Places]] = {}
    for row in rows:
        places.setdefault(row["name"], []).append(Places(msgspec.json.decode(row["schema"])))
    return [_masked(each, places.get(each.script, ())) for each in given]


def _masked(schedule: Schedule, places: Iterable[Places]) -> Schedule:
    args, texts = schedule.args, []
    for each in places:
        texts += each.texts(schedule.args)
        args = each.mask(args)
    if not texts:
        return schedule
    error = schedule.last_error
    masker = masker_of(tuple(sorted(set(texts))))
    return attrs.evolve(schedule, args=args, last_error=None if error is None else masker.text(error))


async def _read(connection: asyncpg_trio.Connection, name: str) -> Schedule | None:
    row = await connection.fetchrow(query("schedule_get"), name) if is_text(name) else None
    return None if row is None else _schedule(row)


async def _changed(connection: asyncpg_trio.Connection, name: str) -> None:
    await connection.execute(query("config_changed"), f"schedule:{name}")


def _unknown(name: str) -> UnknownScheduleError:
    return UnknownScheduleError(
        f"there is no schedule {str(name)[:100]!r}; `hotpath schedule list` shows them"
    )


def _schedule(row: Any) -> Schedule:
    # Not all that a row has: it may be one of a later schema.
    values = {field.name: row[field.name] for field in attrs.fields(Schedule) if field.name != "timeout"}
    timeout, last_job = row["timeout_ms"], values["last_job"]
    values |= {
        "args": decode_args(values["args"]),
        "timeout": None if timeout is None else timeout / 1000,
        "last_job": None if last_job is None else UUID(int=last_job.int),
    }
    return Schedule(**values)
