"""`hotpath deploy`: the scripts of a directory become versions in the database."""

from __future__ import annotations

import ast
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from hotpath.cli.deploy_k8s import WithPlatforms
from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hotpath.model import Description
    from hotpath.scripts.locate import Located
    from hotpath.store.database import Database

CHILDREN = 4
"""Scripts that are read at the same time, each in a child process."""

BEYOND = 15.0
"""Seconds that `--wait` lasts longer than a version may take to load: it is to say that one did not."""


@attrs.define
class Found:
    """What came of one script."""

    script: str
    change: str = "failed"
    """`new`, `changed`, `unchanged` or `failed`."""
    hash: str | None = None
    error: str | None = None
    traceback: str = ""
    remarks: list[str] = attrs.field(factory=list)
    """What its author may not have meant."""


@click.command("deploy", cls=WithPlatforms)
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--wait", is_flag=True, help="Wait until the workers run it; exit 1 if one cannot.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Seconds that --wait lasts. [15 more than HOTPATH_LOAD_TIMEOUT]",
)
@click.option("--watch", is_flag=True, help="Go on, and deploy each script whenever it is saved.")
@click.option("--describe", is_flag=True, help="Deploy nothing: print what POST /api/v1/versions takes.")
@click.option("--rollback", metavar="NAME", help="Make the version current that was it before.")
@click.option("--to", metavar="HASH", help="With --rollback: make this version current.")
@common
def command(
    given: Given,
    *,
    directory: Path | None,
    wait: bool,
    timeout: float | None,
    watch: bool,
    describe: bool,
    rollback: str | None,
    to: str | None,
) -> int:
    """Store every script below DIRECTORY (by default the whole workspace), each .py file with a function main
    and each flow, and make these the versions that run: workers that are dedicated to them swap them in.

    Reports each script. One that cannot be loaded keeps none of the others back, but makes the exit code
    1. `--describe` needs no database, and prints one JSON document a line, to be sent to a server that does
    (docs/http.md). `hotpath deploy k8s` and `hotpath deploy compose` write manifests instead; see their
    --help.
    """
    seconds = None
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait")
    if wait:
        seconds = given.config.load_within + BEYOND if timeout is None else timeout
    if rollback is not None:
        if directory is not None or watch or describe:
            raise click.UsageError(
                "--rollback NAME is about one script: leave out DIRECTORY, --watch and --describe"
            )
        from hotpath.cli.rollout import roll_back

        return given.run(roll_back, given, rollback, to, seconds)
    if to is not None:
        raise click.UsageError("--to goes with --rollback NAME")
    if watch and wait:
        raise click.UsageError("--wait ends and --watch does not: leave out one")
    below = None if directory is None else Path(os.path.abspath(directory))
    if describe:
        if watch or wait:
            raise click.UsageError("--describe deploys nothing: leave out --watch and --wait")
        return given.run(_describe, given, below)
    return given.run(_deploy, given, below, seconds, watch)


async def _deploy(given: Given, directory: Path | None, wait: float | None, watch: bool) -> int:  # noqa: FBT001 - a flag of the command
    from hotpath.cli.deploy_watch import keep_deployed, look_at
    from hotpath.cli.rollout import wait_taken
    from hotpath.scripts.describe import gently
    from hotpath.store.database import open_database

    gently.set(True)  # workers on this host go first
    find, below = _finder(given.config.workspace, directory)
    async with open_database(given.config) as database:
        scripts = find()
        known = look_at(scripts) if watch else {}
        found = await _deploy_all(given, database, scripts)
        if not found:
            _say_none(below)
        if watch:
            await keep_deployed(known, find, functools.partial(_deploy_all, given, database))
        fine = not any(each.error for each in found)
        if wait is not None:
            names = [each.script for each in found if each.error is None]
            fine = await wait_taken(given, database, names, wait) and fine
    return 0 if fine else 1


