"""`hotpath run`: one job, from the command line to its result."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.client import Client
    from hotpath.model import Job, ScriptVersion

LOOK_FOR_WORKERS = 2.0
"""Seconds after which a command that waits says that no worker listens."""


@click.command("run")
@click.argument("name")
@click.argument("args", required=False, metavar="[JSON]")
@click.option(
    "-a",
    "--arg",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="One arg; may be repeated, wins over JSON.",
)
@click.option("--tag", "-t", metavar="T", help="Tag the job waits in. [the script's own]")
@click.option(
    "--priority", type=int, default=0, metavar="P", help="Larger first, -32768 to 32767. [the script's own]"
)
@click.option("--timeout", type=float, metavar="S", help="Stop waiting after S seconds; the job goes on.")
@click.option(
    "--job-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="End a run of the job that takes longer than S seconds. [the script's own]",
)
@click.option("--unique", metavar="KEY", help="If another job has KEY, wait for that one. [the script's own]")
@click.option("--local", is_flag=True, help="Run it here and now, in a worker of its own.")
@common
def command(
    given: Given,
    *,
    name: str,
    timeout: float | None,
    job_timeout: float | None,
    local: bool,
    tag: str | None,
    **rest: Any,
) -> int:
    """Enqueue one job of the script NAME, wait for it, and print its result as JSON. NAME@HASH means one
    version of it.

    JSON is an object with the args. A VALUE is JSON where main wants anything but text. Exits 1 if the
    job fails.
    """
    if local and tag is not None:
        raise click.UsageError("--local waits in a tag of its own; leave out --tag")
    if timeout is not None and not timeout > 0:
        raise click.UsageError(f"--timeout must be above 0, not {timeout:g}")
    if local:
        tag = f"local/{uuid.uuid4()}"
    patience = math.inf if timeout is None else timeout
    request = Request(name=name, patience=patience, job_timeout=job_timeout, is_local=local, tag=tag, **rest)
    return given.run(_run, given, request)


@attrs.frozen(kw_only=True)
class Request:
    """What `hotpath run` was asked for."""

    name: str
    args: str | None
    pairs: tuple[str, ...]
    tag: str | None
    priority: int
    patience: float
    """Seconds to wait for the job."""
    job_timeout: float | None
    """Seconds that one run of it may take; None: as the script says."""
    unique: str | None
    is_local: bool


async def _run(given: Given, request: Request) -> int:
    import msgspec
    import trio

    from hotpath.cli.output import pretty_json, print_json
    from hotpath.client import open_client
    from hotpath.documents import job_document
    from hotpath.model import State

    async with open_client(config=given.config) as client:
        version = await resolve(client, request.name, is_local=request.is_local)
        script = version.description.path
        raw = read_args(version, request.args, request.pairs)
        args = msgspec.json.decode((await client.validator(script)).check_json(raw))
        job_id = await client.enqueue(
            script, args, tag=request.tag, priority=request.priority, timeout=request.job_timeout,
            unique=request.unique,
        )  # fmt: skip
        job: Job | None = None
        with trio.move_on_after(request.patience):
            if request.is_local:
                name = script if "@" in script else request.name
                job = await _run_here(given, client, name, request.tag or script, job_id)
            else:
                job = await _wait(client, job_id)
        if job is None:
            note = "it was canceled" if request.is_local and await client.cancel(job_id) else "it goes on"
            _tell(
                f"job {job_id} has not ended after {request.patience:g} s; {note}: see `hotpath job {job_id}`"
            )
            return 1
        (job,) = await client.masked([job])
    if given.json:
        print_json(job_document(job))
    elif job.state not in (State.FAILURE, State.CANCELED):  # it may go on, with an early result
        print(pretty_json(job.result))
    if job.state not in (State.FAILURE, State.CANCELED):
        return 0
    _show_error(job)
    return 1


async def resolve(client: Client, name: str, *, is_local: bool = False) -> ScriptVersion:
    """The version that jobs of NAME are to be run by. Where another one is deployed than the workspace has,
    it is that one, and the user is told; if `is_local`, it is the workspace's all the same.
    """
    version = await client.register(name)
    script, own = version.description.path, version.description.hash[:12]
    if "@" in script:
        return version
    current = await client.current(script)
    if current.id == version.id:
        return version
    if is_local:
        return await client.current(f"{script}@{own}")
    _tell(
        f"{script}: version {current.description.hash[:12]} is deployed and runs; the workspace has {own}: "
        f"`hotpath deploy` makes that the one, `{script}@{own}` means it once"
    )
    return current


async def _wait(client: Client, job_id: uuid.UUID) -> Job:
    """Wait for the job; say so once if nobody is there to run it."""
    import trio

    from hotpath.model import State
    from hotpath.store.stranded import reason, why_stranded

    async with trio.open_nursery() as nursery:

        async def look() -> None:
            await trio.sleep(LOOK_FOR_WORKERS)
            job = await client.job(job_id)
            async with client.database.connection() as connection:
                why = await why_stranded(connection, job.tag, job.script)
            if why is not None and job.state is State.QUEUED:
                _tell(f"{reason(job.tag, job.script, why)}; waiting for job {job_id}")

        nursery.start_soon(look)
        job = await client.wait(job_id, early=True)
        nursery.cancel_scope.cancel()
    return job


async def _run_here(given: Given, client: Client, name: str, tag: str, job_id: uuid.UUID) -> Job | None:
    """Have a worker of this command's own drain the job's private tag."""
    import trio

    from hotpath.errors import HotpathError
    from hotpath.model import State

    command = [sys.executable, "-m", "hotpath", "dedicate", name, "--tag", tag, "--drain", "--quiet"]
    command += ["--workspace", str(given.config.workspace)]
    environment = dict(os.environ)
    environment["HOTPATH_DATABASE_URL"] = given.config.database_url or "embedded"
    done = await trio.run_process(command, env=environment, stdin=subprocess.DEVNULL, stdout=2, check=False)
    job = await client.job(job_id)
    if job.state in (State.QUEUED, State.RUNNING):
        waits = await client.waits(job_id)
        await client.cancel(job_id)
        if waits and not done.returncode:
            from hotpath.words import wait_text

            raise HotpathError(
                f"run {job_id} {wait_text(waits[0])}; it was canceled, since nobody stays to go on with it: "
                f"leave out --local, and have `hotpath dedicate {job.script}` run"
            )
        raise HotpathError(
            f"the worker for job {job_id} ended with exit code {done.returncode} before it ran the job"
        )
    return job


def read_args(version: ScriptVersion, text: str | None, pairs: tuple[str, ...]) -> bytes:
    """The args object that the command line means, as JSON. Raises `BadArgsError`."""
    import msgspec

    from hotpath.errors import BadArgsError

    raw = text.encode("utf-8", "surrogateescape") if text is not None else b"{}"
    if not pairs:
        return raw
    try:
        given = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadArgsError(f"args are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise BadArgsError("args must be one JSON object, such as '{\"x\": 1}'")
    schema = version.description.schema
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"-a wants KEY=VALUE, not {pair!r}")
        given[key] = read_value(schema, schema.get("properties", {}).get(key, {}), value)
    try:
        return msgspec.json.encode(given)
    except UnicodeEncodeError:
        raise BadArgsError("args must be UTF-8 text") from None


def read_value(schema: Mapping[str, Any], wanted: Any, text: str) -> Any:
    """The value that `text` means where `wanted` is expected: itself for text, else JSON; itself if it is
    neither.
    """
    import msgspec

    if _takes_text(schema, wanted):
        return text
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text  # anything goes, or the validator names the field


def _takes_text(schema: Mapping[str, Any], wanted: Any, depth: int = 0) -> bool:
    if not isinstance(wanted, Mapping) or depth > 10:
        return False
    if reference := wanted.get("$ref"):
        return _takes_text(schema, schema.get("$defs", {}).get(reference.rpartition("/")[2]), depth + 1)
    if options := wanted.get("anyOf"):
        return any(_takes_text(schema, option, depth + 1) for option in options)
    if "enum" in wanted:
        return any(isinstance(value, str) for value in wanted["enum"])
    kind = wanted.get("type")
    return (
        kind == "string"
        or (isinstance(kind, list) and "string" in kind)
        or isinstance(wanted.get("const"), str)
    )


def _show_error(job: Job) -> None:
    from hotpath.cli.output import printable

    error = job.error or {}
    if trace := error.get("traceback"):
        print(printable(trace, sys.stderr).rstrip(), file=sys.stderr)
    verb = "was canceled" if job.state == "canceled" else "failed"
    said = " ".join(
        printable(f"{error.get('name', 'Error')}: {error.get('message', '')}", sys.stderr).split()
    )
    _tell(f"job {job.id} {verb}: {said}")


def _tell(text: str) -> None:
    print(f"hotpath: {text}", file=sys.stderr, flush=True)
