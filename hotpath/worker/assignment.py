"""What one worker is to do: everything that was resolved for it, as one value that travels to its process."""

from __future__ import annotations

from pathlib import Path

import attrs
import msgspec

from hotpath.model import ScriptVersion


class Listening(msgspec.Struct, frozen=True):
    """What a worker that runs is to listen to from now on."""

    tags: list[tuple[int, str]]
    ranks: dict[int, int] = {}


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's work. The DSNs hold passwords: it is sent through a pipe, never through argv or the
    environment.
    """

    dsn: str
    listen_dsn: str
    worker: int
    """Id of its row in `hotpath.worker`."""
    name: str
    version: ScriptVersion
    file: str
    workspace: str
    root: str | None = None
    """Where its files are, if not in the workspace."""
    tags: list[tuple[int, str]]
    ranks: dict[int, int] = {}
    """By key of a tag, what its jobs are worth to the worker's group; else 0."""
    concurrency: int | None = None
    drain: bool = False
    runtime: str | None = None
    """`package.module:factory` of its runtime; None: a built-in one."""
    secret: bytes = b""
    """What the database's tokens are signed with, for flows."""
    fed: bool = False
    """Whether it claims nothing: its supervisor does that, and gives it what to run."""


@attrs.frozen
class ScriptInHand:
    """The script as a runtime is told of it (`hotpath.runtime.Script`)."""

    version: ScriptVersion
    file: Path
    workspace: Path
    worker: str
    tags: tuple[str, ...] = ()
    """That the worker listens to."""
    secret: bytes = attrs.field(default=b"", repr=False)
    """What the database's tokens are signed with; empty: this script needs none."""
    root: Path | None = None
    """Where its files are, if not in the workspace: a version from the database."""

    @classmethod
    def of(cls, assignment: Assignment) -> ScriptInHand:
        """The script that the assignment is about."""
        return cls(
            assignment.version,
            Path(assignment.file),
            Path(assignment.workspace),
            assignment.name,
            tuple(name for _, name in assignment.tags),
            assignment.secret,
            None if assignment.root is None else Path(assignment.root),
        )
