"""`hotpath autoscale`: how many workers each group needs and why, and on this machine as many as it needs."""

from __future__ import annotations

from typing import Any

import click

from hotpath.cli.options import Given, common

_HELP = ("--help", "-h")


class DefaultGroup(click.Group):
    """A group whose first word may be the name of a worker group: then it is `run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it, with `run` in front of whatever is no command."""
        if not args or (args[0] not in self.commands and args[0] not in _HELP):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("autoscale", cls=DefaultGroup)
def command() -> None:
    """How many workers each group needs, and why; or as many on this machine as it needs.

    \b
    hotpath autoscale --dry-run              each group: now, wanted, why
    hotpath autoscale GROUP --dry-run        one of them
    hotpath autoscale GROUP                  start and stop `hotpath worker --group GROUP` here
    hotpath autoscale GROUP -- COMMAND...    start and stop another command here
    hotpath autoscale set GROUP --max 20     what is wanted of a group
    """  # noqa: D301 - click wants the character itself


@command.command("run", context_settings={"ignore_unknown_options": False})
@click.argument("group", required=False)
@click.argument("arguments", nargs=-1, metavar="[-- COMMAND...]")
@click.option("--dry-run", is_flag=True, help="Say how many workers are wanted and why; start none.")
@click.option(
    "--grace",
    type=click.FloatRange(0, 86_400),
    default=40.0,
    metavar="S",
    help="Seconds from SIGTERM until a command is killed; more than its own grace. [40]",
)
@common
def run(given: Given, *, group: str | None, arguments: tuple[str, ...], dry_run: bool, grace: float) -> int:
    """Keep as many commands running on this machine as the group needs, until SIGTERM or Ctrl-C.

    A command is `hotpath worker --group GROUP`, or what follows `--`; its workers have to belong to GROUP.
    What ends by itself is started again. One such command for a group: two would each start what is needed.
    """
    if dry_run:
        if arguments:
            raise click.UsageError("--dry-run starts nothing: leave out the command after --")
        return given.run(_show, given, group)
    if group is None:
        raise click.UsageError("name the GROUP to scale here, or look at all with --dry-run")
    from hotpath.worker.leaving import leave_quietly

    leave_quietly()
    return given.run(_run, given, group, arguments, grace)


@command.command("set")
@click.argument("group")
@click.option("--min", "min_workers", type=int, metavar="N", help="Workers at least; 0: none when idle. [1]")
@click.option("--max", "max_workers", type=int, metavar="N", help="Workers at most. [10]")
@click.option(
    "--target",
    "target_seconds",
    type=float,
    metavar="S",
    help="Seconds within which what waits is to be done. [60]",
)
@click.option(
    "--cooldown",
    "cooldown_seconds",
    type=float,
    metavar="S",
    help="Seconds for which fewer must have been enough before some are stopped. [120]",
)
@click.option(
    "--utilisation",
    type=float,
    metavar="SHARE",
    help="Share of their time that workers are to be occupied by what arrives. [0.8]",
)
@click.option(
    "--processes",
    type=int,
    metavar="N",
    help="Workers of one command or pod; 0: as the group is configured, else one. [0]",
)
@click.option(
    "--tags",
    multiple=True,
    metavar="A,B",
    help="Tags that count, or patterns; empty: those of the group's configuration or its workers.",
)
@common
def set_(given: Given, *, group: str, tags: tuple[str, ...], **values: Any) -> int:
    """Say what is wanted of GROUP; what is not named stays as it is."""
    changes: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if changes.get("processes") == 0:
        changes["processes"] = None
    if tags:
        found = tuple(tag.strip() for tag in ",".join(tags).split(","))
        changes["tags"] = found if any(found) else None
    if not changes:
        raise click.UsageError("name something to set, such as --max 20")
    return given.run(_set, given, group, changes)


@command.command("unset")
@click.argument("group")
@common
def unset(given: Given, *, group: str) -> int:
    """Have GROUP use the defaults again."""
    return given.run(_unset, given, group)


