"""Where the source of a script is, and the hash that names one version of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import attrs

from hotpath.errors import ScriptError

MAX_SOURCE = 8 << 20
"""Bytes that a version may consist of, all its files together: they are stored in the database."""


@attrs.frozen
class StepSource:
    """A script, be it a file of the workspace or part of a flow."""

    name: str
    """`f/team/score`, or `flow_x/a` for one that is written in a flow."""
    file: Path | None
    """None: its source is in the flow's own file."""
    source: str | None
    """That source; None: it is in `file`."""
    workspace: Path
    inline: bool = False
    """Whether it is part of a flow."""

    @property
    def settings_file(self) -> Path | None:
        """`NAME.script.yaml` beside a script of the workspace, whether or not it exists."""
        if self.file is None or self.inline:
            return None
        return self.file.with_name(f"{self.file.stem}.script.yaml")

    def files(self, source: bytes, settings: bytes) -> tuple[tuple[str, bytes], ...]:
        """What a version of it consists of, by path from the workspace: its source, also of one that is
        written in a flow, and its settings file.
        """
        main = (f"{self.name}.py", source)
        return (main, (f"{self.name}.script.yaml", settings)) if settings else (main,)

    def read(self) -> bytes:
        """Its source. Raises `ScriptError` if it cannot be read."""
        if self.file is None:
            return (self.source or "").encode()
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise ScriptError(f"{self.name} cannot be read: {error.strerror} ({self.file})") from None


def check_size(name: str, size: int) -> None:
    """Raises `ScriptError` for a version that is too large to be stored."""
    if size > MAX_SOURCE:
        raise ScriptError(
            f"{name} is {size / 2**20:.1f} MiB long; a script or flow may have {MAX_SOURCE >> 20} MiB: "
            "have it read its data from a file"
        )


def hash_of(source: bytes, settings_file: bytes) -> str:
    """Hex SHA-256 that names one version of a script: of its source and of its settings file."""
    digest = hashlib.sha256(len(source).to_bytes(8, "big"))
    digest.update(source)
    digest.update(settings_file)
    return digest.hexdigest()


def read_if_there(file: Path | None) -> bytes:
    """What is in a file; nothing if there is none, or it cannot be read."""
    try:
        return b"" if file is None else file.read_bytes()
    except OSError:
        return b""
