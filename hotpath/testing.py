"""For the tests of your own scripts: run one job through the real runtime, without a database.

    def test_score():
        done = trio.run(hotpath.testing.run_job, "f/team/score", {"x": 1})
        assert done.result == 2
        assert "scored" in done.log

Args are checked and decoded, output is captured, the result is encoded and errors become error objects,
exactly as in a worker. The script's module is imported into the calling process, once.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec

from hotpath.core.schema import ArgsValidator
from hotpath.model import OutcomeState, ScriptVersion, State
from hotpath.runtime.choose import choose
from hotpath.runtime.protocol import Outcome
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate

__all__ = ["Done", "run_job"]


@attrs.frozen
class Done:
    """How a job ended."""

    state: State
    result: Any
    """What `main` returned, as it comes out of the database: JSON."""
    error: dict[str, Any] | None
    """The error object: name, message, traceback, kind."""
    log: str
    """What the job printed and logged."""
    duration_ms: float


@attrs.frozen
class _Script:
    """What the runtime is to keep warm."""

    version: ScriptVersion
    file: Path
    workspace: Path
    worker: str = "test"


@attrs.frozen
class _Batch:
    """A batch of one job."""

    args: bytes
    tag: str
    outcomes: list[Outcome] = attrs.Factory(list)
    ids: list[uuid.UUID] = attrs.Factory(lambda: [uuid.uuid4()])
    attempts: tuple[int, ...] = (1,)
    stopped: bool = False

    @property
    def report(self) -> Any:
        return self.outcomes.append

    def __len__(self) -> int:
        return 1


async def run_job(
    script: str | Path, args: Mapping[str, Any] | None = None, workspace: str | Path = "."
) -> Done:
    """Run one job of a script, given by its name in the workspace or by the path of its file.

    Raises what `Client.enqueue` would raise: `UnknownScriptError`, `ScriptImportError`, `BadArgsError`.
    An exception in `main` is not raised: it is in `Done.error`, as it would be stored.
    """
    located = locate(str(script), Path(workspace))
    description = await describe(located)
    raw = ArgsValidator(description.schema).encode({} if args is None else args)
    runtime = choose(description)
    batch = _Batch(b"[" + raw + b"]", description.settings.tag or description.path)
    version = ScriptVersion(0, 0, description)
    async with runtime.open(_Script(version, located.file, located.workspace)):
        await runtime.run(batch)
    ((_, state, _, duration_us, payload, log),) = batch.outcomes
    document = msgspec.json.decode(payload)
    succeeded = state == OutcomeState.SUCCESS
    return Done(
        state=State[OutcomeState(state).name],
        result=document if succeeded else None,
        error=None if succeeded else document,
        log=log or "",
        duration_ms=duration_us / 1000,
    )
