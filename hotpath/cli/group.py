"""`hotpath group`: what the workers of a group have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.store.groups import Group, GroupWorker, Put, Remark


@click.group("group")
def command() -> None:
    """Configure groups of workers, which heed it within a second."""


@command.command("set")
@click.argument("name")
@click.option(
    "--tags", multiple=True, metavar="A,B", help="Tags by pattern: a, etl-*, !etl-slow; vip:5 has a priority."
)
@click.option(
    "--dedicated", multiple=True, metavar="A,B", help="Scripts or flows that have workers of their own."
)
@click.option("--processes", "-p", type=int, metavar="N", help="Worker processes of each of these.")
@click.option(
    "--concurrency", "-c", type=int, metavar="C", help="Jobs at a time per process, for an async main."
)
@click.option("--env", multiple=True, metavar="K=V", help="A variable of the environment; may be repeated.")
@click.option(
    "--env-from-host",
    multiple=True,
    metavar="A,B",
    help="Variables passed on from the environment of who starts the workers.",
)
@click.option("--path", multiple=True, metavar="A,B", help="Directories more on sys.path.")
@click.option(
    "--init", metavar="TEXT|@FILE", help="Script that runs before any worker; a failure stops them."
)
@click.option("--init-timeout", metavar="S", help="Time that it may take. [5m]")
@click.option(
    "--periodic",
    multiple=True,
    metavar="NAME=EVERY:TEXT|@FILE",
    help="Script that runs again and again, such as clean=10m:@clean.sh; may be repeated.",
)
@click.option("--grace", metavar="S", help="Time that jobs get to finish at SIGTERM.")
@click.option(
    "--lease", metavar="S", help="Time without a sign of life after which others take a worker's jobs."
)
@click.option("--max-jobs", type=int, metavar="N", help="Replace a process that has run N jobs.")
@click.option("--max-rss", metavar="SIZE", help="Replace a process above this memory (512M, 2G).")
@click.option("--slots", type=int, metavar="N", help="Jobs at a time of a normal worker.")
@click.option("--warm", type=int, metavar="N", help="Scripts that a normal worker keeps warm.")
@click.option(
    "--alert-min-workers", type=int, metavar="N", help="Live workers below which there is an alert."
)
@click.option("--unset", multiple=True, metavar="FIELD", help="Take out a field, env.NAME or periodic.NAME.")
@common
def set_(given: Given, *, name: str, unset: tuple[str, ...], **flags: Any) -> int:
    """Change the group NAME, which is made if it is not there. What is not given stays as it is; --env and
    --periodic change entries by their names, all else is changed as a whole.
    """
    from hotpath.cli.group_files import changes_of

    return given.run(_set, given, name, changes_of(flags), unset)


@command.command("show")
@click.argument("name")
@click.option("--reveal", is_flag=True, help="With the values of the environment.")
@common
def show(given: Given, *, name: str, reveal: bool) -> int:
    """Show the configuration of the group NAME, and which workers run it."""
    return given.run(_show, given, name, reveal)


@command.command("list")
@common
def list_(given: Given) -> int:
    """List the groups, and how many workers live in each."""
    return given.run(_list, given)


@command.command("delete")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also while workers live in it: they go on as they are.")
@common
def delete(given: Given, *, name: str, force: bool) -> int:
    """Delete the group NAME."""
    return given.run(_delete, given, name, force)


@command.command("export")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--output", "-o", metavar="FILE", help="Write it there. [stdout]")
@common
def export(given: Given, *, names: tuple[str, ...], output: str | None) -> int:
    """Write groups, by default all, as YAML for `import` and `diff`: with the values of their environment."""
    return given.run(_export, given, names, output)


@command.command("import")
@click.argument("file", metavar="FILE")
@common
def import_(given: Given, *, file: str) -> int:
    """Give each group in FILE (YAML; `-`: stdin) the configuration that stands there: all, or, if anything
    is wrong, none. Other groups are left alone.
    """
    from hotpath.cli.group_files import read_file

    return given.run(_import, given, read_file(file))


@command.command("diff")
@click.argument("file", metavar="FILE")
@click.option("--reveal", is_flag=True, help="With the values of the environment.")
@common
def diff(given: Given, *, file: str, reveal: bool) -> int:
    """Show what `import FILE` would change; exit 1 if it would change anything."""
    from hotpath.cli.group_files import read_file

    return given.run(_diff, given, read_file(file), reveal)


async def _set(given: Given, name: str, changes: dict[str, Any], unset: tuple[str, ...]) -> int:
    from hotpath.groups import changing

    return await _put(given, {name: changing(changes, unset)})


async def _import(given: Given, documents: dict[str, Any]) -> int:
    from hotpath.groups import replacing

    return await _put(given, {name: replacing(document) for name, document in documents.items()})


async def _put(given: Given, changes: dict[str, Any]) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client
    from hotpath.core.group_document import check_name
    from hotpath.store.groups import group_document

    for name in changes:
        check_name(name)
    async with open_client(config=given.config) as client:
        done = await client.put_groups(changes)
        remarks = {
            put.group.name: [*_missing_here(put.group), *await client.group_remarks(put.group)]
            for put in done
        }
        workers = {put.group.name: await client.group_workers(put.group.name) for put in done}
    for put in done:
        group = put.group
        if given.json:
            found = group_document(group, workers[group.name], remarks[group.name])
            print_json(found | {"change": _change(put)})
        else:
            print(printable(f"{_change(put)} {group.name}: revision {group.revision}"))
        for remark in remarks[group.name]:
            click.echo(printable(f"hotpath: {group.name}: {remark.text}"), err=True)
    return 0


def _change(put: Put) -> str:
    return "made" if put.before is None else "changed" if put.is_changed else "unchanged"


def _missing_here(group: Group) -> list[Remark]:
    """What workers that were started here would not start for."""
    import os

    from hotpath.store.groups import Remark

    text = "env_from_host: {} is not set here: a worker that is started without it does not start"
    missing = [name for name in group.config.env_from_host if name not in os.environ]
    return [Remark("env_from_host", text.format(name)) for name in missing]


async def _show(given: Given, name: str, reveal: bool) -> int:  # noqa: FBT001 - called by `given.run`
    from hotpath.cli.output import print_json, print_table, printable
    from hotpath.cli.yaml_files import to_yaml
    from hotpath.client import open_client
    from hotpath.store.groups import group_document
    from hotpath.words import clock

    async with open_client(config=given.config) as client:
        group = await client.group(name)
        workers = await client.group_workers(name)
        remarks = await client.group_remarks(group)
    document = group_document(group, workers, remarks, reveal=reveal)
    if given.json:
        print_json(document)
        return 0
    by = f" by {group.updated_by}" if group.updated_by else ""
    print(printable(f"{group.name}: revision {group.revision}, {clock(group.updated_at)}{by}"))
    print(printable(to_yaml(document["config"]).rstrip() if document["config"] else "nothing is set"))
    if workers:
        print()
        print_table(
            ("WORKER", "HOST", "PID", "SCRIPT", "REVISION", "NOT THE NEWEST BECAUSE"),
            [
                (
                    worker.name, worker.host, str(worker.pid), worker.script or "-",
                    "-" if worker.revision is None else str(worker.revision), _why(group, worker),
                )
                for worker in workers
            ],
        )  # fmt: skip
    for remark in remarks:
        click.echo(printable(f"hotpath: {remark.text}"), err=True)
    return 0


def _why(group: Group, worker: GroupWorker) -> str:
    if worker.trouble is not None:
        return worker.trouble
    return "" if worker.revision == group.revision else "it is being applied"


async def _list(given: Given) -> int:
    from hotpath.cli.output import print_json, print_table
    from hotpath.client import open_client
    from hotpath.store.groups import group_document

    async with open_client(config=given.config) as client:
        groups = {group.name: group for group in await client.groups()}
        workers = [worker for worker in await client.group_workers() if not worker.is_part]
    names = sorted({*groups, *(worker.group for worker in workers)})
    rows = []
    for name in names:
        group, members = groups.get(name), [worker for worker in workers if worker.group == name]
        if given.json:
            found: dict[str, Any] = {"name": name, "revision": None, "config": None}
            if group is not None:
                found = group_document(group)
            print_json(found | {"workers": len(members)})
            continue
        behind = sum(group is None or _why(group, worker) != "" for worker in members)
        rows.append(
            (
                name,
                "not configured" if group is None else str(group.revision),
                str(len(members)),
                str(behind or ""),
                "" if group is None else ",".join(map(str, group.config.tags)),
                "" if group is None else ",".join(group.config.dedicated),
            )
        )
    if not given.json:
        print_table(
            ("GROUP", "REVISION", "WORKERS", "NOT THE NEWEST", "TAGS", "DEDICATED"), rows, right=(2, 3)
        )
    return 0


async def _delete(given: Given, name: str, force: bool) -> int:  # noqa: FBT001 - called by `given.run`
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client

    async with open_client(config=given.config) as client:
        workers = await client.delete_group(name, force=force)
    if given.json:
        print_json({"name": name, "workers": [worker.name for worker in workers]})
        return 0
    print(printable(f"deleted {name}"))
    for worker in workers:
        click.echo(printable(f"hotpath: {worker.name} goes on with the configuration that it has"), err=True)
    return 0


async def _export(given: Given, names: tuple[str, ...], output: str | None) -> int:
    from hotpath.cli.group_files import to_file
    from hotpath.cli.output import print_json
    from hotpath.cli.yaml_files import write_file
    from hotpath.client import open_client

    async with open_client(config=given.config) as client:
        groups = [await client.group(name) for name in names] if names else await client.groups()
    documents = {group.name: group.config.document() for group in groups}
    if given.json and output is None:
        print_json({"groups": documents})
    elif output is None:
        print(to_file(documents), end="")
    else:
        write_file(output, to_file(documents))
    return 0


async def _diff(given: Given, documents: dict[str, Any], reveal: bool) -> int:  # noqa: FBT001 - called by `given.run`
    from hotpath.cli.group_files import differences
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client

    async with open_client(config=given.config) as client:
        groups = {group.name: group for group in await client.groups()}
    found = differences(groups, documents, reveal=reveal)
    for one in found:
        if given.json:
            print_json({"group": one.group, "field": one.field, "before": one.before, "after": one.after})
        else:
            print(printable(one.text()), end="")
    if not given.json and (others := sorted(set(groups) - set(documents))):
        click.echo(printable(f"hotpath: not in the file, and left alone: {', '.join(others)}"), err=True)
    return 1 if found else 0
