"""Sources of versions are written whole, privately, and checked whenever they are used."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from hotpath.config import Config
from hotpath.errors import ScriptError
from hotpath.scripts import cache
from hotpath.scripts.stored import is_written, name_of, write
from hotpath.store.sources import StoredFile


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where sources are kept."""
    return cache.directory(Config(workspace=tmp_path, home=tmp_path), "sources")


def stored(path: str, body: bytes, *, main: bool = False) -> tuple[StoredFile, bytes]:
    """A file of a version."""
    return StoredFile(path, hashlib.sha256(body).hexdigest(), main), body


def put(place: Path, *files: tuple[StoredFile, bytes]) -> Path:
    """Write these; where."""
    there = place / name_of([file for file, _ in files])
    write(there, [file for file, _ in files], {file.hash: body for file, body in files})
    return there


def test_files_are_private_and_checked(place: Path):
    """Nobody else reads or runs them; one that was changed, or is gone, is noticed and written again."""
    files = [stored("f/a.py", b"one", main=True), stored("f/a.script.yaml", b"tag: x")]
    there = put(place, *files)
    known = [file for file, _ in files]
    assert is_written(there, known)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (there, *there.rglob("*"), place, place.parent)]
    assert not any(mode & 0o077 for mode in modes)
    assert not any(path.stat().st_mode & 0o111 for path in there.rglob("*") if path.is_file())
    (there / "f/a.py").write_bytes(b"two")
    assert not is_written(there, known)
    assert put(place, *files) == there
    assert is_written(there, known)
    (there / "f/a.script.yaml").unlink()
    assert not is_written(there, known)
    put(place, *files)
    assert is_written(there, known)
    assert [path.name for path in place.iterdir() if path.is_dir()] == [there.name]


def test_what_another_process_has_written_stays(place: Path):
    """It may be loading it: of two that write the same, the second leaves what is there."""
    file = stored("a.py", b"one", main=True)
    there = put(place, file)
    before = there.stat().st_ino
    assert put(place, file) == there
    assert there.stat().st_ino == before
    assert [path.name for path in place.iterdir() if path.is_dir()] == [there.name]


@pytest.mark.parametrize("path", ["../a.py", "/etc/a.py", "f/../../a.py", "", "a\0.py"])
def test_a_path_that_leads_out_is_refused(place: Path, path: str):
    """Whatever the database says."""
    with pytest.raises(ScriptError, match="which is none of a workspace"):
        put(place, stored(path, b"x"))
    assert [each for each in place.iterdir() if each.is_dir()] == []


def test_a_cache_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What lies there would be run."""
    cache.directory(Config(workspace=tmp_path, home=tmp_path), "sources")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ScriptError, match="belongs to somebody else"):
        cache.directory(Config(workspace=tmp_path, home=tmp_path), "sources")


def test_a_cache_that_cannot_be_is_said(tmp_path: Path):
    """A file where the directory should be."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(ScriptError, match="set HOTPATH_HOME to a directory of yours"):
        cache.directory(Config(workspace=tmp_path, home=tmp_path), "sources")


def test_a_cache_that_others_could_read_is_closed(tmp_path: Path):
    """One that is ours, but open."""
    (tmp_path / "cache" / "sources").mkdir(parents=True, mode=0o777)
    (tmp_path / "cache" / "sources").chmod(0o777)
    found = cache.directory(Config(workspace=tmp_path, home=tmp_path), "sources")
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
