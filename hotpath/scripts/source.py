"""Where the source of a script is, and the hash that names one version of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import attrs

from hotpath.errors import ScriptError


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

    def read(self) -> bytes:
        """Its source. Raises `ScriptError` if it cannot be read."""
        if self.file is None:
            return (self.source or "").encode()
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise ScriptError(f"{self.name} cannot be read: {error.strerror} ({self.file})") from None


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
