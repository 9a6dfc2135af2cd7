"""Tags that are paused: jobs wait in them, and nobody claims any."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from hotpath import asyncpg_trio
from hotpath.core.tags import WILD
from hotpath.errors import UsageError
from hotpath.store.jobs import check_options, refusals
from hotpath.store.queries import query
from hotpath.store.scripts import is_text
from hotpath.words import clock

REASON_BYTES = 1000
NAME_BYTES = 100


@attrs.frozen
class Pause:
    """A tag that is paused."""

    tag: str
    until: datetime | None
    """None: until it is resumed."""
    reason: str
    paused_by: str
    paused_at: datetime

    @property
    def text(self) -> str:
        """For people."""
        until = "until it is resumed" if self.until is None else f"until {clock(self.until)}"
        who = f" by {self.paused_by}" if self.paused_by else ""
        return f"paused{who} {until}" + (f": {self.reason}" if self.reason else "")


async def pause_tag(
    connection: asyncpg_trio.Connection,
    tag: str,
    *,
    until: datetime | None = None,
    reason: str = "",
    by: str = "",
) -> Pause:
    """Have nobody claim from this tag until it is resumed, or until then. What was said before is replaced.

    Raises `UsageError` that names the field.
    """
    check_options(tag, 0, None)
    for name, text in (("reason", reason), ("by", by)):
        if not is_text(text) or len(text.encode()) > REASON_BYTES:
            raise UsageError(f"{name} must be text of at most {REASON_BYTES} bytes, without NUL")
    if until is not None:
        if until.tzinfo is None:
            raise UsageError(f"until must be a time with a time zone, not {until}")
        if until <= datetime.now(UTC):
            raise UsageError(f"until must be a time to come, not {clock(until)}")
    with refusals(tag):
        await connection.execute(query("pause_tag"), tag, until, reason, by)
    found = (await read_pauses(connection)).get(tag)
    if found is None:
        raise UsageError(f"until must be a time to come by the database's clock, not {until}")
    return found


async def remark_of(connection: asyncpg_trio.Connection, tag: str) -> str | None:
    """What somebody who is about to pause this tag may not have meant. Raises `UsageError` for what is
    no tag.
    """
    check_options(tag, 0, None)
    if WILD in tag:
        return f"{tag!r} is the name of one tag: there are no patterns here"
    unknown = await connection.fetch(query("group_tags_unknown"), [tag])
    return "no script or job has this tag so far" if unknown else None


async def resume_tag(connection: asyncpg_trio.Connection, tag: str) -> bool:
    """Have workers claim from the tag again, at once; False when it was not paused."""
    check_options(tag, 0, None)
    return bool(await connection.fetchval(query("resume_tag"), tag))


async def read_pauses(connection: asyncpg_trio.Connection) -> Mapping[str, Pause]:
    """Tags that are paused now, by name."""
    return {
        row["tag"]: Pause(row["tag"], row["until"], row["reason"], row["paused_by"], row["paused_at"])
        for row in await connection.fetch(query("pauses"))
    }


def pause_document(pause: Pause) -> dict[str, Any]:
    """A pause as JSON."""
    return attrs.asdict(pause)


async def name_workspace(connection: asyncpg_trio.Connection, name: str) -> str:
    """Have `$workspace` in tags and keys be this from now on. Raises `UsageError`."""
    if not is_text(name) or not 0 < len(name.encode()) <= NAME_BYTES or not name.isprintable():
        raise UsageError(f"the workspace's name must be 1 to {NAME_BYTES} printable bytes, not {name[:80]!r}")
    return str(await connection.fetchval(query("name_workspace"), name))
