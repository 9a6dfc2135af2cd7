"""`hotpath retention`: for how long jobs, results, args and logs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.store.retention import Rules


@click.group("retention")
def command() -> None:
    """Say for how long jobs, results, args and logs are kept; `hotpath prune` and whoever keeps house drop
    the rest.
    """


@command.command("set")
@click.option("--script", metavar="NAME", help="Only for the jobs of this script. [all]")
@click.option("--jobs", metavar="SPAN", help="The job itself; nothing of it is kept for longer.")
@click.option("--results", metavar="SPAN", help="Results.")
@click.option("--args", metavar="SPAN", help="Args; without them a job cannot be run again.")
@click.option("--logs", metavar="SPAN", help="Logs.")
@click.option(
    "--disk",
    metavar="SIZE",
    help="What all tables may take, such as 20G: the oldest days go first. `forever`: no bound.",
)
@common
def set_(given: Given, *, script: str | None, disk: str | None, **spans: str | None) -> int:
    """Say for how long things are kept: 12h, 30d, 8w or `forever`, counted from the end of the day (UTC) on
    which a job ended. What is not given stays as it was said.
    """
    return given.run(_set, given, script, spans, disk)


@command.command("show")
@common
def show(given: Given) -> int:
    """Show what is said, for all and for each script, and what it adds up to."""
    return given.run(_show, given)


@command.command("clear")
@click.option("--script", metavar="NAME", help="What is said of this script. [of all]")
@common
def clear(given: Given, *, script: str | None) -> int:
    """Say nothing any more for a script, or for all: what nobody says anything of is kept for ever."""
    return given.run(_clear, given, script)


async def _set(given: Given, script: str | None, spans: Mapping[str, Any], disk: str | None) -> int:
    from hotpath.cli.output import print_json
    from hotpath.core.retention import format_size
    from hotpath.store.database import open_database
    from hotpath.store.retention import retention_document, set_rule

    async with open_database(given.config) as database, database.connection() as connection:
        entry = await set_rule(connection, script, spans, disk=disk)
    for remark in entry.remarks:
        click.echo(f"hotpath: {remark}", err=True)
    said = retention_document(entry.said) or {}
    if given.json:
        print_json({"script": script, **said, "disk": entry.disk})
        return 0
    words = [f"{name} {span}" for name, span in said.items() if span is not None]
    if entry.disk is not None:
        words.append(f"disk {format_size(entry.disk)}")
    print(f"{script or 'all scripts'}: {', '.join(words) or 'nothing is said'}")
    return 0


async def _clear(given: Given, script: str | None) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.database import open_database
    from hotpath.store.retention import clear_rule

    async with open_database(given.config) as database, database.connection() as connection:
        cleared = await clear_rule(connection, script)
    if given.json:
        print_json({"script": script, "cleared": cleared})
    else:
        who = script or "all scripts"
        print(f"nothing is said for {who} any more" if cleared else f"nothing was said for {who}")
    return 0


async def _show(given: Given) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.database import open_database
    from hotpath.store.retention import read_rules, rules_document

    async with open_database(given.config) as database, database.connection() as connection:
        rules = await read_rules(connection)
    if given.json:
        print_json(rules_document(rules))
    else:
        _print(rules)
    return 0


def _print(rules: Rules) -> None:
    from hotpath.cli.output import print_table
    from hotpath.core.retention import FIELDS, format_size, format_span

    entries = {entry.script: entry for entry in rules.entries}
    rows = [("(all)", *(format_span(getattr(rules.keep, field)) or "-" for field in FIELDS), "")]
    for script in rules.scripts:
        entry = entries.get(script.name)
        if entry is None and script.own is None:
            continue
        cells = []
        for field in FIELDS:
            text = format_span(getattr(script.keep, field)) or "-"
            cells.append(text)
        said = [name for name, there in (("database", entry), ("script", script.own)) if there is not None]
        rows.append((script.name, *cells, " and ".join(said)))
    print_table(("SCRIPT", *(field.upper() for field in FIELDS), "SAID BY"), rows)
    if rules.default.disk is not None:
        print(f"\nall tables together: at most {format_size(rules.default.disk)}")
