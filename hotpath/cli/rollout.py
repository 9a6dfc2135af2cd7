"""What `hotpath deploy` does besides: wait until workers have taken a version, go back to an earlier one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from hotpath.cli.options import Given
    from hotpath.store.choices import VersionWorker
    from hotpath.store.database import Database

LOOK_EVERY = 0.1


@attrs.frozen
class Taken:
    """What one worker made of a version."""

    script: str
    worker: str
    version: str
    """Hash of the one that it runs, or loads."""
    ok: bool
    error: str | None = None
    loading: bool = False
    """Whether it has not come to an end loading that."""


async def wait_taken(given: Given, database: Database, scripts: Iterable[str], seconds: float) -> bool:
    """Wait until each live worker that is dedicated to one of these scripts runs its current version, or says
    why not; tell of each. Whether all do.
    """
    import trio

    from hotpath.cli.output import print_json, safe

    ends = trio.current_time() + seconds
    fine = True
    for script in scripts:
        for taken in await _taken(database, script, ends):
            fine = fine and taken.ok
            if given.json:
                print_json(attrs.asdict(taken))
            elif taken.ok:
                print(f"{'runs':<10} {script}  {taken.version[:12]}  {taken.worker}")
            else:
                said = " ".join(safe(taken.error or "").split())
                does = "loads" if taken.loading else "keeps"
                print(
                    f"hotpath: {script}: worker {taken.worker} {does} version {taken.version[:12]}: {said}",
                    file=sys.stderr,
                )
    return fine


async def _taken(database: Database, script: str, ends: float) -> list[Taken]:
    import trio

    from hotpath.store.choices import version_workers
    from hotpath.store.scripts import find_script

    while True:
        async with database.connection() as connection:
            current = (await find_script(connection, script)).version
            workers = await version_workers(connection, current.script)
        workers = [worker for worker in workers if not worker.is_pinned]
        if all(_has_decided(worker, current.id) for worker in workers) or trio.current_time() >= ends:
            return [_said(script, worker, current.id) for worker in workers]
        await trio.sleep(LOOK_EVERY)


def _has_decided(worker: VersionWorker, current: int) -> bool:
    """Whether it has looked at what is current, and has loaded it or has said why not; what it said of
    another version is of before.
    """
    if worker.refusal is None:
        return worker.version == current and worker.is_ready
    return worker.refused in (None, current)


def _said(script: str, worker: VersionWorker, current: int) -> Taken:
    running = worker.hash or ""
    if worker.version == current and worker.is_ready:
        return Taken(script, worker.name, running, ok=True)
    if worker.version == current:
        return Taken(script, worker.name, running, ok=False, error="that is not done in time", loading=True)
    if worker.refused is None and worker.refusal is not None:
        return Taken(script, worker.name, running, ok=False, error=worker.refusal)
    why = worker.refusal if worker.refused == current else "it has not taken the new one in time"
    return Taken(script, worker.name, running, ok=False, error=why)


async def roll_back(given: Given, name: str, to: str | None, wait: float | None) -> int:
    """`hotpath deploy --rollback`."""
    from hotpath.cli.output import print_json, safe
    from hotpath.documents import changed_between
    from hotpath.store.choices import roll_back as go_back
    from hotpath.store.database import open_database
    from hotpath.store.limits import version_remarks

    async with open_database(given.config) as database:
        async with database.connection() as connection:
            done = await go_back(connection, name, to)
            before, after = done.before.description, done.after.description
            remarks = await version_remarks(connection, before, after)
        if given.json:
            print_json({"script": name, "change": "rolled back", "hash": after.hash, "before": before.hash})
        else:
            changed = ", ".join(changed_between(before, after))
            also = f" ({changed} differ)" if changed else ""
            print(f"rolled back {name}  {before.hash[:12]} -> {after.hash[:12]}{also}")
        for remark in remarks:
            print(f"hotpath: {name}: {safe(remark)}", file=sys.stderr)
        if wait is not None and not await wait_taken(given, database, [name], wait):
            return 1
    return 0
