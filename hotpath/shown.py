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

from hotpath.core.secrets import Masker, Places, masker_of
from hotpath.model import Attempt, Job
from hotpath.store import secrets as store
from hotpath.store.database import Database
from hotpath.store.flows import RunStep

DEPTH = 20
"""Runs of runs that are asked for their secrets."""


class Shown:
    """A part of `hotpath.client.Client`."""

    database: Database

    async def masked(self, jobs: Iterable[Job]) -> list[Job]:
        """These jobs as they may be shown: `MASK` for each secret in their args, results and errors."""
        given = list(jobs)
        if not given:
            return given
        found = await self._secrets_of(given)
        return [found.job(job) for job in given] if found.places else given

    async def masked_steps(self, run: Job, steps: Sequence[RunStep]) -> list[RunStep]:
        """Steps of this run as they may be shown. `run` is as it was read."""
        found = await self._secrets_of([run])
        masker = found.masker(run)
        return [attrs.evolve(step, error=masker.error(step.error)) for step in steps]

    async def masked_attempts(self, job: Job, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Runs of this job as they may be shown. `job` is as it was read."""
        found = await self._secrets_of([job])
        masker = found.masker(job)
        return [attrs.evolve(each, error=masker.error(each.error)) for each in attempts]

    async def _secrets_of(self, jobs: Sequence[Job]) -> _Secrets:
        async with self.database.connection() as connection:
            runs: dict[UUID, store.Parent] = {}
            wanted = {job.parent for job in jobs if job.parent is not None}
            for _ in range(DEPTH):
                if not wanted:
                    break
                more = await store.parents(connection, wanted)
                runs |= more
                wanted = {run.parent for run in more.values() if run.parent is not None} - runs.keys()
            names = {job.script for job in jobs} | {run.script for run in runs.values()}
            places: dict[str, list[Places]] = defaultdict(list)
            for name, schema in await store.secret_schemas(connection, names):
                places[name].append(Places(schema))
            return _Secrets(dict(places), runs)


@attrs.frozen
class _Secrets:
    """The secrets of some jobs."""

    places: dict[str, list[Places]]
    """By script."""
    runs: dict[UUID, store.Parent]

    def masker(self, job: Job) -> Masker:
        """What takes the secrets of this job out of a text."""
        texts = self._texts(job.script, job.args)
        parent = job.parent
        for _ in range(DEPTH):
            run = None if parent is None else self.runs.get(parent)
            if run is None:
                break
            texts += self._texts(run.script, run.args)
            parent = run.parent
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
