"""The directory that a run of `hotpath chaos` works in: a workspace, the ledger, logs, a private cluster."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib import resources
from pathlib import Path

import attrs

from hotpath.errors import HotpathError
from hotpath.scripts.locate import Located, locate

_SOCKETS_BYTES = 80
"""A Unix socket's path holds 108 bytes, 104 on macOS; `/63/.s.PGSQL.5432` is to fit in."""
SYNC, ASYNC = "chaos_jobs", "chaos_async_jobs"
_WRAPPER = '''"""Stands for {name}: the same jobs, each written into the ledger of `hotpath chaos`."""

from hotpath.chaos.ledger import wrap

wrap(globals(), {name!r}, {file!r}, {workspace!r}, {ledger!r})
'''


@attrs.frozen
class Place:
    """The directories of one run."""

    root: Path
    sockets: Path
    """Where the proxies listen for commands of a private cluster."""

    @property
    def workspace(self) -> Path:
        """What the commands are started in."""
        return self.root / "workspace"

    @property
    def ledger(self) -> Path:
        """One file for each worker process."""
        return self.root / "ledger"

    @property
    def logs(self) -> Path:
        """What the commands said."""
        return self.root / "logs"

    @property
    def home(self) -> Path:
        """The private cluster."""
        return self.root / "pg"

    @property
    def skew(self) -> Path:
        """A `sitecustomize.py` that shifts the wall clock."""
        return self.root / "skew"

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)


def make_place() -> Place:
    """New directories below the system's temporary one. Raises HotpathError where there is no room."""
    try:
        root = Path(tempfile.mkdtemp(prefix="hotpath-chaos-"))
        if os.geteuid() == 0:
            root.chmod(0o711)  # PostgreSQL runs as another user then, who has to pass through
        sockets = root / "s"
        if len(os.fsencode(sockets)) > _SOCKETS_BYTES:
            sockets = Path(tempfile.mkdtemp(prefix="hotpath-chaos-", dir="/tmp"))
        else:
            sockets.mkdir(mode=0o700)
        place = Place(root, sockets)
        for directory in (place.workspace, place.ledger, place.logs, place.skew):
            directory.mkdir(mode=0o700)
        source = resources.files("hotpath.chaos").joinpath("skewed.py").read_text("utf-8")
        (place.skew / "sitecustomize.py").write_text(source)
    except OSError as error:
        raise HotpathError(f"hotpath chaos cannot make its directory: {error}; set TMPDIR") from error
    return place


def put_scripts(place: Place, name: str | None, workspace: Path) -> list[str]:
    """Put into the place's workspace what stands for the user's script, or for the built-in ones.

    Returns their names there. Raises UnknownScriptError and what `locate` raises.
    """
    if name is not None:
        located = locate(name, workspace)
        slug = "".join(letter if letter.isalnum() else "_" for letter in located.name)
        return [_put(place, f"chaos_{slug}", located)]
    folder = Path(str(resources.files("hotpath.chaos.scripts")))
    return [_put(place, one, locate(one, folder)) for one in (SYNC, ASYNC)]


def _put(place: Place, name: str, located: Located) -> str:
    text = _WRAPPER.format(
        name=located.name,
        file=str(located.file),
        workspace=str(located.workspace),
        ledger=str(place.ledger),
    )
    (place.workspace / f"{name}.py").write_text(text)
    beside = located.settings_file
    if beside.exists():
        shutil.copyfile(beside, place.workspace / f"{name}.script.yaml")
    return name
