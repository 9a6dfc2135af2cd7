"""`hotpath prune`: drop what is not kept any more."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.store.prune import Pruned

WAIT = 75.0
"""Seconds to wait for somebody else who is at it: one that has died is believed for a minute."""


@click.command("prune")
@click.option("--dry-run", is_flag=True, help="Show what would go, and change nothing.")
@common
def command(given: Given, *, dry_run: bool) -> int:
    """Drop what `hotpath retention` does not keep any more: whole days, older results, args and logs, and
    their objects in the log store. Supervisors and `hotpath serve` do the same once an hour.

    Exits 1 if something could not be dropped now, and says why.
    """
    return given.run(_show if dry_run else _prune, given)


async def _show(given: Given) -> int:
    from hotpath.cli.output import print_json
    from hotpath.store.database import open_database
    from hotpath.store.prune_plan import estimate, make_plan, plan_document

    async with open_database(given.config) as database, database.connection() as connection:
        plan = await make_plan(connection)
        estimates = [await estimate(connection, one) for one in plan.passes]
    document = plan_document(plan, estimates)
    if given.json:
        print_json(document)
    else:
        _print_plan(document)
    return 0


def _print_plan(document: Mapping[str, Any]) -> None:
    from hotpath.cli.output import print_table
    from hotpath.core.retention import format_size

    if document["partitions"]:
        print("whole days:")
        print_table(
            ("PARTITION", "WHY", "ROWS", "BYTES", ""),
            [
                (
                    *(each["name"], each["why"], f"~{each['rows']:,}", format_size(each["bytes"])),
                    "" if each["allowed"] else "not allowed: this role does not own the schema",
                )
                for each in document["partitions"]
            ],
            right=(2, 3),
        )
    if document["days"]:
        print("days to go through (rows and bytes are estimates):")
        print_table(
            ("DAY", "ROWS", "BYTES", "SCRIPTS"),
            [
                (
                    each["name"],
                    ", ".join(f"{name} {count:,}" for name, count in each["rows"].items()) or "-",
                    format_size(sum(each["bytes"].values())),
                    _names(each["scripts"]),
                )
                for each in document["days"]
            ],
        )
    for each in document["objects"]:
        size = format_size(each["bytes"])
        print(f"{each['objects']:,} objects of {each['day']} in {each['store']}: {size}")
    if not (document["partitions"] or document["days"] or document["objects"]):
        print("nothing: all that there is is kept")
    disk = document["disk"]
    if disk["bound"] is not None:
        held = "" if disk["held"] else "; that cannot be held: the current day, and what waits, stay"
        now, after, bound = (format_size(disk[name]) for name in ("bytes", "after", "bound"))
        print(f"disk: {now} now, {after} after that, at most {bound}{held}")


def _names(scripts: Mapping[str, list[str]]) -> str:
    every = sorted({name for names in scripts.values() for name in names})
    return ", ".join(every[:5]) + (f" and {len(every) - 5} more" if len(every) > 5 else "")


async def _prune(given: Given) -> int:
    import trio

    from hotpath.cli.output import print_json
    from hotpath.errors import HotpathError
    from hotpath.store.database import open_database
    from hotpath.store.prune import prune, pruned_document
    from hotpath.store.queries import query

    holder = f"{socket.gethostname()}:{os.getpid()} (hotpath prune)"
    async with open_database(given.config) as database, database.connection() as connection:
        deadline = trio.current_time() + WAIT
        while (done := await prune(connection, holder, gently=False)) is None:
            if trio.current_time() >= deadline:
                row = await connection.fetchrow(query("prune_state"))
                who = "somebody else" if row is None else row["holder"]
                raise HotpathError(f"{who} is at it; try again when that is done")
            await trio.sleep(0.5)
    if given.json:
        print_json(pruned_document(done))
    else:
        _print(done)
    return 1 if done.more or done.forbidden else 0


def _print(done: Pruned) -> None:
    from hotpath.core.retention import format_size

    for name in done.dropped:
        print(f"dropped {name}{' for the disk' if name in done.for_disk else ''}")
    counts = {
        "jobs": done.jobs, "results": done.results, "args": done.args, "logs": done.logs,
        "objects": done.objects, "args of dropped jobs": done.payloads,
    }  # fmt: skip
    words = [f"{count:,} {name}" for name, count in counts.items() if count]
    if words:
        print(f"took away {', '.join(words)}")
    if done.is_nothing:
        print("nothing to drop")
    if done.disk is not None and done.disk.bound is not None:
        print(f"the tables take {format_size(done.disk.bytes)} of {format_size(done.disk.bound)}")
