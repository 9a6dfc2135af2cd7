"""`hotpath tag`: pause tags, and resume them."""

from __future__ import annotations

import getpass
import re
import socket
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from hotpath.cli.options import Given, Parameter, common

_FOR = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class For(Parameter):
    """How long."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time that is so far from now."""
        if isinstance(value, datetime):
            return value
        found = _FOR.fullmatch(value)
        if found is None or not float(found[1]):
            self.fail(f"{value!r} is no time: give 90s, 10m, 2h, 7d or the like", param, ctx)
        try:
            return datetime.now(UTC) + timedelta(**{_UNITS[found[2]]: float(found[1])})
        except OverflowError:
            self.fail(f"{value!r} is longer than there will be dates", param, ctx)


class Until(Parameter):
    """A time to come."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time that `value` means, with a time zone: the local one where it names none."""
        try:
            found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time: give 2026-01-31T12:00:00Z or the like", param, ctx)
        return found if found.tzinfo else found.astimezone()


def caller() -> str:
    """Who gives the command."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"[:200]
    except (KeyError, OSError):  # a user without a name
        return socket.gethostname()[:200]


@click.group("tag")
def command() -> None:
    """Pause and resume tags."""


@command.command("pause")
@click.argument("tag")
@click.option("--until", type=Until(), metavar="TIME", help="Resume by itself then.")
@click.option(
    "--for", "length", type=For(), metavar="TIME", help="Resume by itself after so long: 90s, 10m, 2h, 7d."
)
@click.option("--reason", default="", metavar="TEXT", help="Shown wherever the tag is.")
@common
def pause(given: Given, *, tag: str, until: datetime | None, length: datetime | None, reason: str) -> int:
    """Have no worker claim jobs that wait in TAG. What runs goes on; more may be put in."""
    if until is not None and length is not None:
        raise click.UsageError("--until and --for both say when it ends; give one of them")
    return given.run(_pause, given, tag, until or length, reason)


@command.command("resume")
@click.argument("tag")
@common
def resume(given: Given, *, tag: str) -> int:
    """Have workers claim jobs of TAG again, at once."""
    return given.run(_resume, given, tag)


@command.command("list")
@common
def list_(given: Given) -> int:
    """List the tags that are paused."""
    return given.run(_list, given)


@command.command("workspace")
@click.argument("name", required=False)
@common
def workspace(given: Given, *, name: str | None) -> int:
    """Show what `$workspace` stands for in tags and keys, or have it be NAME from now on."""
    return given.run(_workspace, given, name)


async def _pause(given: Given, tag: str, until: datetime | None, reason: str) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.store.database import open_database
    from hotpath.store.pauses import pause_document, pause_tag, remark_of

    async with open_database(given.config) as database, database.connection() as connection:
        remark = await remark_of(connection, tag)
        found = await pause_tag(connection, tag, until=until, reason=reason, by=caller())
    if given.json:
        print_json(pause_document(found))
    else:
        print(f"{found.tag}: {found.text}")
    if remark is not None:
        click.echo(printable(f"hotpath: {tag}: {remark}", sys.stderr), err=True)
    return 0


async def _resume(given: Given, tag: str) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.database import open_database
    from hotpath.store.pauses import resume_tag

    async with open_database(given.config) as database, database.connection() as connection:
        resumed = await resume_tag(connection, tag)
    if given.json:
        print_json({"tag": tag, "resumed": resumed})
    else:
        print(f"{tag}: resumed" if resumed else f"{tag} was not paused")
    return 0


async def _list(given: Given) -> int:
    from hotpath.cli.output import print_json, print_table
    from hotpath.store.database import open_database
    from hotpath.store.pauses import pause_document, read_pauses
    from hotpath.words import clock

    async with open_database(given.config) as database, database.connection() as connection:
        found = list((await read_pauses(connection)).values())
    if given.json:
        print_json({"paused": [pause_document(one) for one in found]})
    elif not found:
        print("no tag is paused")
    else:
        rows = [(one.tag, clock(one.until), clock(one.paused_at), one.paused_by, one.reason) for one in found]
        print_table(("TAG", "UNTIL", "PAUSED AT", "BY", "REASON"), rows)
    return 0


async def _workspace(given: Given, name: str | None) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.database import open_database
    from hotpath.store.pauses import name_workspace
    from hotpath.store.queries import query

    async with open_database(given.config) as database, database.connection() as connection:
        if name is None:
            found = await connection.fetchval(query("workspace"))
        else:
            found = await name_workspace(connection, name)
    print_json({"workspace": found}) if given.json else print(found)
    return 0
