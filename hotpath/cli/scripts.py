"""`hotpath scripts`: the versions that the database knows."""

from __future__ import annotations

import click

from hotpath.cli.options import Given, common


@click.command("scripts")
@click.argument("words", nargs=-1, metavar="[NAME | pin NAME [HASH]]")
@common
def command(given: Given, words: tuple[str, ...]) -> int:
    """List the scripts in the database with all their versions; `*` marks the one that runs, and that new
    jobs are checked against.

    With NAME, its versions: when and by whom each was registered and made current, and which workers run it.
    `pin NAME HASH` registers NAME@HASH, so that SQL may enqueue jobs of this one version (of the current one
    without HASH).
    """
    if len(words) > 1 and words[0] == "pin":
        if len(words) > 3:
            raise click.UsageError("`hotpath scripts pin` takes NAME and HASH")
        return given.run(_pin, given, words[1], words[2] if len(words) == 3 else None)
    if len(words) > 1:
        raise click.UsageError(f"got an unexpected argument {words[1]!r}: give one NAME")
    return given.run(_show, given, words[0]) if words else given.run(_list, given)


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
                _kind(each.version.description.kind, is_async=each.version.description.is_async),
                each.tag,
                clock(each.version.created_at),
                ", ".join(each.version.description.schema.get("properties", {})) or "-",
                each.version.description.summary,
            )
            for each in found
        ],
    )
    return 0


def _kind(kind: str, *, is_async: bool) -> str:
    return kind if kind == "flow" else "async" if is_async else "sync"


async def _show(given: Given, name: str) -> int:
    from hotpath.cli.output import print_alarm, print_json, print_table
    from hotpath.documents import seen_version_document
    from hotpath.store.choices import seen_versions, version_workers
    from hotpath.store.database import open_database
    from hotpath.store.scripts import find_script
    from hotpath.words import clock

    async with open_database(given.config) as database, database.connection() as connection:
        script = (await find_script(connection, name)).version.script
        found = await seen_versions(connection, script)
        workers = await version_workers(connection, script)
    if given.json:
        for each in found:
            print_json(seen_version_document(name, each, workers))
        return 0
    print_table(
        ("VERSION", "", "KIND", "REGISTERED", "BY", "CURRENT SINCE", "BY", "WORKERS", "SUMMARY"),
        [
            (
                each.hash[:12],
                "*" if each.current else "",
                _kind(each.kind, is_async=each.is_async),
                clock(each.created_at),
                each.made_by or "-",
                clock(each.chosen_at) + (" (rolled back)" if each.rolled_back else ""),
                each.chosen_by or "-",
                ", ".join(worker.name for worker in workers if worker.version == each.id) or "-",
                each.summary if each.stored else "(source not stored)",
            )
            for each in found
        ],
    )
    for worker in workers:
        if worker.refused is not None:
            print_alarm(
                f"worker {worker.name} keeps version {(worker.hash or '-')[:12]}: version "
                f"{(worker.refused_hash or '')[:12]} cannot be run: {worker.refusal}"
            )
        elif worker.refusal:
            print(f"worker {worker.name} keeps version {(worker.hash or '-')[:12]}: {worker.refusal}")
    return 0


async def _pin(given: Given, name: str, version: str | None) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.choices import pin_version
    from hotpath.store.database import open_database

    async with open_database(given.config) as database, database.connection() as connection:
        pinned = await pin_version(connection, name if version is None else f"{name}@{version}")
    if given.json:
        print_json({"script": pinned})
    else:
        print(pinned)
    return 0
