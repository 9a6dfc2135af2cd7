"""Where the source of a version is: the workspace's own files if they are that version, else those that the
database has, written into a private cache.

Files from the database are checked against their hashes each time they are to be used. They replace the
script alone: what it imports comes from the workspace, as ever.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from hotpath.core.names import plain_name
from hotpath.errors import ScriptError
from hotpath.model import ScriptVersion
from hotpath.scripts.cache import MOST_SOURCES, collect, hold
from hotpath.scripts.locate import Located, locate
from hotpath.scripts.source import hash_of, read_if_there
from hotpath.store.sources import StoredFile


def own_files(version: ScriptVersion, workspace: Path) -> Located | None:
    """The workspace's own script or flow, if it is this version; None if it has another one, or none."""
    description = version.description
    try:
        located = locate(plain_name(description.path), workspace)
        if not located.is_flow:
            own = hash_of(located.file.read_bytes(), read_if_there(located.settings_file))
            return located if own == description.hash else None
        from hotpath.scripts.flow_file import read_flow  # here: who has no flows need not load it

        loaded, faults = read_flow(located)
        wanted = {step.description.path: step.description.hash for step in version.steps}
        if faults or loaded.hash != description.hash:
            return None
        for source in loaded.steps.values():
            own = hash_of(source.read(), read_if_there(source.settings_file))
            if wanted.get(source.name) != own:
                return None
    except (ScriptError, OSError):
        return None
    return located


def name_of(files: Sequence[StoredFile]) -> str:
    """Name of the directory that holds these files and nothing else."""
    text = "\n".join(sorted(f"{file.hash} {file.path}" for file in files))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def is_written(directory: Path, files: Sequence[StoredFile]) -> bool:
    """Whether the files are there, as they should be. From now on they are held."""
    hold(directory)
    try:
        for file in files:
            if hashlib.sha256((directory / file.path).read_bytes()).hexdigest() != file.hash:
                return False
    except OSError:
        return False
    return True


def write(directory: Path, files: Sequence[StoredFile], contents: Mapping[str, bytes]) -> None:
    """Write the files, all of them or none: whoever sees the directory sees them whole. Raises `ScriptError`
    for a path that leads out of it, and where there is no room.
    """
    try:
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=directory.parent))
        try:
            for file in files:
                path = new / _checked(file.path)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as target:
                    target.write(contents[file.hash])
            _put_in_place(new, directory, files)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        collect(directory.parent, MOST_SOURCES)
    except OSError as error:
        raise ScriptError(f"the source cannot be written to {directory}: {error.strerror}") from None


def _put_in_place(new: Path, directory: Path, files: Sequence[StoredFile]) -> None:
    """Give the directory its name, unless what has it is what it should be: it may be read just now."""
    for _ in range(10):
        try:
            new.rename(directory)
        except OSError:
            if not directory.exists():
                raise
        else:
            return
        if is_written(directory, files):  # another process was quicker
            return
        aside = Path(tempfile.mkdtemp(prefix=".old-", dir=directory.parent))
        with suppress(FileNotFoundError):  # another process was quicker
            directory.rename(aside / directory.name)
        shutil.rmtree(aside, ignore_errors=True)


def _checked(path: str) -> PurePosixPath:
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\0" in path:
        raise ScriptError(f"a version in the database has the file {path!r}, which is none of a workspace")
    return pure


def located_at(version: ScriptVersion, directory: Path, workspace: Path, main: str) -> Located:
    """The version whose files are there."""
    description = version.description
    is_flow = description.kind == "flow" and not main.endswith(".py")
    name = plain_name(description.path)
    return Located(name, directory / main, workspace, is_flow=is_flow, root=directory)
