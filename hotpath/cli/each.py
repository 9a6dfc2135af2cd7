"""What `cancel` and `retry` share: ask for the same of each job, say what became of it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

from hotpath.cli.options import Given

if TYPE_CHECKING:
    from hotpath.client import Client

Ask = Callable[["Client", UUID], Awaitable[bool]]


async def each(
    given: Given,
    ids: tuple[UUID, ...],
    ask: Ask,
    *,
    key: str,
    done: Callable[[str], str],
    refused: Callable[[str], str],
) -> int:
    """Ask for each job; print one line, or one JSON document with the answer under `key`, for each.

    `done` and `refused` make the words from the job's state. Returns the exit code: 1 if any was refused.
    """
    from hotpath.cli.output import print_json
    from hotpath.client import open_client
    from hotpath.errors import NotKeptError, UnknownJobError, UsageError

    code = 0
    async with open_client(config=given.config) as client:
        for job_id in ids:
            try:
                agreed = await ask(client, job_id)
                state = (await client.job(job_id)).state.value
            except UnknownJobError:
                agreed, state = False, "unknown"
            except (UsageError, NotKeptError) as error:
                if len(ids) == 1 and not given.json:
                    raise
                state = (await client.job(job_id)).state.value
                if given.json:
                    print_json({"id": job_id, key: False, "state": state})
                print(f"hotpath: {error}", file=sys.stderr)
                code = 1
                continue
            if not agreed:
                code = 1
            if given.json:
                print_json({"id": job_id, key: agreed, "state": state})
            elif agreed:
                print(f"{job_id} {done(state)}")
            elif state == "unknown":
                print(
                    f"hotpath: {job_id} is not the id of a job in this database; see `hotpath jobs`",
                    file=sys.stderr,
                )
            else:
                print(f"hotpath: {job_id} {refused(state)}", file=sys.stderr)
    return code
