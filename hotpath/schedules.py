"""What a client does with schedules: set them, look at them, pause them, have them tick by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from hotpath.known import Knowing
from hotpath.model import Job
from hotpath.sources import Args
from hotpath.store import schedules as store
from hotpath.store.schedules import Schedule, Tick


class Schedules(Knowing):
    """A part of `hotpath.client.Client`."""

    async def set_schedule(
        self,
        name: str,
        *,
        script: str | None = None,
        args: Args | None = None,
        cron: str | None = None,
        every: float | str | None = None,
        at: datetime | str | None = None,
        timezone: str | None = None,
        catch_up: str | None = None,
        catch_up_within: float | None = None,
        overlap: str | None = None,
        tag: str | None = None,
        priority: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the jobs', not this call's
        replace: bool = False,
    ) -> Schedule:
        """Make the schedule, or change of one that is there what is given (all of it, with `replace`).

        One of `cron` (five fields, or six with seconds first), `every` (seconds, or a span such as `90s`,
        `2h`), `at` (a time); `timezone` is what `cron` and `at` mean, UTC by default. `catch_up`: `none`,
        `last` (the default) or `all` of the ticks that nobody was there for, none older than
        `catch_up_within` seconds (a day). `overlap`, while the job before has not ended: `allow` (the
        default), `skip` or `queue_one`. The rest is the jobs'; a tag of "" and a timeout of 0 are the
        script's own.

        Raises `UsageError` and `BadArgsError` that name the field, `UnknownScriptError`.
        """
        given: dict[str, Any] = {
            "script": script, "args": args, "cron": cron, "every": every, "at": at, "timezone": timezone,
            "catch_up": catch_up, "catch_up_within": catch_up_within, "overlap": overlap, "tag": tag,
            "priority": priority, "timeout": timeout,
        }  # fmt: skip
        if script is not None:
            await self.validator(script)  # which registers one that the workspace has
        async with self.database.connection() as connection:
            return await store.set_schedule(connection, name, given, replace=replace)

    async def schedule(self, name: str) -> Schedule:
        """The schedule as it is now. Raises `UnknownScheduleError`."""
        async with self.database.connection() as connection:
            return await store.get_schedule(connection, name)

    async def schedules(
        self, *, script: str | None = None, after: str = "", limit: int = store.PAGE
    ) -> list[Schedule]:
        """Schedules by name, of one script if it is given; the next page begins behind `after`."""
        async with self.database.connection() as connection:
            return await store.list_schedules(connection, script=script, after=after, limit=limit)

    async def pause_schedule(self, name: str) -> Schedule:
        """Let it not tick until it is resumed. Raises `UnknownScheduleError`."""
        async with self.database.connection() as connection:
            return await store.pause_schedule(connection, name)

    async def resume_schedule(self, name: str) -> Schedule:
        """Have it tick again, from now on. Raises `UnknownScheduleError`."""
        async with self.database.connection() as connection:
            return await store.resume_schedule(connection, name)

    async def delete_schedule(self, name: str) -> None:
        """Forget it; the jobs that it has put in stay. Raises `UnknownScheduleError`."""
        async with self.database.connection() as connection:
            await store.delete_schedule(connection, name)

    async def run_schedule(self, name: str) -> UUID:
        """Put in a job of it now; returns its id. Raises `UnknownScheduleError` and what `enqueue` raises."""
        async with self.database.connection() as connection:
            return await store.run_schedule(connection, name)

    async def ticks(self, schedule: Schedule, limit: int = 10) -> list[Tick]:
        """Its last ticks that became jobs, the newest first."""
        async with self.database.connection() as connection:
            return await store.read_ticks(connection, schedule, limit)

    async def schedule_jobs(self, name: str, limit: int = 100) -> list[Job]:
        """The jobs that it has put in, the last tick's first. Raises `UnknownScheduleError`."""
        async with self.database.connection() as connection:
            return await store.schedule_jobs(connection, name, limit)

    async def schedule_of(self, job: UUID) -> tuple[str, datetime] | None:
        """The schedule that put this job in, and for which of its ticks; None: none."""
        async with self.database.connection() as connection:
            return await store.schedule_of(connection, job)

    async def masked_schedules(self, schedules: Iterable[Schedule]) -> Sequence[Schedule]:
        """These as they may be shown: without the secrets in their args."""
        async with self.database.connection() as connection:
            return await store.masked_schedules(connection, schedules)
