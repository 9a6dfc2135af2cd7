"""A command's options together with its group's configuration: flags, then the group, then defaults."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import attrs

from hotpath.core.groups import GroupConfig, is_name
from hotpath.core.names import plain_name
from hotpath.core.tags import parse_patterns
from hotpath.model import Description
from hotpath.worker.options import DedicateOptions, NormalOptions, WorkerOptions

_Options = TypeVar("_Options", bound=WorkerOptions)

SHARED = ("grace", "lease", "max_jobs", "max_rss")
"""Options of any worker that a group may have, too."""
DEDICATED = ("processes", "concurrency")
NORMAL = ("slots", "warm")


def with_group(options: _Options, config: GroupConfig) -> _Options:
    """The options of a command with those of its group, where nobody chose otherwise. Raises `UsageError` for
    what does not go together.
    """
    names = SHARED + (DEDICATED if isinstance(options, DedicateOptions) else NORMAL)
    found = {name: getattr(config, name) for name in names if name not in options.given}
    found = {name: value for name, value in found.items() if value is not None}
    if isinstance(options, NormalOptions):
        if "patterns" not in options.given and config.patterns is not None:
            found["patterns"] = config.patterns
        slots = found.get("slots", options.slots)
        if "warm" not in found and "warm" not in options.given:
            found["warm"] = max(options.warm, slots)
    return attrs.evolve(options, **found)


def is_normal(options: WorkerOptions, config: GroupConfig) -> bool:
    """Whether it runs jobs of any script by tag: not if its group has scripts, and nobody names tags."""
    if not isinstance(options, NormalOptions):
        return False
    return "patterns" in options.given or bool(config.tags) or not config.dedicated


def options_of(options: WorkerOptions, config: GroupConfig, script: str, own: str) -> DedicateOptions:
    """Options of the workers that are dedicated to this script, whose jobs are usually of the tag `own`."""
    if isinstance(options, DedicateOptions):
        return attrs.evolve(with_group(options, config), tags=tags_for(options, config, own))
    shared = {name: getattr(with_group(options, config), name) for name in SHARED}
    return DedicateOptions(
        name=script,
        workspace=options.workspace,
        group=options.group,
        drain=options.drain,
        json=options.json,
        quiet=options.quiet,
        processes=config.processes or 1,
        concurrency=config.concurrency,
        **shared,
    )


def fed_options(options: WorkerOptions, config: GroupConfig, before: DedicateOptions) -> DedicateOptions:
    """Options of a process that a normal worker keeps warm."""
    shared = {name: getattr(with_group(options, config), name) for name in SHARED}
    return attrs.evolve(before, **shared)


def own_tag(description: Description) -> str:
    """The tag that a script's jobs have if nobody says otherwise; of a pin, that of its script."""
    return description.settings.tag or plain_name(description.path)


def tags_for(options: DedicateOptions, config: GroupConfig, own: str) -> tuple[str, ...]:
    """Tags that workers of one script listen to: those of the flags; else those that the group names, and the
    script's own if a pattern fits it. None of it: the script's own.
    """
    if options.tags or not config.tags:
        return options.tags
    patterns = parse_patterns(tag.pattern for tag in config.tags)
    names = [tag.pattern for tag in config.tags if is_name(tag.pattern)]
    return tuple(tag for tag in dict.fromkeys([*names, own]) if patterns.listens(tag))


def rank_of(config: GroupConfig) -> Callable[[str], int] | None:
    """What jobs of a tag are worth to the group; None: all the same."""
    if not any(tag.priority for tag in config.tags):
        return None
    return functools.lru_cache(maxsize=10_000)(config.priority_of)
