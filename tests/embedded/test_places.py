"""Where a cluster lies, which programs run it, and as whom."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from thoroughness import THOROUGH

from hotpath.store import embedded
from hotpath.store.embedded import EmbeddedPostgres, EmbeddedPostgresError, database_name, default_home
from hotpath.store.embedded_binaries import find_binaries, server_user

from .conftest import CLIENT, eventually

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
SYSTEM = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
ROOT = Path(embedded.__file__).parents[2]


@pytest.fixture
def ordinary(monkeypatch):
    """Makes this process look like an ordinary user's to `default_home`."""
    monkeypatch.setattr(os, "geteuid", os.getuid if os.getuid() else lambda: 65534)
    monkeypatch.delenv("HOTPATH_HOME", raising=False)


def test_home_is_what_the_user_says(monkeypatch, tmp_path):
    """`HOTPATH_HOME` wins, relative to the current directory; empty means unset."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOTPATH_HOME", "here")
    assert default_home() == tmp_path / "here"
    monkeypatch.setenv("HOTPATH_HOME", "")
    assert default_home().name.startswith("hotpath")


def test_home_of_an_ordinary_user_is_below_his_own(monkeypatch, tmp_path, ordinary):
    """Without `HOTPATH_HOME` it is `~/.local/share/hotpath`, whether or not anything of that is there yet."""
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / ".local" / "share" / "hotpath"


def test_home_without_a_usable_home_directory(monkeypatch, tmp_path, ordinary):
    """With `HOME` unset or empty the password database says; where nothing can be made there it is in /tmp,
    by user id.
    """
    last_resort = Path(f"/tmp/hotpath-{os.geteuid()}")
    entry = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd((*entry[:5], str(tmp_path), entry[6])))
    monkeypatch.setattr(os, "access", lambda path, mode: str(path).startswith(str(tmp_path)))
    for value in ("", None):
        if value is None:
            monkeypatch.delenv("HOME")
        else:
            monkeypatch.setenv("HOME", value)
        assert default_home() == tmp_path / ".local" / "share" / "hotpath"
    for value in ("/nonexistent", "relative", "/proc/1"):
        monkeypatch.setenv("HOME", value)
        assert default_home() == last_resort

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert default_home() == last_resort


def test_home_with_a_cluster_is_kept_when_it_cannot_be_written(monkeypatch, tmp_path, ordinary):
    """A cluster that is there is never silently replaced by an empty one elsewhere: `start` says what is
    wrong with it.
    """
    (tmp_path / ".local" / "share" / "hotpath" / "data").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert default_home() == tmp_path / ".local" / "share" / "hotpath"


def test_each_workspace_has_a_database_name_of_its_own(tmp_path):
    """The name shows the directory, is the same by every path to it, needs no quotes, and fits 63 bytes."""
    first = tmp_path / "My flows (2)"
    first.mkdir()
    link = tmp_path / "link"
    link.symlink_to(first)
    name = database_name(first)
    assert name.startswith("hotpath_my_flows_2_")
    assert database_name(link) == name == database_name(first / ".." / first.name)
    others = [Path("/"), Path("/" + "x" * 200), Path("/é漢字"), tmp_path / "my flows (2)", tmp_path]
    names = {database_name(path) for path in [first, *others]}
    assert len(names) == len(others) + 1
    assert all(len(each) <= 63 and each.replace("_", "a").isalnum() and each.islower() for each in names)


@pytest.mark.parametrize("directory", ["x" * 120, "a 'b\" $c, d&é"], ids=["long", "odd"])
@pytest.mark.slow
def test_home_too_long_or_odd_for_a_socket(base, sites, directory):
    """A path that no socket or no client can bear has its socket in a short directory of its own, closed to
    others.
    """
    site = sites(base / directory)
    server = site.server(settings={"fsync": "off"})
    address = server.start()
    assert site.sql("select 1") == [["1"]]
    assert f"host={server.socket_dir}&" in address
    assert server.socket_dir.parent in (Path("/run"), Path("/tmp"))
    assert server.socket_dir.stat().st_mode & 0o777 == 0o700
    shutil.copy(server.log, base / "log")
    site.end()
    eventually(site.stopped)
    shutil.rmtree(server.socket_dir)


def test_socket_directory_that_somebody_planted_is_refused(base, sites, monkeypatch):
    """A short socket directory whose name was guessed and taken by another user is not used."""
    server = sites(base / ("x" * 120)).server()
    monkeypatch.setattr(EmbeddedPostgres, "socket_dir", property(lambda self: base / "planted"))
    (base / "planted").symlink_to("/etc/passwd")
    with pytest.raises(EmbeddedPostgresError, match="planted is not a directory"):
        server.start()


@pytest.mark.skipif(not SYSTEM, reason="no PostgreSQL of the system's here")
@pytest.mark.slow
def test_system_binaries_serve_as_well_and_data_keeps_to_its_version(new_site, monkeypatch):
    """Without the wheel the system's PostgreSQL is used, and data that it made stay with it, wheel or not."""
    newest = max(SYSTEM, key=lambda path: float(path.parents[1].name)).parent
    major = newest.parent.name
    monkeypatch.setenv("HOTPATH_PG_BIN", str(newest))
    server = new_site.server(settings={"fsync": "off"})
    server.start()
    assert server.status().version.split(".")[0] == major
    server.stop()
    monkeypatch.delenv("HOTPATH_PG_BIN")
    server.start()
    assert server.status().version.split(".")[0] == major
    user = server_user(new_site.home)
    assert find_binaries(new_site.home, user, data_major=int(major)).directory == newest
    new_site.end()


