"""`hotpath scripts`: the versions that the database knows."""

from __future__ import annotations

import click

from hotpath.cli.options import Given, common


@click.command("scripts")
@common
def command(given: Given) -> int:
    """List the scripts in the database with all their versions; `*` marks the one that new jobs are checked
    against.
    """
    return given.run(_list, given)


async def _list(given: Given) -> int:
    from hotpath.cli.output import print_json, print_table
    from hotpath.documents import version_document
    from hotpath.store.database import open_database
    from hotpath.store.scripts import versions
    from hotpath.words import clock

    async with open_database(given.config) as database, database.connection() as connection:
        found = await versions(connection)
    if given.json:
        for each in found:
            print_json(version_document(each))
        return 0
    print_table(
        ("SCRIPT", "", "VERSION", "KIND", "TAG", "REGISTERED", "ARGS", "SUMMARY"),
        [
            (
                each.version.description.path,
                "*" if each.current else "",
                each.version.description.hash[:12],
                "async" if each.version.description.is_async else "sync",
                each.tag,
                clock(each.version.created_at),
                ", ".join(each.version.description.schema.get("properties", {})) or "-",
                each.version.description.summary,
            )
            for each in found
        ],
    )
    return 0
