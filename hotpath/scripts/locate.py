"""From what a user types to a script's name and its file.

A name (`f/team/score`) is looked up in the workspace. A path (anything that ends in `.py`) is taken relative
to the current directory, then to the workspace; inside the workspace it gets its name from there, outside of
it its own directory acts as the workspace, so that `hotpath run ../other/job.py` works and imports what lies
beside it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from hotpath.core.names import check_name, fault_of
from hotpath.errors import UnknownScriptError

SUFFIX = ".py"
LOOK_AT_MOST = 2000
"""Scripts among which a similar name is sought: a workspace may be somebody's home directory."""

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


@attrs.frozen
class Located:
    """A script that was found."""

    name: str
    """Its name, such as `f/team/score`."""
    file: Path
    """Its source file."""
    workspace: Path
    """The directory that its name and its imports are relative to; absolute."""

    @property
    def settings_file(self) -> Path:
        """`NAME.script.yaml` beside the script, whether or not it exists."""
        return self.file.with_name(f"{self.file.stem}.script.yaml")


def locate(name_or_path: str, workspace: Path) -> Located:
    """Find the script that `name_or_path` means.

    Raises `UnknownScriptError` that says where it looked and which names are similar, or `ScriptError` for
    what cannot be the name of a script at all.
    """
    root = _absolute(workspace)
    if name_or_path.endswith(SUFFIX):
        return _from_path(name_or_path, root)
    name = check_name(name_or_path)
    file = root / f"{name}{SUFFIX}"
    if file.is_file():
        return Located(name, file, root)
    if (root / name).is_dir():
        raise UnknownScriptError(
            f"{name} is a directory: a script is a .py file with a function `main`"
            + _examples(root, root / name)
        )
    raise UnknownScriptError(f"no script {name}: there is no file {file}{_similar(name, root)}")


def find_scripts(workspace: Path) -> Iterator[Located]:
    """The files of the workspace that can be scripts by their name and place, in order of name; their content
    is not looked at.
    """
    root = _absolute(workspace)
    for file in _python_files(root):
        name = file.relative_to(root).with_suffix("").as_posix()
        if file.name != "__init__.py" and fault_of(name) is None:
            yield Located(name, file, root)


def _absolute(path: Path) -> Path:
    """Absolute, but with symbolic links kept: their names are what users see."""
    return Path(os.path.abspath(path))


def _from_path(text: str, root: Path) -> Located:
    tried = [_absolute(Path(text).expanduser())]
    if not Path(text).is_absolute():
        tried.append(_absolute(root / text))
    file = next((path for path in tried if path.is_file()), None)
    if file is None:
        places = " and no file ".join(str(path) for path in dict.fromkeys(tried))
        raise UnknownScriptError(f"no script {text}: there is no file {places}")
    if file.is_relative_to(root):
        workspace = root
    elif file.resolve().is_relative_to(root.resolve()):
        file, workspace = file.resolve(), root.resolve()
    else:
        workspace = file.parent
    return Located(check_name(file.relative_to(workspace).with_suffix("").as_posix()), file, workspace)


def _python_files(root: Path) -> Iterator[Path]:
    for directory, children, files in os.walk(root):
        children[:] = sorted(name for name in children if not name.startswith(".") and name not in _SKIPPED)
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
