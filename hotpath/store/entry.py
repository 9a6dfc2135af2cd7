"""What is done to jobs of a script as they are put in, beside storing them: the script's row says it, as the
database made it of the version's settings (migration 0014).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.errors import BadArgsError
from hotpath.store.jobs import refusals
from hotpath.store.load_rows import RefusedJobError
from hotpath.store.queries import query
from hotpath.store.seal import Contents


@attrs.frozen
class Entry:
    """What a script's jobs go through."""

    tag: str | None = None
    """The text that their tag is made of."""
    key: str | None = None
    """The text that the key of their limit is made of."""
    expires: float | None = None
    """Seconds that they may wait."""
    has_keys: bool = False
    """Whether they are unique or debounced: each is put in by itself, in the order of its keys' locks."""


NO_ENTRY = Entry()


def entry_of(document: str) -> Entry:
    """`hotpath.script.entry` as a value."""
    said: dict[str, Any] = msgspec.json.decode(document)
    return Entry(
        said.get("tag"), said.get("key"), said.get("expires"), "unique" in said or "debounce" in said
    )


async def enqueue_each(
    connection: asyncpg_trio.Connection,
    script: str,
    batches: Iterable[Contents] | AsyncIterable[Contents],
    options: tuple[str | None, int, datetime | None, int | None],
    traceparent: str | None,
) -> Sequence[UUID]:
    """Add jobs of a script with unique keys, in the caller's transaction. A job that another one stands for
    has that one's id. `options`: tag, priority, time and time-out in milliseconds.

    Raises `NotUniqueError`, `RefusedJobError` and `UsageError` that name the job, from 0.
    """
    ids: list[UUID] = []

    async def put(contents: Contents) -> None:
        large = dict(contents.large)
        raws = [large[k] if raw is None else raw for k, raw in enumerate(contents.args)]
        try:
            with refusals(script):
                found = await connection.fetchval(
                    query("enqueue_each"), script, [raw.decode() for raw in raws], *options, len(ids)
                )
        except BadArgsError as error:
            raise RefusedJobError(str(error)) from None
        ids.extend(UUID(int=one.int) for one in found)

    if isinstance(batches, AsyncIterable):
        async for contents in batches:
            await put(contents)
    else:
        for contents in batches:
            await put(contents)
    if traceparent is not None and ids:
        await connection.fetch(query("carry_traces"), ids, traceparent)
    return ids
