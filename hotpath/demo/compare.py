"""Run the script over files with a for-loop, with a dedicated worker, and with the for-loop again; compare.

The for-loop goes before and after, because on a shared machine the same work takes a different time each
minute: the two together say what a difference of the worker means.
"""

from __future__ import annotations

import json
import operator
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import trio

import hotpath
from hotpath.demo.worker import command_of, drain
from hotpath.errors import HotpathError, UsageError
from hotpath.model import Job, State

SCRIPT = "flow_x"
BROKEN = "broken_on_purpose.py"
_COUNTED = ("functions", "classes", "imports", "lines")
_RESULTS_AT_ONCE = 4  # tasks that read results back


@attrs.frozen
class Pass:
    """One way over all the files."""

    seconds: float
    outcomes: list[tuple[Any, Any]]
    """A result or an error for each file, in order; of the error, `name` and `message`."""

    @property
    def per_second(self) -> float:
        """Files a second."""
        return len(self.outcomes) / self.seconds if self.seconds else 0.0


@attrs.frozen
class Comparison:
    """What the demo found."""

    files: list[str]
    total_bytes: int
    before: Pass
    worker: Pass
    """`seconds` is from the first job's start to the last one's end, by the rows in the database."""
    after: Pass
    command_seconds: float
    """From the start of the `dedicate` command to its exit."""
    push_seconds: float
    inside_main: float
    """Share of the worker's seconds that were spent inside `main`."""
    failed: Job | None
    differing: list[str]
    """Files whose outcome is not the for-loop's; empty when all is well."""

    @property
    def ratio(self) -> float:
        """The worker's files a second against the for-loop's, of which the mean counts."""
        return (self.before.seconds + self.after.seconds) / 2 / self.worker.seconds

    @property
    def drift(self) -> float:
        """By how much the for-loop's own two passes differ: what this machine's minutes are worth."""
        return abs(self.before.seconds - self.after.seconds) / min(self.before.seconds, self.after.seconds)