def _finder(workspace: Path, directory: Path | None) -> tuple[Callable[[], list[Located]], Path]:
    """What finds the scripts to be deployed, each time anew, and below which directory. Raises `UsageError`
    for one outside of the workspace.
    """
    from hotpath.errors import UsageError
    from hotpath.scripts.locate import find_scripts

    below = directory or workspace
    if not below.is_relative_to(workspace):
        raise UsageError(
            f"{below} is not in the workspace {workspace}; add `--workspace {below}` to deploy it as one"
        )

    def find() -> list[Located]:
        return [
            each
            for each in find_scripts(workspace)
            if each.file.is_relative_to(below) and (each.is_flow or has_main(each.file))
        ]

    return find, below


def _say_none(below: Path) -> None:
    print(f"hotpath: no scripts below {below}: a script is a .py file with a function main", file=sys.stderr)


async def _describe(given: Given, directory: Path | None) -> int:
    """Print each script as the API takes it; say what is wrong with the others."""
    from hotpath.cli.output import print_json
    from hotpath.documents import description_document
    from hotpath.errors import ScriptError
    from hotpath.scripts.describe import describe

    find, below = _finder(given.config.workspace, directory)
    found = find()
    if not found:
        _say_none(below)
    code = 0
    for located in found:
        try:
            print_json(description_document(await describe(located)))
        except ScriptError as error:
            _say_wrong(str(error), getattr(error, "traceback", ""))
            code = 1
    return code


def _say_wrong(error: str, traceback: str) -> None:
    from hotpath.cli.output import safe

    if traceback:
        print(safe(traceback).rstrip(), file=sys.stderr)
    print(f"hotpath: {' '.join(safe(error).split())}", file=sys.stderr, flush=True)


async def _deploy_all(given: Given, database: Database, scripts: Sequence[Located]) -> list[Found]:
    """Deploy these, and tell of each."""
    import trio

    from hotpath.cli.output import print_json, safe
    from hotpath.store.scripts import versions

    found = [Found(each.name) for each in scripts]
    queue = list(zip(scripts, found, strict=True))[::-1]
    async with database.connection() as connection:
        known = {
            each.version.description.path: each.version.description
            for each in await versions(connection)
            if each.current
        }

    async def work() -> None:
        while queue:
            await _register(database, *queue.pop(), known)

    async with trio.open_nursery() as nursery:
        for _ in range(CHILDREN):
            nursery.start_soon(work)
    for each in found:
        if given.json:
            print_json(attrs.asdict(each))
        elif each.error is None:
            print(f"{each.change:<10} {each.script}  {(each.hash or '')[:12]}", flush=True)
        else:
            _say_wrong(each.error, each.traceback)
        for remark in each.remarks:
            print(f"hotpath: {each.script}: {safe(remark)}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    return found


async def _register(
    database: Database, located: Located, found: Found, known: dict[str, Description]
) -> None:
    from hotpath.errors import ScriptError
    from hotpath.scripts.describe import describe
    from hotpath.store.limits import version_remarks
    from hotpath.store.scripts import register_version

    try:
        description = await describe(located)
    except ScriptError as error:
        found.error, found.traceback = str(error), getattr(error, "traceback", "")
        return
    before = known.get(description.path)
    async with database.connection() as connection:
        await register_version(connection, description, deploy=True)
        found.remarks = [*description.remarks, *await version_remarks(connection, before, description)]
    found.hash = description.hash
    found.change = "new" if before is None else "unchanged" if before.hash == found.hash else "changed"


def has_main(file: Path) -> bool:
    """Whether the file, read and not run, defines `main` at its top level; one that cannot be parsed may
    well.
    """
    try:
        source = file.read_bytes()
    except OSError:
        return False
    if b"main" not in source:
        return False
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return b"def main(" in source
    return any(_defines_main(node) for node in tree.body)


def _defines_main(node: ast.stmt) -> bool:
    match node:
        case ast.FunctionDef(name="main") | ast.AsyncFunctionDef(name="main"):
            return True
        case ast.Assign(targets=targets):
            return any(isinstance(target, ast.Name) and target.id == "main" for target in targets)
        case ast.If(body=body, orelse=orelse) | ast.Try(body=body, orelse=orelse):
            return any(map(_defines_main, [*body, *orelse]))
    return False
