"""What a client knows of scripts: their current versions, and what checks their args."""

from __future__ import annotations

import time

import attrs

from hotpath.config import Config
from hotpath.core.names import is_pin
from hotpath.core.schema import ArgsValidator
from hotpath.errors import BadArgsError, ScriptError, UnknownScriptError
from hotpath.model import ScriptVersion
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate
from hotpath.sources import Args
from hotpath.store.choices import pin_version
from hotpath.store.database import Database
from hotpath.store.scripts import Registered, find_script, register_version

FRESH_SECONDS = 5.0
"""How long a client believes what it knows of a script before it asks again."""


@attrs.frozen
class Known:
    """What a client remembers of a script."""

    script: Registered
    validator: ArgsValidator
    read_at: float

    @property
    def name(self) -> str:
        """Its name; of a pin, with twelve digits of its version."""
        return self.script.version.description.path


class Knowing:
    """The part of a client that knows scripts, remembers them for a moment, and registers them."""

    def __init__(self, database: Database, config: Config, *, registers: bool) -> None:
        self.database = database
        self.config = config
        self._registers = registers
        self._known: dict[str, Known] = {}

    async def validator(self, script: str) -> ArgsValidator:
        """What checks args of this script and encodes them, by the schema of its current version."""
        return (await self._know(script, fresh=True)).validator

    async def current(self, script: str) -> ScriptVersion:
        """The version that new jobs of this script are checked against and run by."""
        return (await self._know(script, fresh=True)).script.version

    async def name_of(self, script: str) -> str:
        """The name that its jobs have; of a pin, with twelve digits of its version."""
        return (await self._know(script)).name

    async def register(self, script: str) -> ScriptVersion:
        """Find the script in the workspace, read it in a child process and store that version; it becomes the
        current one unless another one was deployed (`hotpath deploy`). Of `NAME@HASH`: that version of it.

        Raises `UnknownScriptError` if the workspace has no such script, `ScriptError` if it cannot be loaded.
        """
        if is_pin(script):
            return (await self._know(script, fresh=True)).script.version
        located = locate(script, self.config.workspace)
        description = await describe(located)
        async with self.database.connection() as connection:
            version = await register_version(connection, description)
        self._known.pop(description.path, None)
        return version

    async def _know(self, script: str, *, fresh: bool = False) -> Known:
        """What is known of the script: remembered for a moment, then read, and registered from the workspace
        if need be.
        """
        known = self._known.get(script)
        now = time.monotonic()
        if known is not None and now - known.read_at < (1.0 if fresh else FRESH_SECONDS):
            return known
        try:
            found = await self._find(script)
        except UnknownScriptError as unknown:
            found = await (self._pin if is_pin(script) else self._register_unknown)(script, unknown)
        known = self._known[script] = Known(found, ArgsValidator(found.version.description.schema), now)
        return known

    async def _register_unknown(self, script: str, unknown: UnknownScriptError) -> Registered:
        if not self._registers:
            raise unknown
        try:
            located = locate(script, self.config.workspace)
        except ScriptError:
            raise unknown from None
        if located.name != script:
            raise unknown
        await self.register(script)
        return await self._find(script)

    async def _pin(self, script: str, _: UnknownScriptError) -> Registered:
        async with self.database.connection() as connection:
            return await find_script(connection, await pin_version(connection, script))

    async def _find(self, script: str) -> Registered:
        async with self.database.connection() as connection:
            return await find_script(connection, script)

    async def _check(self, known: Known, script: str, args: Args) -> bytes:
        """The args as JSON. Refused ones are looked at again with the current schema, which may have changed
        since.
        """
        try:
            return known.validator.encode(args)
        except BadArgsError:
            if time.monotonic() - known.read_at < 0.1:
                raise
            del self._known[script]
            return (await self._know(script)).validator.encode(args)
