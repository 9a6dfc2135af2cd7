"""Jobs that are due and that nobody will run: no live worker listens to their tag, or only workers that are
dedicated to other scripts do.

`hotpath.stranded_tags` in SQL is the one place that knows which they are; its cost does not grow with the
backlog.
"""

from __future__ import annotations

import shlex
from datetime import datetime

import attrs

from hotpath import asyncpg_trio
from hotpath.store.queries import query

GRACE = 5.0
"""Seconds that a job may be due, and that a worker may be gone, before it is said."""
NO_WORKER, OTHER_SCRIPT, PAUSED = "no_worker", "other_script", "paused"


@attrs.frozen
class Stranded:
    """Jobs of one script in one tag that nobody will run."""

    tag: str
    script: str
    waiting: int
    """Of those that are due, as many as were looked at."""
    more: bool
    """Whether there may be more."""
    oldest: datetime
    """Since when the oldest has been due."""
    why: str
    """`no_worker` listens to the tag, or only workers of `other_script`s do."""

    @property
    def text(self) -> str:
        """What is wrong and how to mend it, for people."""
        jobs = f"{self.waiting:,}{'+' if self.more else ''} {'job' if self.waiting == 1 else 'jobs'}"
        return f"{jobs} of {self.script}: {reason(self.tag, self.script, self.why)}"


def reason(tag: str, script: str, why: str) -> str:
    """Why nobody runs such jobs, and what to do, for people."""
    # Whoever may enqueue may choose a tag, and somebody else pastes this.
    which = "" if tag == script else f" --tag {shlex.quote(tag)}"
    start = f"start one with: hotpath dedicate {shlex.quote(script)}{which}"
    if why == PAUSED:
        return f"tag {tag} is paused; have it go on with: {resume_command(tag)}"
    if why == OTHER_SCRIPT:
        return f"the live workers on tag {tag} are dedicated to other scripts; {start}"
    return f"no live worker listens to tag {tag}; {start}"


def resume_command(tag: str) -> str:
    """What has a paused tag go on, as a shell takes it: a tag may begin as an option does."""
    return f"hotpath tag resume {'-- ' if tag.startswith('-') else ''}{shlex.quote(tag)}"


async def stranded(connection: asyncpg_trio.Connection, grace: float = GRACE) -> list[Stranded]:
    """Those that have been so for longer than `grace` seconds, by tag and script."""
    return [Stranded(*row) for row in await connection.fetch(query("stranded"), grace)]


async def why_stranded(connection: asyncpg_trio.Connection, tag: str, script: str) -> str | None:
    """`paused`, `no_worker` or `other_script`: why nobody would run a job of this script in this tag; None: a
    live worker does.
    """
    why: str | None = await connection.fetchval(query("why_stranded"), tag, script)
    return why
