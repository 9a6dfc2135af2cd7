"""Dropping what retention does not keep any more, a little at a time: by whoever keeps house, and by `hotpath
prune`.

One at a time does it in a database, by a row that says who and until when: that holds behind a pooler too,
and is over by itself when he dies. Each step stands alone and leaves nothing half-done that the next round
would not find: days half detached, days gone through up to a block.

Nothing of the current day is touched, nobody is waited for for long: rows that somebody has locked are passed
over, a detachment that has to wait for an old reader is left for the next round.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import attrs
import trio

from hotpath import asyncpg_trio
from hotpath.core.retention import format_size
from hotpath.store.archive import FORGET, Archiver
from hotpath.store.jobs import oldest_id
from hotpath.store.log_store import LogStoreError, open_log_store
from hotpath.store.prune_plan import DISK, Disk, Drop, Part, Pass, Plan, make_plan
from hotpath.store.prune_settle import settle
from hotpath.store.queries import query
from hotpath.store.trouble import Trouble, trouble_of

log = logging.getLogger("hotpath.worker")

HELD = 60.0
"""Seconds for which to believe that somebody is at it who does not say so again."""
DETACH_WITHIN = 10.0
"""Seconds that dropping a day may wait for its readers; then it is left for the next round."""
VACUUM_WITHIN = 240.0
LOCK_MS = 500
"""Milliseconds that a statement may wait for somebody's lock."""
BLOCKS = 32
"""Blocks of a day that the first statement goes through; then as many as take about `AIM` seconds."""
MOST_BLOCKS = 2048
AIM = 0.2
OBJECTS = 20
"""Objects whose logs one statement goes through."""
PAYLOADS = 500
_NOTHING = UUID(int=0)

T = TypeVar("T")


@attrs.define
class Pruned:
    """What one round did."""

    dropped: list[str] = attrs.field(factory=list)
    """Partitions."""
    for_disk: list[str] = attrs.field(factory=list)
    """Those of them that went for the sake of the disk."""
    jobs: int = 0
    results: int = 0
    args: int = 0
    logs: int = 0
    objects: int = 0
    payloads: int = 0
    more: bool = False
    """Whether there is more to do."""
    forbidden: bool = False
    """Whether the right to drop whole days was lacking."""
    disk: Disk | None = None
    troubles: list[str] = attrs.field(factory=list)
    """What could not be done now, and why."""

    @property
    def is_nothing(self) -> bool:
        """Whether there was nothing to take away."""
        counts = (self.jobs, self.results, self.args, self.logs, self.objects, self.payloads)
        return not self.dropped and not any(counts)


async def prune(
    connection: asyncpg_trio.Connection, holder: str, *, seconds: float = float("inf"), gently: bool = True
) -> Pruned | None:
    """Take away what is not kept, for about so many seconds; None: somebody else is at it.

    `holder`: who that is, for others to read. `gently` leaves the server as much time as it takes. Raises
    what makes the connection unusable. The connection must be outside of a transaction.
    """
    if not await connection.fetchval(query("prune_take"), holder, HELD):
        return None
    round_ = _Round(connection, holder, trio.current_time() + seconds, gently)
    try:
        await round_.run()
    finally:
        if not connection.is_closed():
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await round_.end()
    return round_.done


