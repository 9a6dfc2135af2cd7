"""`hotpath flow`: check flows, and draw them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hotpath.cli.options import Given, common, global_options

if TYPE_CHECKING:
    from hotpath.scripts.flow_file import FileFault
    from hotpath.scripts.locate import Located


@click.group("flow", invoke_without_command=True)
@global_options
def command(_given: Given) -> None:
    """Check flows, and draw them."""
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command("check")
@click.argument("names", nargs=-1, required=True, metavar="FILE|NAME...")
@common
def check(given: Given, names: tuple[str, ...]) -> int:
    """Say everything that is wrong with flows, each with file, line and step.

    Reads the flows, imports their scripts in a child process, and checks what the steps give them. The exit
    code is 1 if anything is wrong. With --json, one document a flow.
    """
    return given.run(_check, given, names)


async def _check(given: Given, names: tuple[str, ...]) -> int:
    from hotpath.cli.output import print_json, safe
    from hotpath.errors import HotpathError

    failed = False
    for name in names:
        try:
            located, faults = await _faults(name, given.config.workspace)
        except HotpathError as error:
            failed = True
            if given.json:
                print_json({"flow": name, "ok": False, "errors": [_document(None, 0, None, str(error))]})
            else:
                print(f"hotpath: {' '.join(safe(str(error)).split())}", file=sys.stderr)
            continue
        failed = failed or bool(faults)
        if given.json:
            errors = [
                _document(str(each.file), each.fault.line, each.fault.step, each.fault.message)
                for each in faults
            ]
            print_json({"flow": located.name, "ok": not faults, "errors": errors})
        elif not faults:
            print(f"{located.name}: ok")
        for each in () if given.json else faults:
            print(" ".join(safe(each.text(_shown(each.file))).split()), file=sys.stderr)
    return 1 if failed else 0


async def _faults(name: str, workspace: Path) -> tuple[Located, tuple[FileFault, ...]]:
    """What is wrong with the flow of this name. Raises `ScriptError` for what is no flow, or cannot be
    loaded.
    """
    from hotpath.errors import ScriptError
    from hotpath.flows.javascript import JavaScript
    from hotpath.scripts.describe import describe
    from hotpath.scripts.flow_check import check_flow
    from hotpath.scripts.locate import locate

    located = locate(name, workspace)
    if located.is_flow:
        return located, await check_flow(located, JavaScript().fault_of)
    description = await describe(located)
    if description.kind != "flow":
        raise ScriptError(
            f"{located.name} is a script and no flow: it uses no hotpath.step, and there is no directory "
            f"{located.name}.flow"
        )
    return located, ()


def _document(file: str | None, line: int, step: str | None, message: str) -> dict[str, Any]:
    return {"file": file, "line": line or None, "step": step, "message": message}


def _shown(file: Path) -> str:
    """The file as seen from here, if that is shorter."""
    try:
        return min(os.path.relpath(file), str(file), key=len)
    except ValueError:
        return str(file)


@command.command("graph")
@click.argument("name", metavar="FILE|NAME")
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid"]),
    default="mermaid",
    show_default=True,
    help="What to draw it with.",
)
@global_options
def graph(given: Given, name: str, form: str) -> int:
    """Print a flow as a diagram.

    A flow that has faults is refused, since what it would do is not known.
    """
    from hotpath.cli.output import printable
    from hotpath.core.flow.graph import mermaid
    from hotpath.errors import ScriptError
    from hotpath.scripts.flow_file import load_flow
    from hotpath.scripts.locate import locate

    assert form == "mermaid", "click lets nothing else through"
    located = locate(name, given.config.workspace)
    if not located.is_flow:
        raise ScriptError(f"{located.name} is a script: only flow files can be drawn")
    print(printable(mermaid(load_flow(located).flow)), end="")
    return 0
