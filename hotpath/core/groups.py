"""What a worker group is configured to be: one frozen value. `core/group_document.py` makes and checks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from hotpath.core.tags import EXCLUDES, WILD, Patterns, parse_patterns
from hotpath.model import MASK

DEFAULT_GROUP = "default"
"""Whose workers those are that name no group: it need not be configured."""
INIT_TIMEOUT = 300.0
"""Seconds that an init script may take, and one run of a periodic one, unless said otherwise."""
SHELL, PYTHON = "shell", "python"


@attrs.frozen
class GroupTag:
    """A pattern of tags, as `core/tags.py` reads it, and what its jobs are worth."""

    pattern: str
    priority: int = 0
    """Tags of a larger one come first, before the priority of jobs is looked at."""

    def __str__(self) -> str:
        return f"{self.pattern}:{self.priority}" if self.priority else self.pattern

    def document(self) -> Any:
        """As it is stored."""
        return {"tag": self.pattern, "priority": self.priority} if self.priority else self.pattern


@attrs.frozen
class ScriptText:
    """A script of a few lines, and what runs it."""

    text: str
    language: str = SHELL
    """`shell`: what its `#!` names, else /bin/sh; `python`: the worker's own interpreter."""

    def document(self) -> Any:
        """As it is stored: text alone, where that says which language it is."""
        if language_of(self.text) == self.language:
            return self.text
        return {"language": self.language, "text": self.text}


@attrs.frozen(kw_only=True)
class Periodic:
    """A script that runs again and again beside the workers."""

    name: str
    every: float
    """Seconds from one start to the next; never before the last run is over."""
    script: ScriptText
    timeout: float | None = None
    """Seconds that one run may take; None: `INIT_TIMEOUT`."""

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        script = self.script.document()
        shown = {"name": self.name, "every": self.every}
        shown |= script if isinstance(script, dict) else {"text": script}
        return shown if self.timeout is None else shown | {"timeout": self.timeout}


@attrs.frozen(kw_only=True)
class GroupConfig:
    """The configuration of a group; None and empty: the command's own default."""

    tags: tuple[GroupTag, ...] = ()
    dedicated: tuple[str, ...] = ()
    """Scripts or flows that have workers of their own."""
    processes: int | None = None
    """Worker processes of each dedicated script."""
    concurrency: int | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, repr=lambda env: f"<{len(env)} values>")
    env_from_host: tuple[str, ...] = ()
    """Names that are passed on from the environment of whoever starts the workers."""
    path: tuple[str, ...] = ()
    """Directories more on `sys.path`; relative ones are below the workspace."""
    init: ScriptText | None = None
    init_timeout: float | None = None
    periodic: tuple[Periodic, ...] = ()
    grace: float | None = None
    lease: float | None = None
    max_jobs: int | None = None
    max_rss: int | None = None
    slots: int | None = None
    """Jobs at a time of a normal worker."""
    warm: int | None = None
    """Scripts that a normal worker keeps warm."""
    alert_min_workers: int | None = None
    """Live workers below which there is an alert."""

    def document(self) -> dict[str, Any]:
        """As it is stored: what is set, in the order above."""
        shown: dict[str, Any] = {}
        for name in FIELDS:
            value = getattr(self, name)
            if value is None or value in ((), {}):
                continue
            shown[name] = _document(value)
        return shown

    @property
    def patterns(self) -> Patterns | None:
        """What its normal workers listen to; None: there are no tags."""
        return parse_patterns((tag.pattern for tag in self.tags), "field `tags`") if self.tags else None

    def priority_of(self, tag: str) -> int:
        """What jobs of this tag are worth to the group: of the patterns that fit, the largest."""
        fitting = [
            each.priority
            for each in self.tags
            if not each.pattern.startswith(EXCLUDES) and parse_patterns([each.pattern]).listens(tag)
        ]
        return max(fitting, default=0)


def _document(value: Any) -> Any:
    if isinstance(value, GroupTag | ScriptText | Periodic):
        return value.document()
    if isinstance(value, tuple):
        return [_document(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


FIELDS = tuple(field.name for field in attrs.fields(GroupConfig))


def language_of(text: str) -> str:
    """Which language a script's first line says: `python` for `#!/usr/bin/env python3`, else `shell`."""
    first = text.split("\n", 1)[0]
    return PYTHON if first.startswith("#!") and "python" in first else SHELL


def masked(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it may be shown: without the values of the environment. Given back, the mask means the
    value that is there.
    """
    shown = dict(document)
    if shown.get("env"):
        shown["env"] = dict.fromkeys(shown["env"], MASK)
    return shown


def is_name(pattern: str) -> bool:
    """Whether a pattern is the name of one tag."""
    return WILD not in pattern and not pattern.startswith(EXCLUDES)