async def _show(given: Given, group: str | None) -> int:
    from hotpath.cli.output import print_json, print_table, safe
    from hotpath.client import open_client
    from hotpath.store.scaling import scaling_document
    from hotpath.words import span

    async with open_client(config=given.config) as client:
        found = await client.scalings() if group is None else [await client.scaling(group)]
    if given.json:
        for each in found:
            print_json(scaling_document(each))
        return 0
    print_table(
        ("GROUP", "NOW", "WANTED", "MIN", "MAX", "WAITING", "IN HAND", "ARRIVE/S", "JOB"),
        [
            (
                each.group,
                str(each.workers),
                str(each.need.wanted),
                str(each.scale.min_workers),
                str(each.scale.max_workers),
                f"{each.load.waiting:,}{'+' if each.is_cut else ''}",
                f"{each.load.held:,}",
                "-" if each.load.arrivals is None else f"{each.load.arrivals:,.1f}",
                "-" if each.load.service_seconds is None else span(each.load.service_seconds * 1000),
            )
            for each in found
        ],
        right=(1, 2, 3, 4, 5, 6, 7, 8),
    )
    for each in found:
        print(safe(f"\n{each.group}: {each.need.wanted} wanted" + ("" if each.is_set else " (no scale set)")))
        for reason in each.why:
            print(safe(f"  {reason}"))
    if not found:
        print("no group has workers or a scale; see `hotpath autoscale set --help`")
    return 0


async def _set(given: Given, group: str, changes: dict[str, Any]) -> int:
    import attrs

    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client

    async with open_client(config=given.config) as client:
        scale = await client.set_scale(group, **changes)
    if given.json:
        print_json({"group": group, "scale": attrs.asdict(scale)})
    else:
        each = "" if scale.processes is None else f", {scale.processes} a command"
        tags = "" if scale.tags is None else f", tags {','.join(scale.tags)}"
        print(
            printable(
                f"{group}: {scale.min_workers} to {scale.max_workers} workers, what waits done in "
                f"{scale.target_seconds:g} s, fewer after {scale.cooldown_seconds:g} s, "
                f"occupied to {scale.utilisation:.0%}{each}{tags}"
            )
        )
    return 0


async def _unset(given: Given, group: str) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client

    async with open_client(config=given.config) as client:
        await client.unset_scale(group)
    if given.json:
        print_json({"group": group, "scale": None})
    else:
        print(printable(f"{group}: the defaults"))
    return 0


async def _run(given: Given, group: str, arguments: tuple[str, ...], grace: float) -> int:
    import os
    import sys

    from hotpath.cli.output import print_json, safe
    from hotpath.core.groups import DEFAULT_GROUP
    from hotpath.core.scaling import check_group
    from hotpath.errors import UsageError
    from hotpath.store.database import open_database
    from hotpath.store.groups import find_group
    from hotpath.worker.autoscaler import Autoscaler, check_command

    check_group(group)
    words = list(arguments or ("hotpath", "worker", "--group", group))
    if words[0] == "hotpath":
        words[:1] = [sys.executable, "-m", "hotpath"]  # this one, whatever is on the PATH
    check_command(words)
    # By the environment: what is on a command line everybody on the machine can read.
    environment = {**os.environ, "HOTPATH_WORKSPACE": str(given.config.workspace)}
    if given.database_url:
        environment["HOTPATH_DATABASE_URL"] = given.database_url

    def tell(sentence: str, document: dict[str, object]) -> None:
        if given.json:
            print_json(document)
            sys.stdout.flush()
        else:
            print(safe(f"hotpath: {sentence}"), file=sys.stderr, flush=True)

    async with open_database(given.config) as database:
        if not arguments and group != DEFAULT_GROUP:
            async with database.connection() as connection:
                if await find_group(connection, group) is None:
                    raise UsageError(
                        f"GROUP: no group {group!r} is configured: `hotpath group set {group} --tags A,B` "
                        "makes one; or give a command that belongs to it after --"
                    )
        await Autoscaler(database, group, words, environment, tell, grace).run()
    return 0
