"""From what a user types to a script's or a flow's name and its file.

A name (`f/team/score`) is looked up in the workspace: the script `f/team/score.py` or the flow
`f/team/score.flow/flow.yaml`. A path (anything that ends in `.py`, `.yaml`, `.yml`, `.json` or `.flow`) is
taken relative to the current directory, then to the workspace; inside the workspace it gets its name from
there, outside of it its own directory acts as the workspace, so that `hotpath run ../other/job.py` works and
imports what lies beside it. `flow_x/a` is the script that is written in step `a` of `flow_x`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from hotpath.core.names import check_name, fault_of
from hotpath.errors import ScriptError, UnknownScriptError

SUFFIX = ".py"
FLOW_SUFFIX = ".flow"
"""Of the directory that a flow is."""
FLOW_FILES = ("flow.yaml", "flow.yml", "flow.json")
FLOW_SUFFIXES = (".yaml", ".yml", ".json")
LOOK_AT_MOST = 2000
"""Scripts among which a similar name is sought: a workspace may be somebody's home directory."""

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


@attrs.frozen
class Located:
    """A script or a flow that was found."""

    name: str
    """Its name, such as `f/team/score`."""
    file: Path
    """Its source file; of a flow, `flow.yaml` or the like."""
    workspace: Path
    """The directory that its name and its imports are relative to; absolute."""
    is_flow: bool = False
    """Whether it is a flow file; a flow that is code is a script here."""
    root: Path | None = None
    """Where its files are, if not in the workspace: a version from the database (`scripts/stored.py`)."""

    @property
    def settings_file(self) -> Path:
        """`NAME.script.yaml` beside the script, whether or not it exists."""
        return self.file.with_name(f"{self.file.stem}.script.yaml")


def locate(name_or_path: str, workspace: Path) -> Located:
    """Find the script or flow that `name_or_path` means.

    Raises `UnknownScriptError` that says where it looked and which names are similar, or `ScriptError` for
    what cannot be the name of a script at all, or names two things.
    """
    root = _absolute(workspace)
    if name_or_path.endswith(SUFFIX):
        return _from_path(name_or_path, root)
    if name_or_path.endswith(FLOW_SUFFIXES):
        return _flow_from_path(name_or_path, root)
    if name_or_path.rstrip("/").endswith(FLOW_SUFFIX) and _is_directory(name_or_path, root):
        return _flow_from_path(name_or_path, root)
    name = check_name(name_or_path)
    file, flow = root / f"{name}{SUFFIX}", flow_file(root / f"{name}{FLOW_SUFFIX}")
    if file.is_file():
        if flow is not None:
            raise ScriptError(f"{name} is both {file} and {flow}: rename one")
        return Located(name, file, root)
    if flow is not None:
        return Located(name, flow, root, is_flow=True)
    if (step := _inline_step(name, root)) is not None:
        return step
    if (root / name).is_dir():
        raise UnknownScriptError(
            f"{name} is a directory: a script is a .py file with a function `main`"
            + _examples(root, root / name)
        )
    raise UnknownScriptError(
        f"no script {name}: there is no file {file} and no flow {root / name}{FLOW_SUFFIX}"
        f"{_similar(name, root)}"
    )


def flow_file(directory: Path) -> Path | None:
    """The file of the flow that the directory is; None if it is none. `ScriptError` if it has two."""
    found = [directory / name for name in FLOW_FILES if (directory / name).is_file()]
    if len(found) > 1:
        raise ScriptError(f"{directory} has both {found[0].name} and {found[1].name}: remove one")
    return found[0] if found else None


def find_scripts(workspace: Path) -> Iterator[Located]:
    """The files of the workspace that can be scripts or flows by their name and place, in order of place;
    their content is not looked at. A flow's inline scripts are part of it.
    """
    root = _absolute(workspace)
    for file in _files(root):
        is_flow = file.suffix != SUFFIX
        name = (file.parent if is_flow else file).relative_to(root).with_suffix("").as_posix()
        if file.name != "__init__.py" and fault_of(name) is None:
            yield Located(name, file, root, is_flow)


def _absolute(path: Path) -> Path:
    """Absolute, but with symbolic links kept: their names are what users see."""
    return Path(os.path.abspath(path))


