"""`hotpath deploy`: the scripts of a directory become versions in the database."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.scripts.locate import Located

CHILDREN = 4
"""Scripts that are read at the same time, each in a child process."""


@attrs.define
class Found:
    """What came of one script."""

    script: str
    change: str = "failed"
    """`new`, `changed`, `unchanged` or `failed`."""
    hash: str | None = None
    error: str | None = None
    traceback: str = ""


@click.command("deploy")
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@common
def command(given: Given, directory: Path | None) -> int:
    """Register every script below DIRECTORY (by default the whole workspace): each .py file with a function
    main.

    Reports each script. One that cannot be loaded keeps none of the others back, but makes the exit code
    1.
    """
    return given.run(_deploy, given, None if directory is None else Path(os.path.abspath(directory)))


async def _deploy(given: Given, directory: Path | None) -> int:
    import trio

    from hotpath.cli.output import print_json, safe
    from hotpath.errors import UsageError
    from hotpath.scripts.locate import find_scripts
    from hotpath.store.database import Database, open_database
    from hotpath.store.scripts import versions

    workspace = given.config.workspace
    below = directory or workspace
    if not below.is_relative_to(workspace):
        raise UsageError(
            f"{below} is not in the workspace {workspace}; add `--workspace {below}` to deploy it as one"
        )
    scripts = [
        each
        for each in find_scripts(workspace)
        if each.file.is_relative_to(below) and (each.is_flow or has_main(each.file))
    ]
    found = [Found(each.name) for each in scripts]
    queue = list(zip(scripts, found, strict=True))[::-1]

    async def work(database: Database, known: dict[str, str]) -> None:
        while queue:
            await _register(database, *queue.pop(), known)

    async with open_database(given.config) as database:
        async with database.connection() as connection:
            known = {
                each.version.description.path: each.version.description.hash
                for each in await versions(connection)
                if each.current
            }
        async with trio.open_nursery() as nursery:
            for _ in range(CHILDREN):
                nursery.start_soon(work, database, known)
    for each in found:
        if given.json:
            print_json(attrs.asdict(each))
        elif each.error is None:
            print(f"{each.change:<10} {each.script}  {(each.hash or '')[:12]}")
        else:
            if each.traceback:
                print(safe(each.traceback).rstrip(), file=sys.stderr)
            print(f"hotpath: {' '.join(safe(each.error).split())}", file=sys.stderr)
    if not found:
        print(
            f"hotpath: no scripts below {below}: a script is a .py file with a function main", file=sys.stderr
        )
    return 1 if any(each.error for each in found) else 0


async def _register(database: Any, located: Located, found: Found, known: dict[str, str]) -> None:
    from hotpath.errors import ScriptError
    from hotpath.scripts.describe import describe
    from hotpath.store.scripts import register_version

    try:
        description = await describe(located)
    except ScriptError as error:
        found.error, found.traceback = str(error), getattr(error, "traceback", "")
        return
    async with database.connection() as connection:
        await register_version(connection, description)
    found.hash = description.hash
    before = known.get(description.path)
    found.change = "new" if before is None else "unchanged" if before == description.hash else "changed"


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