@attrs.define(eq=False)
class _Round:
    connection: asyncpg_trio.Connection
    holder: str
    deadline: float
    gently: bool
    done: Pruned = attrs.field(factory=Pruned)
    _taken_at: float = attrs.field(factory=trio.current_time)
    _stuck: set[str] = attrs.field(factory=set)
    """Tables of which a day waits for its readers."""

    async def run(self) -> None:
        plan = await make_plan(self.connection)
        self.done.disk = plan.disk
        await self._drop(plan)
        await self._objects(plan)
        for one in plan.passes:
            if not await self._may_go_on():
                self.done.more = True
                return
            await self._go_through(one)
        await self._empty_days(plan)
        await self._left_objects()
        await self._payloads()
        await self.connection.execute(query("prune_forget"))

    async def end(self) -> None:
        """Be at it no longer, and say what came of it."""
        done, disk = self.done, self.done.disk
        if disk is not None:
            row = await self.connection.fetchrow(query("prune_size"))
            assert row is not None, "a query without a table has one row"
            disk = done.disk = Disk(row["bytes"], disk.bound, row["bytes"])
        await self.connection.execute(
            query("prune_end"), self.holder, done.more, done.forbidden, done.for_disk,
            None if disk is None else disk.bytes, None if disk is None else disk.bound,
            None if disk is None else disk.held,
        )  # fmt: skip
        _say(done)

    async def _may_go_on(self) -> bool:
        """Whether there is time left, and nobody else has taken over."""
        now = trio.current_time()
        if now >= self.deadline:
            return False
        if now - self._taken_at > HELD / 4:
            self._taken_at = now
            return bool(await self.connection.fetchval(query("prune_take"), self.holder, HELD))
        return True

    # ------------------------------------------------------------ whole days

    async def _drop(self, plan: Plan) -> None:
        for drop in plan.drops:
            if not drop.part.mine:
                self.done.forbidden = True
                continue
            if not await self._may_go_on():
                self.done.more = True
                return
            # A table can have one half-done detachment: the next one would be refused.
            if drop.part.parent not in self._stuck or drop.part.state == "detached":
                await self._drop_one(drop)

    async def _drop_one(self, drop: Drop) -> None:
        part = drop.part
        try:
            with trio.move_on_after(DETACH_WITHIN) as scope:
                if part.state != "detached":
                    await self.connection.execute(part.detach)
                await self.connection.execute(part.remove)
        except asyncpg.PostgresError as error:
            if trouble_of(error) is Trouble.WEATHER:
                raise
            self._trouble(f"{part.name} cannot be dropped: {_line(error)}")
            return
        if scope.cancelled_caught:
            self._stuck.add(part.parent)
            self._trouble(
                f"{part.name} is not dropped yet: somebody's open transaction has read it; `hotpath doctor` "
                "says who"
            )
            return
        self.done.dropped.append(part.name)
        if drop.why.startswith(DISK):
            self.done.for_disk.append(part.name)

    async def _empty_days(self, plan: Plan) -> None:
        """Drop days of which nothing is left, as all of their jobs had shorter rules than the longest."""
        through = {one.day for one in plan.passes if one.kind == "jobs" and one.due.jobs}
        for day in sorted(through):
            parts = [part for part in plan.rest if part.day == day]
            if not parts or not all(part.mine for part in parts) or not await self._may_go_on():
                continue
            if await self.connection.fetchval(query("prune_empty"), *parts[0].span):
                for part in parts:
                    await self._drop_one(Drop(part, "empty"))

    # ------------------------------------------------------------ days that are gone through

    async def _go_through(self, one: Pass) -> None:
        step = {"jobs": self._jobs, "logs": self._logs, "moved": self._moved}[one.kind]
        at, size, passed_over, touched = one.at, float(BLOCKS), one.passed_over, False
        while at < one.until:
            began = time.monotonic()
            until = min(at + (OBJECTS if one.kind == "moved" else round(size)), one.until)
            got = await self._bounded(lambda a=at, u=until: step(one, a, u))  # type: ignore[misc]
            if got is None:
                passed_over += 1
            else:
                until, over, changed = got
                passed_over += over
                touched = touched or changed > 0
            at = until
            await self._note(one, at, passed_over)
            took = time.monotonic() - began
            size = min(max(size * AIM / max(took, 1e-3), size / 4, 1), size * 2, MOST_BLOCKS)
            if at < one.until and not await self._may_go_on():
                self.done.more = True
                return
            if self.gently:
                await trio.sleep(min(took, 1.0))
        if one.part is not None and one.part.mine and not await self._give_back(one, one.part, touched):
            self.done.more = True
            return
        await self._note(one, None, passed_over)

    async def _note(self, one: Pass, at: int | None, passed_over: int) -> None:
        """Say how far it has got; None: it is through, and its room was given back."""
        due = one.due
        await self.connection.execute(
            query("prune_note"), one.name, sorted(due.jobs), sorted(due.results), sorted(due.args), at,
            one.until, passed_over,
        )  # fmt: skip

    async def _give_back(self, one: Pass, part: Part, touched: bool) -> bool:  # noqa: FBT001 - called once
        """Give the room back that was taken; False: there was no time to."""
        if not touched and one.at == 0:
            return True
        await self._vacuum(part.vacuum)
        blocks = await self.connection.fetchval(query("prune_blocks"), part.name)
        settled = await settle(self.connection, part, one.kind, blocks, self._may_go_on, self._bounded)
        if settled:
            await self._vacuum(part.vacuum)
        return settled is not None

    async def _jobs(self, one: Pass, at: int, until: int) -> tuple[int, int, int]:
        assert one.part is not None, "results are in a partition"
        due = one.due
        row = await self._row(
            "prune_jobs", *one.part.span, at, until, sorted(due.jobs), sorted(due.results), sorted(due.args)
        )
        self.done.jobs += row["jobs"]
        self.done.results += row["results"]
        self.done.args += row["args"]
        self.done.logs += row["logs"]
        return until, row["passed_over"], row["jobs"] + row["results"] + row["args"]

    async def _logs(self, one: Pass, at: int, until: int) -> tuple[int, int, int]:
        assert one.part is not None, "logs are in a partition"
        row = await self._row("prune_logs", *one.part.span, at, until, sorted(one.due.jobs))
        self.done.logs += row["logs"]
        return until, row["passed_over"], row["logs"]

    async def _moved(self, one: Pass, at: int, until: int) -> tuple[int, int, int]:
        row = await self._row("prune_moved", one.day, at, until - at, sorted(one.due.jobs))
        self.done.logs += row["logs"]
        return one.until if row["last"] is None else row["last"], 0, row["logs"]

    async def _row(self, name: str, *values: Any) -> Any:
        row = await self.connection.fetchrow(query(name), *values)
        assert row is not None, "counts come back"
        return row

    async def _bounded(self, step: Callable[[], Awaitable[T]]) -> T | None:
        """What the step says, in a transaction that waits for no lock; None: somebody had one."""
        try:
            async with self.connection.transaction():
                await self.connection.execute(f"set local lock_timeout = {LOCK_MS}")
                return await step()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            return None

    async def _vacuum(self, statement: str) -> None:
        """Make what was taken away room again."""
        if not await self.connection.fetchval(query("prune_take"), self.holder, VACUUM_WITHIN + HELD):
            return
        try:
            with trio.move_on_after(VACUUM_WITHIN):
                await self.connection.execute(statement)
            await self.connection.fetchval(query("prune_take"), self.holder, HELD)
        except asyncpg.PostgresError as error:
            if trouble_of(error) is Trouble.WEATHER:
                raise
            self._trouble(f"vacuum: {_line(error)}")

    # ------------------------------------------------------------ what lies elsewhere

    async def _objects(self, plan: Plan) -> None:
        if plan.logs_before is None:
            return
        for location in sorted({each.store for each in plan.objects}):
            try:
                archiver = Archiver(open_log_store(location))
                while some := await archiver.drop_some(self.connection, plan.logs_before):
                    self.done.objects += some
                    if not await self._may_go_on():
                        self.done.more = True
                        return
            except LogStoreError as error:
                self._trouble(str(error))

    async def _left_objects(self) -> None:
        """Delete objects that hold no log any more."""
        while rows := await self.connection.fetch(query("prune_objects"), FORGET):
            for location in sorted({row["store"] for row in rows}):
                some = [row for row in rows if row["store"] == location]
                try:
                    await open_log_store(location).delete([row["name"] for row in some])
                except LogStoreError as error:
                    self._trouble(str(error))
                    return
                await self.connection.execute(query("archive_forget"), [row["id"] for row in some])
                self.done.objects += len(some)

    async def _payloads(self) -> None:
        """Drop large args of jobs that went with their day."""
        oldest = await self.connection.fetchval(query("prune_oldest"))
        if oldest is None:
            return
        after: Any = _NOTHING
        while await self._may_go_on():
            row = await self._row("prune_payloads", after, PAYLOADS, oldest, oldest_id(oldest))
            self.done.payloads += row["gone"]
            if row["seen"] < PAYLOADS:
                return
            after = row["last"]
        self.done.more = True

    def _trouble(self, text: str) -> None:
        self.done.more = True
        self.done.troubles.append(text)


