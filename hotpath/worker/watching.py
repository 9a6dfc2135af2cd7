"""`--watch`: what is saved is deployed and takes over, without a stop.

Looked at are the script's file, its settings file, all that a flow consists of, and the modules of the
workspace that the worker had imported as it became ready: a few calls of stat each time, no thread and no
library that watches for us.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import trio

from hotpath.core.names import plain_name
from hotpath.model import Description
from hotpath.scripts.describe import describe, gently
from hotpath.scripts.flow_file import read_flow
from hotpath.scripts.locate import Located, locate
from hotpath.scripts.stored import own_files
from hotpath.store.scripts import register_version
from hotpath.store.trouble import ANY_TROUBLE, is_passing

if TYPE_CHECKING:
    from hotpath.worker.team import Team

log = logging.getLogger("hotpath.worker")

LOOK_EVERY = 0.2
"""Seconds between two looks. What has changed is taken when it is the same in two of them: editors save in
several steps.
"""
WITHIN = 10.0
"""Seconds that one try to deploy it may take."""
Seen: TypeAlias = "dict[str, tuple[int, int, int] | None]"
"""By file: when it was changed, how long it is, which one it is; None: it is not there."""


def look(files: Iterable[str | Path]) -> Seen:
    """The files as they are now."""
    seen: Seen = {}
    for file in files:
        try:
            found = os.stat(file)
        except OSError:
            seen[str(file)] = None
        else:
            seen[str(file)] = found.st_mtime_ns, found.st_size, found.st_ino
    return seen


def files_of(located: Located) -> list[Path]:
    """What a script or a flow in the workspace consists of, with the scripts that a flow runs."""
    if not located.is_flow:
        return [located.file, located.settings_file]
    loaded, _ = read_flow(located)
    files = [located.file, *(located.workspace / path for path, _ in loaded.files)]
    for step in loaded.steps.values():
        files += [file for file in (step.file, step.settings_file) if file is not None]
    return files


async def watch(team: Team) -> None:
    """Deploy the team's script whenever it is saved, and load it anew when a module that it imports is;
    until cancelled.
    """
    gently.set(True)  # what works goes first
    name = plain_name(team.options.name)
    located = team.edition.located
    own = look(await trio.to_thread.run_sync(files_of, located))
    if await trio.to_thread.run_sync(own_files, team.version, located.workspace) is None:
        own = dict.fromkeys(own)  # saved while the worker started
    modules = look(_imported(team, own))
    while True:
        await trio.sleep(LOOK_EVERY)
        # A new worker may have imported others: what is seen of them for the first time is no change.
        modules |= look(set(_imported(team, own)) - modules.keys())
        if (look(own), look(modules)) == (own, modules):
            continue
        own_now, modules_now = await _settled(own, modules)
        is_own, own, modules = own_now != own, own_now, modules_now
        try:
            if not is_own:
                log.info("%s: a module that it imports has changed: it is loaded anew", name)
                team.adopt((team.candidate or team.edition).anew())
                continue
            located = await trio.to_thread.run_sync(locate, name, team.house.config.workspace)
            own |= look(set(await trio.to_thread.run_sync(files_of, located)) - {Path(file) for file in own})
            description = await describe(located)
            await _deploy(team, description)
        except ANY_TROUBLE as error:
            log.warning("%s: what was saved is not taken, the workers keep what they have: %s", name, error)


async def _settled(own: Seen, modules: Seen) -> tuple[Seen, Seen]:
    """What the files are once they no longer change."""
    now = look(own), look(modules)
    while True:
        await trio.sleep(LOOK_EVERY)
        again = look(own), look(modules)
        if again == now:
            return now
        now = again


async def _deploy(team: Team, description: Description) -> None:
    """Register it, however long the database takes to be there. Raises what that has against it."""
    while True:
        try:
            async with team.database.connection(within=WITHIN) as connection:
                await register_version(connection, description, deploy=True)
        except ANY_TROUBLE as error:
            if not is_passing(error):
                raise
            team.weather.bad(error)
            await trio.sleep(1.0)
        else:
            team.house.changes.hint()  # before the notification, should there be none
            return


def _imported(team: Team, own: Seen) -> list[str]:
    """Modules of the workspace that its workers have imported, the script itself aside."""
    found = {file for life in team.lives.values() for file in life.child.files}
    return sorted(found - own.keys())
