"""Import a script's module into this process, once, under the name its author imports it by.

The workspace goes first on `sys.path`, so `from f.team.text import clean` works in `f/team/score.py`, and the
script itself is the module `f.team.score`. A script whose name is no dotted name (`my-script.py`), or whose
name something else already has (`json.py`, which is also the standard library's), is loaded from its file
instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import keyword
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from hotpath.core.names import plain_name
from hotpath.errors import HotpathError, ScriptError, ScriptImportError
from hotpath.scripts.failure import is_ours, message_of, traceback_of
from hotpath.scripts.fresh import FreshLoader, compile_below

SECRETS = ("HOTPATH_DATABASE_URL", "HOTPATH_LISTEN_URL", "DATABASE_URL", "PGPASSWORD")
"""What leaves the environment before user code runs: less exposure, not a wall (the same user can read
/proc).
"""


def scrub_environment() -> None:
    """Remove the database's addresses and passwords from `os.environ`; read them first."""
    for name in SECRETS:
        os.environ.pop(name, None)


@attrs.frozen
class Loaded:
    """A script's module, imported."""

    module: ModuleType
    main: Callable[..., Any]
    preload: Callable[[], Any] | None


def load(name: str, file: Path, workspace: Path) -> Loaded:
    """Import the module and find its `main`; call it in the thread that will run the jobs.

    Raises `ScriptImportError` if the module raises anything at all, `ScriptError` if it has no `main` to
    call.
    """
    root = str(workspace)
    compile_below(root)
    if root not in sys.path:
        sys.path.insert(0, root)
    try:
        module = _import(name, file, workspace)
    except BaseException as error:  # noqa: BLE001 - user code: SystemExit and KeyboardInterrupt included
        raise import_error(name, error) from None
    return loaded_from(name, module, file.name)


def loaded_from(name: str, module: ModuleType, file: str) -> Loaded:
    """What is in a script's module. Raises `ScriptError` if it has no `main` to call."""
    main = getattr(module, "main", None)
    if main is None:
        raise ScriptError(f"{name} has no function `main` ({file})")
    if not callable(main):
        raise ScriptError(f"`main` of {name} is not a function but of type {type(main).__name__} ({file})")
    preload = getattr(module, "preload", None)
    return Loaded(module, main, preload if callable(preload) else None)


def import_error(name: str, error: BaseException, *, doing: str = "cannot be imported") -> ScriptImportError:
    """What a user is told about an exception in module code: one line, and their own frames."""
    where = ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({Path(error.filename).name}, line {error.lineno})"
        text = error.msg
    else:
        tb = error.__traceback__
        place: tuple[str, int] | None = None
        while tb is not None:
            filename = tb.tb_frame.f_code.co_filename
            if not is_ours(filename):
                place = Path(filename).name, tb.tb_lineno
            tb = tb.tb_next
        if place is not None:
            where = f" ({place[0]}, line {place[1]})"
        text = message_of(error)
    first = (text.splitlines() or [""])[0]
    if isinstance(error, HotpathError):  # ours, from hotpath.settings(...): it says itself what is wrong
        return ScriptImportError(f"{name}: {first}{where}", name=name, traceback=traceback_of(error))
    detail = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return ScriptImportError(f"{name} {doing}: {detail}{where}", name=name, traceback=traceback_of(error))


def module_name(name: str, file: Path, workspace: Path) -> str:
    """The dotted name of the file seen from the workspace, whether or not it can be written in an import
    statement.
    """
    try:
        parts = file.resolve().relative_to(workspace.resolve()).with_suffix("").parts
    except ValueError:
        parts = tuple(plain_name(name).split("/"))  # a version from the database lies elsewhere
    return ".".join(parts)


def _import(name: str, file: Path, workspace: Path) -> ModuleType:
    dotted = module_name(name, file, workspace)
    known = sys.modules.get(dotted)
    if known is not None and _is_file(getattr(known, "__file__", None), file):
        return known
    importable = all(part.isidentifier() and not keyword.iskeyword(part) for part in dotted.split("."))
    if known is None and importable:
        importlib.invalidate_caches()
        try:
            spec = importlib.util.find_spec(dotted)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{dotted}.".startswith(f"{error.name}."):
                raise  # a package on the way imports something that is missing
            spec = None  # a parent that is something else's module and no package, such as `token.score`
        if spec is not None and _is_file(spec.origin, file):
            return importlib.import_module(dotted)
    return _import_file(dotted if known is None else f"script_{dotted}", file)


def _is_file(origin: str | None, file: Path) -> bool:
    return origin is not None and Path(origin).exists() and file.exists() and os.path.samefile(origin, file)


def _import_file(dotted: str, file: Path) -> ModuleType:
    loader = FreshLoader(dotted, str(file)) if file.suffix == ".py" else None
    spec = importlib.util.spec_from_file_location(dotted, file, loader=loader)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[dotted] = module  # before it runs: dataclasses and pickle look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(dotted, None)
        raise
    return module