def totals(outcomes: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Sums over the results, and the longest function of all."""
    results = [result for result, error in outcomes if error is None]
    longest: dict[str, Any] = max(
        (result["longest_function"] for result in results), key=operator.itemgetter("lines"), default={}
    )
    sums = {name: sum(result[name] for result in results) for name in _COUNTED}
    return {
        "files": len(results),
        "failed": len(outcomes) - len(results),
        **sums,
        "longest_function": longest,
    }


def standard_library() -> Path:
    """The directory of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def find_files(directory: Path) -> list[str]:
    """Every `.py` file below `directory`, sorted; packages that somebody installed there are left out."""
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory: name one that holds Python files")
    found = sorted(
        str(path)
        for path in directory.resolve().rglob("*.py")
        if path.is_file() and not {"site-packages", "dist-packages"} & set(path.relative_to(directory).parts)
    )
    if not found:
        raise UsageError(f"no .py file below {directory}: name a directory that holds some")
    return found


def make_workspace(home: Path) -> Path:
    """The demo's own workspace below `home`, with the script in it as this version of Hotpath has it."""
    workspace = home / "demo"
    missing = [path for path in (workspace, *workspace.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)  # root's database runs as another user, who has to pass through
    source = resources.files("hotpath.demo").joinpath(f"{SCRIPT}.py").read_bytes()
    script = workspace / f"{SCRIPT}.py"
    draft = workspace / f".{SCRIPT}.{os.getpid()}"
    draft.write_bytes(source)
    draft.replace(script)  # at once: another demo may be reading it
    return workspace


async def compare(
    directory: Path, workspace: Path, say: Callable[[str], None], database_url: str | None = None
) -> Comparison:
    """Push the files below `directory`, drain them with a dedicated worker, check and time it.

    `say` is told how far it is. Raises UsageError for a directory without Python files,
    DatabaseUnavailableError, and HotpathError when the worker does not end as it should.
    """
    files = find_files(directory)
    say(f"for-loop over {len(files):,} files")
    before = await _for_loop(workspace, files)
    if not any(error for _, error in before.outcomes):
        broken = workspace / BROKEN
        broken.write_text("def main(:\n    this is not Python\n")
        files.append(str(broken))
        before = await _for_loop(workspace, files)
    async with hotpath.open_client(database_url, workspace=workspace) as client:
        await _clear(client)
        began = time.perf_counter()
        ids = await client.enqueue_many(SCRIPT, [{"path": path} for path in files])
        push_seconds = time.perf_counter() - began
        say(f"pushed {len(ids):,} jobs in {push_seconds:.2f} s; now, in {workspace}:")
        say(f"$ {' '.join(command_of(SCRIPT))}")
        began = time.perf_counter()
        await drain(SCRIPT, workspace, say, database_url)
        command_seconds = time.perf_counter() - began
        say("reading the results back")
        jobs = await _read_jobs(client, list(ids))
    say("for-loop again")
    after = await _for_loop(workspace, files)
    return _judge(files, before, jobs, after, command_seconds=command_seconds, push_seconds=push_seconds)


def _judge(
    files: list[str],
    before: Pass,
    jobs: list[Job],
    after: Pass,
    *,
    command_seconds: float,
    push_seconds: float,
) -> Comparison:
    unfinished = [job for job in jobs if job.state not in (State.SUCCESS, State.FAILURE)]
    if unfinished:
        raise HotpathError(
            f"{len(unfinished)} of {len(jobs)} jobs did not run, the first is {unfinished[0].id} "
            f"({unfinished[0].state}); look at it with: hotpath job {unfinished[0].id}"
        )
    outcomes = [(job.result, _brief(job.error)) for job in jobs]
    started = min(job.started_at for job in jobs if job.started_at is not None)
    finished = max(job.finished_at for job in jobs if job.finished_at is not None)
    span = (finished - started).total_seconds()
    inside = sum(job.duration_ms or 0.0 for job in jobs) / 1000
    worker = Pass(span, outcomes)
    return Comparison(
        files=files,
        total_bytes=sum(os.path.getsize(path) for path in files),
        before=before,
        worker=worker,
        after=after,
        command_seconds=command_seconds,
        push_seconds=push_seconds,
        inside_main=inside / span if span else 0.0,
        failed=next((job for job in jobs if job.state is State.FAILURE), None),
        differing=differing_files(files, before, worker, after),
    )


def differing_files(files: list[str], before: Pass, worker: Pass, after: Pass) -> list[str]:
    """Files of which the three do not say the same."""
    rows = zip(files, before.outcomes, worker.outcomes, after.outcomes, strict=True)
    return [path for path, first, got, last in rows if not first == got == last]


def _brief(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """What can be compared of an error: a traceback has the lines of whoever called."""
    return None if error is None else {"name": error["name"], "message": error["message"]}


async def _for_loop(workspace: Path, files: list[str]) -> Pass:
    command = [sys.executable, "-m", "hotpath.demo.loop", str(workspace / f"{SCRIPT}.py")]
    done = await trio.run_process(command, stdin=json.dumps(files).encode(), capture_stdout=True, check=False)
    if done.returncode:
        raise HotpathError(
            f"the for-loop's process ended with exit code {done.returncode}: see above for why"
        )
    said = json.loads(done.stdout)
    return Pass(said["seconds"], [(result, error) for result, error in said["outcomes"]])


async def _clear(client: Any) -> None:
    """Cancel what an interrupted demo left in the queue: this one's worker would run it first."""
    while waiting := await client.jobs(state=State.QUEUED, script=SCRIPT, limit=1000):
        canceled = [await client.cancel(job.id) for job in waiting]
        if not any(canceled):
            break


async def _read_jobs(client: Any, ids: list[UUID]) -> list[Job]:
    """Every job by its id, in order."""
    jobs: dict[UUID, Job] = {}
    waiting = iter(ids)

    async def read() -> None:
        for job_id in waiting:
            jobs[job_id] = await client.job(job_id)

    async with trio.open_nursery() as nursery:
        for _ in range(_RESULTS_AT_ONCE):
            nursery.start_soon(read)
    return [jobs[job_id] for job_id in ids]


def command_path() -> str:
    """How to call `hotpath` from where the user is: its file, relative if it is below, or its plain name."""
    beside = Path(sys.executable).with_name("hotpath")
    if not beside.exists():
        return "hotpath" if shutil.which("hotpath") else f"{sys.executable} -m hotpath"
    relative = os.path.relpath(beside)
    return relative if not relative.startswith("..") else str(beside)