@needs_root
@pytest.mark.slow
def test_wheel_that_the_servers_user_cannot_reach_is_copied(site, base, monkeypatch):
    """As root with the wheel in a closed directory, a private copy runs and the directory stays closed."""
    found = find_binaries(site.home, None, data_major=None).directory
    if found.parent.name != "pginstall":
        pytest.skip("the wheel is not installed")
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(found.parents[1], closed / "wheel", symlinks=True)
    shutil.copytree(f"{found.parents[1]}.libs", closed / "wheel.libs", symlinks=True)
    monkeypatch.setenv("HOTPATH_PG_BIN", str(closed / "wheel" / "pginstall" / "bin"))
    (site.home / "pg-17.0-old").mkdir()
    for _ in range(2):
        site.server().start()
        assert site.sql("select 1") == [["1"]]
        copies = [path.name for path in site.home.glob("pg-*")]
        assert len(copies) == 1, "one copy, and none of an older version"
        site.server().stop()
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
@needs_root
def test_root_in_an_ordinary_users_home_spoils_nothing(base, sites):
    """`sudo hotpath` in somebody's home runs the server as that user, who can use it too."""
    nobody = pwd.getpwnam("nobody")
    home = base / "theirs"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    site = sites(home)
    server = site.server(settings={"fsync": "off"})
    server.start()
    owners = {path.lstat().st_uid for path in home.rglob("*")}
    assert owners == {nobody.pw_uid}
    theirs = ordinary_python(nobody.pw_uid)
    for _ in range(2):  # beside root's, then after it
        client = site.run(
            [*theirs, "-c", CLIENT, str(home), "0.3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user=nobody.pw_uid,
        )
        assert client.stdout.readline() == "ready\n"
        client.communicate()
        server.close()
        eventually(site.stopped)


@needs_root
def test_servers_of_root_and_of_a_user_run_side_by_side(site, base, sites, made_home):
    """Two users have two servers, each with its own socket and data; the second is refused the first one's
    home.
    """
    nobody = pwd.getpwnam("nobody")
    site.server().start()
    home = base / "theirs"
    shutil.copytree(made_home, home, ignore=shutil.ignore_patterns(".s.*"))
    subprocess.run(["chown", "-R", str(nobody.pw_uid), home], check=True)
    theirs = sites(home)
    argv = [*ordinary_python(nobody.pw_uid), "-c", CLIENT]
    client = theirs.run(
        [*argv, str(home), "0.3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
    )
    assert client.stdout.readline() == "ready\n"
    assert theirs.sql("select 1") == site.sql("select 1") == [["1"]]
    assert len({*theirs.postmasters(), *site.postmasters()}) == 2
    other = subprocess.run(
        [*argv, str(site.home), "0.3"],
        capture_output=True,
        text=True,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        check=False,
    )
    assert f"no permission to write {site.home}/lock: set HOTPATH_HOME" in other.stderr
    assert other.returncode == 1
    assert "ready" not in other.stdout


@needs_root
@pytest.mark.slow
def test_all_of_this_as_an_ordinary_user(base):
    """What holds for root, who hands the server to another user, holds for an ordinary user too."""
    nobody = pwd.getpwnam("nobody")
    files = [
        str(Path(__file__).with_name(name))
        for name in ("test_sharing.py", "test_crashes.py", "test_refusals.py")
    ]
    # The machinery is the same; what has to do with whose the server and its files are is tried always.
    some = (
        "durable or comes_back or reaper or cannot_be or somebody_else or at_once or number or kept or killed"
    )
    options = [
        "-q",
        "-m",
        "not slow",
        *([] if THOROUGH else ["-k", some]),
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--basetemp",
        str(base / "pytest"),
    ]
    base.chmod(0o777)
    done = subprocess.run(
        [*ordinary_python(nobody.pw_uid), "-m", "pytest", *options, *files],
        cwd=ROOT,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def ordinary_python(uid: int) -> list[str]:
    """A Python that this user can run and that finds what this one finds; or skip."""
    for program in dict.fromkeys([sys.executable, os.path.realpath(sys.executable), "/usr/bin/python3"]):
        path = [each for each in [str(ROOT), *sys.path] if each]
        argv = ["/usr/bin/env", f"PYTHONPATH={os.pathsep.join(path)}", program]
        if program == "/usr/bin/python3":  # brings a standard library of its own
            path = [each for each in path if each == str(ROOT) or each.endswith("site-packages")]
            argv[1] = f"PYTHONPATH={os.pathsep.join(path)}"
        check = "import sys, trio, hotpath.store.embedded; assert sys.version_info >= (3, 11)"
        try:
            found = subprocess.run([*argv, "-c", check], user=uid, capture_output=True, cwd="/", check=False)
        except OSError:
            continue
        if found.returncode == 0:
            return argv
    pytest.skip("no Python that an ordinary user can run finds this project")
