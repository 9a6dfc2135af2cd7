"""`hotpath migrate`: create or upgrade the schema."""

from __future__ import annotations

import click

from hotpath.cli.options import Given, common


@click.command("migrate")
@common
def command(given: Given) -> int:
    """Create the schema `hotpath` in the database, or bring it up to date."""
    return given.run(_migrate, given)


async def _migrate(given: Given) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.database import open_database
    from hotpath.store.migrate import installed_version, migrate

    async with open_database(given.config, schema=False) as database, database.connection() as connection:
        applied = await migrate(connection)
        version = await installed_version(connection)
    if given.json:
        print_json({"applied": applied, "version": version})
    elif applied:
        print(f"applied {', '.join(applied)}; the schema is at version {version}")
    else:
        print(f"nothing to do; the schema is at version {version}")
    return 0
