"""`hotpath limit`: limits of scripts, as they hold now, and set by command."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from hotpath.cli.options import Given, Parameter, common

if TYPE_CHECKING:
    from hotpath.store.limits import ScriptLimit

_RATE = re.compile(r"(\d{1,9})/(\d{1,9}(?:\.\d{1,6})?)([smh]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Rate(Parameter):
    """Jobs in a time."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, float]:
        """The number of jobs and of seconds that `value` means."""
        if isinstance(value, tuple):
            return value
        found = _RATE.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no rate: give jobs and a time, such as 10/60s or 500/1h", param, ctx)
        return int(found[1]), float(found[2]) * _SECONDS[found[3]]


@click.group("limit")
def command() -> None:
    """Say how many jobs of a script may run at a time, or start within a time."""


@command.command("set")
@click.argument("name")
@click.option("--concurrency", type=int, metavar="N", help="Jobs at a time.")
@click.option("--rate", type=Rate(), metavar="N/TIME", help="Starts within a time, such as 10/60s.")
@click.option("--key", metavar="TEXT", help="For each value of this text, such as '$args[customer]'.")
@click.option("--none", "nothing", is_flag=True, help="No limit, although the script has one.")
@common
def set_(
    given: Given,
    *,
    name: str,
    concurrency: int | None,
    rate: tuple[int, float] | None,
    key: str | None,
    nothing: bool,
) -> int:
    """Have the limit of the script NAME be this one from now on, whatever its version says.

    Workers that run heed it within a second; jobs under way go on.
    """
    fields = {"concurrency": concurrency, "rate": rate, "key": key}
    fields = {field: value for field, value in fields.items() if value is not None}
    if nothing and fields:
        raise click.UsageError(f"--none is no limit; leave out --{next(iter(fields))}")
    if not nothing and concurrency is None and rate is None:
        raise click.UsageError("give --concurrency or --rate, or --none for no limit")
    return given.run(_set, given, name, None if nothing else fields)


@command.command("show")
@click.argument("name", required=False)
@common
def show(given: Given, *, name: str | None) -> int:
    """Show the limit of the script NAME, or of all scripts that have one."""
    return given.run(_show, given, name)


@command.command("clear")
@click.argument("name")
@common
def clear(given: Given, *, name: str) -> int:
    """Have what the script NAME says of itself hold again."""
    return given.run(_clear, given, name)


async def _set(given: Given, name: str, fields: dict[str, Any] | None) -> int:
    from hotpath.cli.output import print_json
    from hotpath.cli.tag import caller
    from hotpath.store.database import open_database
    from hotpath.store.limits import limit_text, script_limit_document, set_limit

    async with open_database(given.config) as database, database.connection() as connection:
        found = await set_limit(connection, name, fields, by=caller())
    if given.json:
        print_json(script_limit_document(found))
    else:
        print(f"{found.script}: {limit_text(found.limit)}")
    _print_remarks(found)
    return 0


async def _clear(given: Given, name: str) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.database import open_database
    from hotpath.store.limits import clear_limit, limit_text, script_limit_document

    async with open_database(given.config) as database, database.connection() as connection:
        found, was_set = await clear_limit(connection, name)
    if given.json:
        print_json({**script_limit_document(found), "cleared": was_set})
    else:
        before = "" if was_set else " (nothing was set)"
        print(f"{found.script}: {limit_text(found.limit)}, as its version says{before}")
    _print_remarks(found)
    return 0


async def _show(given: Given, name: str | None) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.database import open_database
    from hotpath.store.limits import read_limits, script_limit_document

    async with open_database(given.config) as database, database.connection() as connection:
        found = await read_limits(connection, name)
    if given.json:
        print_json({"limits": [script_limit_document(one) for one in found]})
    elif not found:
        print("no script has a limit")
    else:
        _print(found)
    return 0


def _print_remarks(found: ScriptLimit) -> None:
    from hotpath.cli.output import printable

    for remark in found.remarks:
        click.echo(printable(f"hotpath: {found.script}: {remark}", sys.stderr), err=True)


def _print(found: list[ScriptLimit]) -> None:
    from hotpath.cli.output import print_table
    from hotpath.store.limits import limit_text
    from hotpath.words import clock

    rows = []
    for one in found:
        said = (
            f"set{f' by {one.set_by}' if one.set_by else ''} {clock(one.set_at)}" if one.is_set else "script"
        )
        started = "-" if one.started is None else f"{one.started:,}"
        rows.append((one.script, limit_text(one.limit), f"{one.running:,}", started, said))
    print_table(("SCRIPT", "LIMIT", "RUNNING", "STARTED", "SAID BY"), rows, right=(2, 3))