def _from_path(text: str, root: Path) -> Located:
    file = _find(text, root)
    file, workspace = _home_of(file, root)
    return Located(check_name(file.relative_to(workspace).with_suffix("").as_posix()), file, workspace)


def _flow_from_path(text: str, root: Path) -> Located:
    """A flow by its directory or its file."""
    file = _find(text, root)
    if file.is_dir():
        found = flow_file(file)
        if found is None:
            raise UnknownScriptError(f"no flow {text}: there is no {', '.join(FLOW_FILES)} in {file}")
        file = found
    if file.name in FLOW_FILES and file.parent.suffix == FLOW_SUFFIX:
        directory, workspace = _home_of(file.parent, root)
        name = directory.relative_to(workspace).as_posix().removesuffix(FLOW_SUFFIX)
        return Located(check_name(name), directory / file.name, workspace, is_flow=True)
    file, workspace = _home_of(file, root)
    name = file.relative_to(workspace).with_suffix("").as_posix().removesuffix(FLOW_SUFFIX)
    return Located(check_name(name), file, workspace, is_flow=True)


def _is_directory(text: str, root: Path) -> bool:
    return any(path.is_dir() for path in _places(text, root))


def _places(text: str, root: Path) -> list[Path]:
    """Where a path may lead to."""
    tried = [_absolute(Path(text).expanduser())]
    if not Path(text).is_absolute():
        tried.append(_absolute(root / text))
    return list(dict.fromkeys(tried))


def _find(text: str, root: Path) -> Path:
    """The file, or the flow's directory, at a path."""
    tried = _places(text, root)
    is_wanted = Path.is_file if not text.rstrip("/").endswith(FLOW_SUFFIX) else Path.exists
    found = next((path for path in tried if is_wanted(path)), None)
    if found is None:
        kind = "script" if text.endswith(SUFFIX) else "flow"
        raise UnknownScriptError(
            f"no {kind} {text}: there is no file {' and no file '.join(map(str, tried))}"
        )
    return found


def _home_of(file: Path, root: Path) -> tuple[Path, Path]:
    """The file as the workspace knows it, and the workspace that it is in."""
    if file.is_relative_to(root):
        return file, root
    if file.resolve().is_relative_to(root.resolve()):
        return file.resolve(), root.resolve()
    return file, file.parent


def _inline_step(name: str, root: Path) -> Located | None:
    """The script that is written in a step of a flow: `flow_x/a`."""
    flow, _, step = name.rpartition("/")
    if not flow or (file := flow_file(root / f"{flow}{FLOW_SUFFIX}")) is None:
        return None
    from hotpath.scripts.flow_file import inline_file  # here: reading flows needs this module

    return Located(name, inline_file(Located(flow, file, root, is_flow=True), step), root)


def _files(root: Path) -> Iterator[Path]:
    """Files that may be scripts, and those that say what a flow is."""
    for directory, children, files in os.walk(root):
        children[:] = sorted(name for name in children if not name.startswith(".") and name not in _SKIPPED)
        if directory.endswith(FLOW_SUFFIX) and (flow := [name for name in FLOW_FILES if name in files]):
            children.clear()
            yield Path(directory, flow[0])
            continue
        for name in sorted(files):
            if name.endswith(SUFFIX) and not name.startswith("."):
                yield Path(directory, name)


def _names(root: Path) -> list[str]:
    found: list[str] = []
    for script in find_scripts(root):
        found.append(script.name)
        if len(found) >= LOOK_AT_MOST:
            break
    return found


def _similar(name: str, root: Path) -> str:
    if not root.is_dir():
        return f", and the workspace {root} is not a directory"
    names = _names(root)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    # `score` for `f/team/score`: the last segment alone is what people remember.
    close += [
        other for other in names if other.rpartition("/")[2] == name.rpartition("/")[2] and other not in close
    ]
    return f" (did you mean {' or '.join(close[:3])}?)" if close else ""


def _examples(root: Path, directory: Path) -> str:
    names = [name for name in _names(directory) if name.rpartition("/")[2] != "__init__"][:3]
    prefix = directory.relative_to(root).as_posix()
    return f", such as {', '.join(f'{prefix}/{name}' for name in names)}" if names else ""
