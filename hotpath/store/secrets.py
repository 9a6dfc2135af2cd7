"""Jobs as they are shown to people: without the secrets in their args.

A value is a secret if any version of its script that the database knows marks the place where it stands, be
it an older or a newer one than the job was made for. What it is in the args is masked in the rest of the job,
too; of a step, so are the secrets of its run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import attrs
import msgspec

from hotpath import asyncpg_trio
from hotpath.core.secrets import Masker, Places, masker_of
from hotpath.model import Attempt, Job
from hotpath.store.flows import RunStep
from hotpath.store.jobs import decode_args, get_job
from hotpath.store.queries import query

DEPTH = 20
"""Runs of runs that are asked for their secrets."""


async def shown_job(connection: asyncpg_trio.Connection, job_id: UUID) -> Job | None:
    """The job as it may be shown, wherever it is; None when nobody knows it."""
    job = await get_job(connection, job_id)
    return None if job is None else (await masked(connection, [job]))[0]


async def masked(
    connection: asyncpg_trio.Connection, jobs: Iterable[Job], *, payloads: bool = True
) -> list[Job]:
    """These jobs as they may be shown. `payloads`: whether they were read with their args; if not, those of
    jobs that failed are read here, since an error may tell what they are.
    """
    given = list(jobs)
    if not given:
        return given
    found = await _secrets_of(connection, given)
    if not found.places:
        return given
    if payloads:
        return [found.job(job) for job in given]
    failed = [job.id for job in given if job.error is not None and job.script in found.places]
    args = await _parents(connection, failed) if failed else {}
    whole = [attrs.evolve(job, args=args[job.id].args) if job.id in args else job for job in given]
    return [attrs.evolve(found.job(job), args={}) for job in whole]


async def masked_steps(
    connection: asyncpg_trio.Connection, run: UUID, steps: Sequence[RunStep]
) -> list[RunStep]:
    """Steps of this run as they may be shown: what may tell a secret is their errors."""
    given = list(steps)
    if all(step.error is None for step in given):
        return given
    found = await _secrets_of(connection, (), {run})
    masker = found.masker_of_run(run, [])
    return [attrs.evolve(step, error=masker.error(step.error)) for step in given]


async def masked_attempts(
    connection: asyncpg_trio.Connection, job: Job, attempts: Sequence[Attempt]
) -> list[Attempt]:
    """Runs of this job as they may be shown. `job` is as it was read."""
    masker = (await _secrets_of(connection, [job])).masker(job)
    return [attrs.evolve(each, error=masker.error(each.error)) for each in attempts]


@attrs.frozen
class Parent:
    """A run, as far as its steps' secrets are its own."""

    script: str
    args: Any
    parent: UUID | None
    """Of a run that is a step: the run that it is one of."""


async def _secrets_of(
    connection: asyncpg_trio.Connection, jobs: Sequence[Job], runs: Iterable[UUID] = ()
) -> _Secrets:
    """What is secret in these jobs, and in these runs."""
    known: dict[UUID, Parent] = {}
    wanted = {*runs, *(job.parent for job in jobs if job.parent is not None)}
    for _ in range(DEPTH):
        if not wanted:
            break
        more = await _parents(connection, wanted)
        known |= more
        wanted = {run.parent for run in more.values() if run.parent is not None} - known.keys()
    places: dict[str, list[Places]] = defaultdict(list)
    names = {job.script for job in jobs} | {run.script for run in known.values()}
    for name, schema in await _schemas(connection, names):
        places[name].append(Places(schema))
    return _Secrets(dict(places), known)


async def _schemas(
    connection: asyncpg_trio.Connection, scripts: Iterable[str]
) -> list[tuple[str, dict[str, Any]]]:
    """Name and schema of each version of these scripts that takes secrets, older versions included."""
    rows = await connection.fetch(query("secret_schemas"), sorted(set(scripts)))
    return [(row["name"], msgspec.json.decode(row["schema"])) for row in rows]


async def _parents(connection: asyncpg_trio.Connection, runs: Iterable[UUID]) -> dict[UUID, Parent]:
    """These runs; without those that nobody knows any more."""
    rows = await connection.fetch(query("parents"), sorted(set(runs)))
    return {
        UUID(int=row["id"].int): Parent(
            row["script"],
            None if row["args"] is None else decode_args(row["args"]),
            None if row["parent"] is None else UUID(int=row["parent"].int),
        )
        for row in rows
    }


@attrs.frozen
class _Secrets:
    """The secrets of some jobs."""

    places: dict[str, list[Places]]
    """By script."""
    runs: dict[UUID, Parent]

    def masker(self, job: Job) -> Masker:
        """What takes the secrets of this job out of a text."""
        return self.masker_of_run(job.parent, self._texts(job.script, job.args))

    def masker_of_run(self, run: UUID | None, texts: list[str]) -> Masker:
        """The same for these texts, and the secrets of a run and those above it."""
        for _ in range(DEPTH):
            above = None if run is None else self.runs.get(run)
            if above is None:
                break
            texts = texts + self._texts(above.script, above.args)
            run = above.parent
        return masker_of(tuple(sorted(set(texts))))

    def _texts(self, script: str, args: Any) -> list[str]:
        return [text for places in self.places.get(script, ()) for text in places.texts(args)]

    def job(self, job: Job) -> Job:
        """A job as it may be shown."""
        masker = self.masker(job)
        args = job.args
        for places in self.places.get(job.script, ()):
            args = places.mask(args)
        if job.parent is not None:
            args = masker.value(args)
        return attrs.evolve(job, args=args, result=masker.value(job.result), error=masker.error(job.error))
