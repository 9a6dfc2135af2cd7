"""Bulk enqueue: sealed batches by binary COPY, as many jobs as there are, in one transaction and constant
memory. Jobs that differ in their tag or in the key of their limit become loose rows, likewise by COPY; those
with unique keys are put in one by one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from hotpath import asyncpg_trio
from hotpath.core.placeholders import fill, has_places, needs_args
from hotpath.store.entry import NO_ENTRY, enqueue_each, entry_of
from hotpath.store.jobs import check_options, milliseconds
from hotpath.store.load_rows import Load, LooseLoad
from hotpath.store.queries import query
from hotpath.store.scripts import Registered
from hotpath.store.seal import Bases, Contents, JobIds

_ANALYZE_ROWS = 1000  # batches in one load from which the planner is told


async def enqueue_many(
    connection: asyncpg_trio.Connection,
    script: Registered,
    batches: Iterable[Contents] | AsyncIterable[Contents],
    *,
    tag: str | None = None,
    priority: int = 0,
    scheduled_for: datetime | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - the job's, not this call's
    traceparent: str | None = None,
) -> Sequence[UUID]:
    """Add jobs: all of them or, when `batches` raises or we are cancelled, none.

    `batches`: what a `Sealer` makes of args, read as it is sent. Raises what `batches` raises, and
    `UsageError` for a tag, priority, time or time-out (seconds) that no job can have; `RefusedJobError` that
    names the job, from 0, whose tag or key cannot be made of its args, and `NotUniqueError`.
    """
    check_options(tag, priority, scheduled_for, timeout)
    ids = JobIds()
    async with connection.transaction():
        row = await connection.fetchrow(query("load_clock"), script.version.script)
        assert row is not None, "there is one row of `meta`"
        when: datetime = row["now"] if scheduled_for is None else scheduled_for
        entry = NO_ENTRY if row["entry"] is None else entry_of(row["entry"])
        if entry.has_keys:
            return await enqueue_each(
                connection,
                script.version.description.path,
                batches,
                (tag, priority, scheduled_for, milliseconds(timeout)),
                traceparent,
            )
        template = tag if tag is not None else entry.tag
        if template is not None and not needs_args(template):
            if has_places(template):
                tag = fill(template, {}, "", workspace=row["workspace"])
                check_options(tag, priority, scheduled_for)
            template = None
        key: int = script.tag if tag is None else await connection.fetchval(query("tag_id"), tag)
        bases = Bases(row["clock"], time.monotonic())
        head = (when, key, script.version.script, priority or script.priority)
        rows = (ids, bases, batches, head, milliseconds(timeout), entry.expires)
        load: Load
        if entry.key is None and template is None:
            load = Load(*rows)
        else:
            name = script.version.description.path
            load = LooseLoad(*rows, name, entry.key, template, row["workspace"])
        while load.more:
            await connection.copy_to_table(
                load.table, schema_name="hotpath", columns=load.columns, source=load, format="binary"
            )
            if large := load.take_large():
                await connection.copy_records_to_table(
                    "payload", schema_name="hotpath", columns=("id", "args"), records=large
                )
        if ids and traceparent is not None:
            await connection.fetch(query("carry_traces"), [UUID(int=base) for base in ids.bases], traceparent)
        if ids and load.tags:
            await connection.fetch(query("load_tags"), sorted(load.tags), when)
        elif ids:
            await connection.fetchrow(query("load_end"), key, tag, when)
    if len(ids.bases) >= _ANALYZE_ROWS:
        await connection.execute("analyze hotpath.batch")
    return ids