def _say(done: Pruned) -> None:
    """In the log: what went, loudly where it went for the sake of the disk."""
    for text in done.troubles:
        log.warning("retention: %s", text)
    disk = done.disk
    if done.for_disk and disk is not None:
        log.warning(
            "retention: dropped %s to keep the tables below %s",
            ", ".join(done.for_disk),
            format_size(disk.bound),
        )
    if disk is not None and not disk.held:
        log.warning(
            "retention: the tables take %s, above the bound of %s, and there is nothing left to drop but "
            "the current day and what waits",
            format_size(disk.bytes),
            format_size(disk.bound),
        )
    if done.forbidden:
        log.warning(
            "retention: old days are not dropped: this role does not own the schema; run `hotpath prune` as "
            "its owner"
        )
    if not done.is_nothing:
        log.info(
            "retention: %d partitions dropped; %d jobs, %d results, %d args, %d logs, %d objects taken away",
            len(done.dropped), done.jobs, done.results, done.args, done.logs, done.objects,
        )  # fmt: skip


def pruned_document(done: Pruned) -> dict[str, Any]:
    """What a round did as programs see it."""
    document = attrs.asdict(done, recurse=False)
    if done.disk is not None:
        document["disk"] = {
            "bytes": done.disk.bytes, "bound": done.disk.bound, "held": done.disk.held,
        }  # fmt: skip
    return document


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
