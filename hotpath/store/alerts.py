"""Alerts in the database: what is watched, where each stands, and the words that are to be delivered.

Any number of supervisors and servers keep them: who has the turn looks, and what it finds, where that moves
an alert and what is to be said of it are one transaction. A word is taken by one of them for a while, and by
another one if that did not deliver it: at least once, and once as long as nobody dies between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.core.alert_channels import Channel, parse_channel
from hotpath.core.alert_rules import Found, Rule, Workers, judge, parse_rule
from hotpath.core.alert_words import Said
from hotpath.core.alerting import Phase, Standing, Timing, Word, advance, pause_after, resume
from hotpath.errors import HotpathError, UsageError
from hotpath.store.queries import query
from hotpath.store.status import read_tags
from hotpath.store.stranded import stranded

LOOK_EVERY = 5.0
"""Seconds between two looks, whoever looks."""
TAKEN = 60.0
"""Seconds for which a word is left to whoever took it."""
GIVE_UP = 86_400.0
"""Seconds after which a word that nobody takes is given up."""
TEST_TRIES = 4
MOST_CHANNELS = 20
MOST_SECONDS = 30 * 86_400.0
COUNTED = 1_000
"""Waiting loose jobs that are counted to find since when the oldest is due: of each tag that many."""


class UnknownAlertError(HotpathError):
    """No alert has this name."""


@attrs.frozen(kw_only=True)
class Alert:
    """An alert, and where it stands."""

    name: str
    rule: str
    channels: tuple[str, ...]
    hold: float
    """Seconds that it has to be so before it fires."""
    clear: float
    """Seconds that it has not to be so before it is over."""
    cooldown: float
    """Seconds from one word that it fires to the next."""
    phase: Phase
    since: datetime
    """When that began."""
    fired_at: datetime | None
    """When it began to fire, if it does."""
    said_at: datetime | None
    """When it was last said to fire."""
    finding: str | None
    """What was found last; None: nobody has looked."""
    silent_until: datetime | None
    """Until when nothing is said, if that is not over."""
    undelivered: int
    """Words that are still to be delivered."""
    problem: str | None
    """Why the last one that was not delivered was not."""
    set_at: datetime


@attrs.frozen(kw_only=True)
class WordState:
    """What became of a word."""

    id: int
    channel: str
    tries: int
    tried_by: str | None
    """Host and process that tried last."""
    problem: str | None
    ended: bool
    """Whether nobody tries any more."""
    delivered: bool


@attrs.frozen(kw_only=True)
class Taken:
    """A word that this process is to deliver."""

    said: Said
    channel: Channel
    tries: int
    """This one included."""


async def set_alert(
    connection: asyncpg_trio.Connection,
    name: str,
    rule: Rule,
    channels: Sequence[Channel],
    timing: Timing,
) -> Alert:
    """Make the alert, or change it; one that watches something else begins anew. Raises `UsageError`."""
    check_alert_name(name)
    if not 1 <= len(channels) <= MOST_CHANNELS:
        raise UsageError(f"to: an alert goes to 1 to {MOST_CHANNELS} channels, not {len(channels)}")
    for field, seconds in (("for", timing.hold), ("clear", timing.clear), ("cooldown", timing.cooldown)):
        if not 0 <= seconds <= MOST_SECONDS or (field == "cooldown" and seconds < 1):
            raise UsageError(f"{field}: {seconds:g} seconds is not from 0 (cooldown: 1) to 30 days")
    async with connection.transaction():
        before = await connection.fetchrow(query("alert_lock"), name)
        await connection.execute(
            query("alert_set"), name, rule.text, [each.text for each in channels],
            timing.hold, timing.clear, timing.cooldown,
        )  # fmt: skip
        if before is not None and before["is_said"] and before["rule"] != rule.text:
            await _say(connection, before, Word.RESOLVED, "it watches something else now")
        await connection.execute(query("config_changed"), f"alert:{name}")
    return await get_alert(connection, name)


async def unheard_of(connection: asyncpg_trio.Connection, rule: Rule) -> list[str]:
    """What the rule names and nobody has heard of so far, in words."""
    (row,) = await connection.fetch(
        query("alert_unknown"), None if rule.on is None else list(rule.on), rule.group
    )
    notes = []
    if row["tags"]:
        notes.append(f"no tag that is known so far matches {','.join(rule.on or ())}")
    if row["worker_group"]:
        notes.append(f"no worker of group {rule.group} was ever there")
    return notes


async def list_alerts(connection: asyncpg_trio.Connection) -> list[Alert]:
    """All of them by name."""
    return [_alert(row) for row in await connection.fetch(query("alert_list"), None)]


async def get_alert(connection: asyncpg_trio.Connection, name: str) -> Alert:
    """The alert of this name. Raises `UnknownAlertError`."""
    for row in await connection.fetch(query("alert_list"), name):
        return _alert(row)
    raise UnknownAlertError(f"there is no alert {name!r}; `hotpath alert list` shows them")


async def last_words(connection: asyncpg_trio.Connection, name: str, limit: int = 20) -> list[dict[str, Any]]:
    """What was said of an alert last, the newest first."""
    return [dict(row) for row in await connection.fetch(query("alert_words"), name, limit)]


async def delete_alert(connection: asyncpg_trio.Connection, name: str) -> None:
    """Forget the alert; where it was said to fire, it is said to be over. Raises `UnknownAlertError`."""
    await get_alert(connection, name)
    async with connection.transaction():
        before = await connection.fetchrow(query("alert_lock"), name)
        await connection.execute(query("alert_delete"), name)
        if before is not None and before["is_said"]:
            await _say(connection, before, Word.RESOLVED, "the alert was deleted")
        await connection.execute(query("config_changed"), f"alert:{name}")


async def silence_alert(connection: asyncpg_trio.Connection, name: str, seconds: float | None) -> Alert:
    """Have it say nothing for so many seconds, None: it may speak again. Raises `UnknownAlertError`."""
    if seconds is not None and not 0 < seconds <= MOST_SECONDS:
        raise UsageError(
            f"for: an alert is silent for more than 0 seconds and at most 30 days, not {seconds:g}"
        )
    async with connection.transaction():
        await connection.execute(query("alert_silence"), name, seconds)
        await connection.execute(query("config_changed"), f"alert:{name}")
    return await get_alert(connection, name)


async def put_test(connection: asyncpg_trio.Connection, name: str) -> list[int]:
    """Put in a word for each channel that says it is a test; return their ids. Raises
    `UnknownAlertError`.
    """
    await get_alert(connection, name)
    async with connection.transaction():
        row = await connection.fetchrow(query("alert_lock"), name)
        words = await _say(connection, row, Word.TEST, "this is a test, nothing is wrong")
        await connection.execute(query("config_changed"), f"alert:{name}")
    return words


async def word_states(connection: asyncpg_trio.Connection, words: Sequence[int]) -> list[WordState]:
    """What has become of these words."""
    rows = await connection.fetch(query("alert_word_state"), list(words))
    return [
        WordState(
            id=row["id"], channel=row["channel"], tries=row["tries"], tried_by=row["tried_by"],
            problem=row["problem"], ended=row["ended_at"] is not None, delivered=row["delivered"],
        )
        for row in rows
    ]  # fmt: skip


async def look_at_alerts(connection: asyncpg_trio.Connection, every: float = LOOK_EVERY) -> int | None:
    """Look at what all alerts watch and move them, unless somebody has within `every` seconds or does now.
    Return how many words there are to deliver; None: it was not our turn.
    """
    async with connection.transaction():
        turn = await connection.fetchrow(query("alert_turn"), every)
        if turn is None:
            return None
        rows = await connection.fetch(query("alert_rules"))
        rules = {row["name"]: rule for row in rows if (rule := _rule(row["rule"])) is not None}
        found = await find(connection, list(rules.values()), turn["now"])
        moves = []
        for row in rows:
            if (rule := rules.get(row["name"])) is not None:
                moves.append(_move(row, rule, found, turn["now"]))
            await trio.lowlevel.checkpoint()  # many rules, and many tags: the heartbeat must not wait for all
        if moves:
            await connection.execute(query("alert_move"), *zip(*(move.values for move in moves), strict=True))
        said = 0
        for move in moves:
            if move.word is not None:
                said += len(await _say(connection, move.about, move.word, move.finding))
        await connection.execute(query("alert_sweep"))
    return said


async def find(connection: asyncpg_trio.Connection, rules: Sequence[Rule], now: datetime) -> Found:
    """What these rules judge by: each thing is read once, and only if one of them asks for it."""
    kinds = {rule.kind for rule in rules}
    workers: dict[str | None, Workers] = {}
    waiting: dict[str, float] = {}
    left: list[tuple[str, str]] = []
    if kinds & {"workers", "short", "lost", "deaf"}:
        for row in await connection.fetch(query("alert_workers")):
            workers[row["name"]] = Workers(
                alive=row["alive"], lost=row["lost"], deaf=row["deaf"], wanted=row["wanted"]
            )
    if "waiting" in kinds:
        for tag, row in (await read_tags(connection, counted=COUNTED)).items():
            if row["oldest"] is not None:
                waiting[tag] = (now - row["oldest"]).total_seconds()
    disk = ""
    if "disk" in kinds:
        (row,) = await connection.fetch(query("alert_disk"))
        if row["held"] is False:
            disk = (
                f"the tables take {row['bytes']:,} bytes, and their bound of {row['bound']:,} cannot be held"
            )
        elif row["dropped"] is not None:
            disk = f"{', '.join(row['dropped'][:5])} went within the last hour, for the disk's sake"
    ended = await _ended(connection, {rule.span for rule in rules if rule.kind == "failures"})
    if "stranded" in kinds:
        left = [(each.tag, each.text) for each in await stranded(connection)]
    return Found(workers=workers, waiting=waiting, ended=ended, stranded=left, disk=disk)


async def _ended(
    connection: asyncpg_trio.Connection, spans: AbstractSet[float]
) -> dict[float, dict[str, tuple[int, int]]]:
    """How many jobs failed, and ended, over the last seconds of each span, by tag: however many spans there
    are, what was counted is read once.
    """
    if not spans:
        return {}
    apart: dict[int, dict[str, tuple[int, int]]] = {}
    for row in await connection.fetch(query("alert_failures"), list(spans)):
        apart.setdefault(row["within"], {})[row["tag"]] = row["failed"], row["ended"]
    found: dict[float, dict[str, tuple[int, int]]] = {}
    counts: dict[str, tuple[int, int]] = {}
    for within, span in zip(range(len(spans), 0, -1), sorted(spans), strict=True):
        counts = dict(counts)
        for tag, (failed, ended) in apart.get(within, {}).items():
            before = counts.get(tag, (0, 0))
            counts[tag] = before[0] + failed, before[1] + ended
        found[span] = counts
        await trio.lowlevel.checkpoint()
    return found


async def take_words(
    connection: asyncpg_trio.Connection, most: int, by: str, lacks: Sequence[str] = ()
) -> list[Taken]:
    """Take at most so many words to deliver, for `TAKEN` seconds; none but tests of the channels `lacks`."""
    taken = []
    for row in await connection.fetch(query("alert_claim"), most, by, TAKEN, list(lacks)):
        said = Said(
            id=row["id"], alert=row["alert"], word=Word(row["word"]), rule=row["rule"],
            finding=row["finding"], fired_at=row["fired_at"], said_at=row["said_at"],
        )  # fmt: skip
        with suppress(UsageError):  # of a newer program: it is taken again, by one that knows it
            taken.append(Taken(said=said, channel=parse_channel(row["channel"]), tries=row["tries"]))
    return taken


async def word_delivered(connection: asyncpg_trio.Connection, word: int) -> None:
    """It is."""
    await connection.execute(query("alert_delivered"), word)


async def word_failed(
    connection: asyncpg_trio.Connection, taken: Taken, problem: str, pause: float | None = None
) -> bool:
    """It is not: try again later, in `pause` seconds or in those that suit. Return whether it was given
    up.
    """
    seconds = pause_after(taken.tries) if pause is None else pause
    # Somebody waits for what becomes of a test; another process may have what this one lacks.
    is_last = taken.said.word is Word.TEST and (pause is None or taken.tries >= TEST_TRIES)
    given_up: bool | None = await connection.fetchval(
        query("alert_failed"), taken.said.id, taken.tries, problem[:500], seconds, GIVE_UP, is_last
    )
    return bool(given_up)


async def next_word(
    connection: asyncpg_trio.Connection, lacks: Sequence[str] = ()
) -> tuple[bool, float | None]:
    """Whether there are alerts, and in how many seconds a word is to be tried; None: there is none, but of
    the channels `lacks`.
    """
    (row,) = await connection.fetch(query("alert_next"), list(lacks))
    return row["any_rules"], row["seconds"]


def check_alert_name(name: str) -> None:
    """Raises `UsageError` for what no alert can be called."""
    good = name.isascii() and 0 < len(name) <= 63 and name[0].isalnum()
    if not good or not all(each.isalnum() or each in "_.-" for each in name):
        raise UsageError(
            f"name: {name[:70]!r} is no name of an alert: 1 to 63 letters, digits and _.-, such as etl-late"
        )


@attrs.frozen
class _Move:
    """Where an alert stands now, and what is to be said of it."""

    values: tuple[Any, ...]
    about: dict[str, Any]
    word: Word | None
    finding: str


def _move(row: Any, rule: Rule, found: Found, now: datetime) -> _Move:
    finding = judge(rule, found)
    before = Standing(
        phase=Phase(row["phase"]), since=row["since"].timestamp(), fired_at=_seconds(row["fired_at"]),
        said_at=_seconds(row["said_at"]), is_said=row["is_said"],
    )  # fmt: skip
    timing = Timing(hold=row["hold_seconds"], clear=row["clear_seconds"], cooldown=row["cooldown_seconds"])
    before = resume(before, now.timestamp(), _seconds(row["looked_at"]))
    after, word = advance(before, timing, now.timestamp(), is_so=finding.is_so, silenced=row["silenced"])
    fired_at = _when(after.fired_at)
    values = (
        row["name"], after.phase.value, _when(after.since), fired_at, _when(after.said_at), after.is_said,
        finding.text,
    )  # fmt: skip
    about = dict(row) | {"fired_at": row["fired_at"] if word is Word.RESOLVED else fired_at}
    return _Move(values, about, word, finding.text)


async def _say(connection: asyncpg_trio.Connection, row: Any, word: Word, finding: str) -> list[int]:
    rows = await connection.fetch(
        query("alert_say"), row["name"], list(row["channels"]), word.value, row["rule"], finding,
        row["fired_at"],
    )  # fmt: skip
    return [each["id"] for each in rows]


def _rule(text: str) -> Rule | None:
    """None for a rule of a newer program."""
    try:
        return parse_rule(text)
    except UsageError:
        return None


def _alert(row: Any) -> Alert:
    return Alert(
        name=row["name"], rule=row["rule"], channels=tuple(row["channels"]), hold=row["hold_seconds"],
        clear=row["clear_seconds"], cooldown=row["cooldown_seconds"], phase=Phase(row["phase"]),
        since=row["since"], fired_at=row["fired_at"], said_at=row["said_at"], finding=row["finding"],
        silent_until=row["silent_until"] if row["silenced"] else None, undelivered=row["undelivered"],
        problem=row["problem"], set_at=row["set_at"],
    )  # fmt: skip


def _seconds(when: datetime | None) -> float | None:
    return None if when is None else when.timestamp()


def _when(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
