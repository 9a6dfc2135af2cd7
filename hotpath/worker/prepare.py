"""From a version in the database to what a process of this host needs to run it."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from hotpath.errors import ScriptError
from hotpath.model import Description, ScriptVersion
from hotpath.scripts.cache import directory
from hotpath.scripts.environment import python_for
from hotpath.scripts.locate import Located
from hotpath.scripts.stored import is_written, located_at, name_of, own_files, write
from hotpath.store.scripts import register_version, version_by_id, version_steps
from hotpath.store.sources import StoredFile, contents, files_of

if TYPE_CHECKING:
    from hotpath.config import Config
    from hotpath.store.database import Database

log = logging.getLogger("hotpath.worker")

WITHIN = 30.0
"""Seconds that reading a version's source may take."""


@attrs.frozen
class Edition:
    """A version as this host runs it."""

    version: ScriptVersion = attrs.field(eq=False)
    """Of a flow, with the versions of the scripts that it runs."""
    located: Located = attrs.field(eq=False)
    """The workspace's own files if they are this version, else those of the database, in a cache."""
    python: str | None = attrs.field(default=None, eq=False)
    """Interpreter of the environment that it has of its own; None: this one."""
    serial: int = attrs.field(factory=itertools.count().__next__)
    """Two with the same are the same: workers that run one need not be replaced for the other."""

    def anew(self) -> Edition:
        """The same, to be loaded anew: something that it imports has changed."""
        return attrs.evolve(self, serial=Edition(self.version, self.located).serial)

    @property
    def key(self) -> tuple[int, ...]:
        """What it is made of: its version, and those of the scripts that it runs."""
        return key_of(self.version)


def key_of(version: ScriptVersion) -> tuple[int, ...]:
    """The version itself, and those of the scripts that it runs."""
    return version.id, *sorted(step.id for step in version.steps)


async def with_steps(database: Database, version: ScriptVersion) -> ScriptVersion:
    """The version with those of the scripts that it, if it is a flow file, runs now."""
    if version.description.kind != "flow":
        return version
    async with database.connection(within=WITHIN) as connection:
        return attrs.evolve(version, steps=tuple(await version_steps(connection, version)))


async def prepare(database: Database, config: Config, version: ScriptVersion) -> Edition:
    """Have the version's source, and the environment that it wants, on this host.

    Raises `ScriptError` that says which version of which script cannot be had, and why.
    """
    version = await with_steps(database, version)
    located = await trio.to_thread.run_sync(own_files, version, config.workspace)
    if located is None:
        located = await _from_database(database, config, version)
    return Edition(version, located, await python_for(located, config))


async def settle(
    database: Database, config: Config, located: Located, description: Description, *, deploy: bool = False
) -> Edition:
    """Register what the workspace has, and say what is to be run: that, or another version if that is the
    one which was deployed.
    """
    async with database.connection() as connection:
        version = await register_version(connection, description, deploy=deploy)
        current = await version_by_id(connection, version.script)
    current = await with_steps(database, current)
    if key_of(current) == key_of(version):
        return Edition(version, located, await python_for(located, config))
    log.warning(
        "%s: version %s is deployed and runs; the workspace has %s: `hotpath deploy` makes that the one",
        description.path,
        current.description.hash[:12],
        description.hash[:12],
    )
    return await prepare(database, config, current)


async def still(database: Database, config: Config, edition: Edition) -> Edition:
    """The same one if its source is still there, as it was; else with that of the database."""
    located = edition.located
    if located.root is not None:
        there: object = await trio.to_thread.run_sync(located.file.exists)
    else:
        there = await trio.to_thread.run_sync(own_files, edition.version, located.workspace)
    if there:
        return edition
    return attrs.evolve(await prepare(database, config, edition.version), serial=edition.serial)


async def _from_database(database: Database, config: Config, version: ScriptVersion) -> Located:
    name = f"{version.description.path} (version {version.description.hash[:12]})"
    async with database.connection(within=WITHIN) as connection:
        found = await files_of(connection, [version.id, *(step.id for step in version.steps)])
    main = next((file for file in found.get(version.id, ()) if file.main), None)
    outside = [step for step in version.steps if not step.description.inline]
    missing = [step.description.path for step in outside if step.id not in found]
    if main is None or missing:
        what = name if main is None else f"{missing[0]}, which {name} runs,"
        raise ScriptError(
            f"{what} is not in the workspace {config.workspace}, and its source is not in the database: "
            "run `hotpath deploy` where it is"
        )
    files = [*found[version.id], *(file for step in outside for file in found[step.id])]
    files = list({file.path: file for file in files}.values())
    place = await trio.to_thread.run_sync(directory, config, "sources")
    there = place / name_of(files)
    if not await trio.to_thread.run_sync(is_written, there, files):
        await _write(database, name, there, files)
    return located_at(version, there, config.workspace, main.path)


async def _write(database: Database, name: str, there: Path, files: list[StoredFile]) -> None:
    async with database.connection(within=WITHIN) as connection:
        bodies = await contents(connection, [file.hash for file in files])
    for file in files:
        if file.hash not in bodies:
            raise ScriptError(f"{name} cannot be run: its file {file.path} is damaged in the database")
    await trio.to_thread.run_sync(write, there, files, bodies)
