"""Load the script of a flow's step, which may have no file of its own."""

from __future__ import annotations

import linecache
import sys
from types import ModuleType

from hotpath.scripts.fresh import compile_below
from hotpath.scripts.load import Loaded, import_error, load, loaded_from
from hotpath.scripts.source import StepSource


def load_step(step: StepSource) -> Loaded:
    """Import the step's module and find its `main`; as `load` does it, which see.

    Source that is written in the flow's file becomes a module named after the step, such as
    `hotpath_step.flow_x.a`, and tracebacks show its lines.
    """
    if step.file is not None:
        return load(step.name, step.file, step.workspace)
    root = str(step.workspace)
    compile_below(root)
    if root not in sys.path:
        sys.path.insert(0, root)
    dotted = step.name.replace("/", ".")
    filename, name = f"<{dotted}>", f"hotpath_step.{dotted}"
    module = ModuleType(name)
    module.__file__ = filename
    source = step.source or ""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    _make_packages(name)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up by name
    try:
        exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the user's own script
    except BaseException as error:  # noqa: BLE001 - user code: SystemExit and KeyboardInterrupt included
        sys.modules.pop(name, None)
        raise import_error(step.name, error) from None
    return loaded_from(step.name, module, filename)


def _make_packages(name: str) -> None:
    """The packages that a dotted name says a module is in: who imports it by name asks for them first."""
    parent = name.rpartition(".")[0]
    while parent and parent not in sys.modules:
        package = ModuleType(parent)
        package.__path__ = []
        sys.modules[parent] = package
        parent = parent.rpartition(".")[0]
