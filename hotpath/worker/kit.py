"""What a worker process is started with: if any of it changes, another one has to take its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from hotpath.core.groups import ScriptText
    from hotpath.worker.prepare import Edition


@attrs.frozen
class Outfit:
    """What a group gives its workers."""

    environment: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    """None: that of the supervisor."""
    init: ScriptText | None = attrs.field(default=None, repr=False)
    """What ran before they were started."""


@attrs.frozen
class Kit:
    """What one worker process was started with."""

    outfit: Outfit
    edition: Edition
    """Version that it runs."""
    concurrency: int
    """Jobs at a time."""
    asked: int | None
    """The same, as it was asked for."""
    lease: float
    """Seconds."""
    tags: tuple[int, ...] = ()
    """Of a flow, keys of the tags it listens to: they decide which of its steps run here."""

    @property
    def environment(self) -> Mapping[str, str] | None:
        """Of its process; None: that of the supervisor."""
        return self.outfit.environment
