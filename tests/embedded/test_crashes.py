"""Any process may be killed at any moment, and the next start finds its way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from hotpath.store import embedded_wire
from hotpath.store.embedded import EmbeddedPostgres
from hotpath.store.embedded_binaries import server_user
from hotpath.store.embedded_reaper import is_alive, stop_postmaster

from .conftest import eventually, kill

# Inserts numbers one by one, each its own transaction, and prints each once its commit was acknowledged.
WRITER = """
import sys
from pathlib import Path
from hotpath.store.embedded_wire import Session
with Session(Path(sys.argv[1]), database="hotpath", user="hotpath", seconds=30) as session:
    number = int(sys.argv[2])
    while True:
        session.execute(f"insert into written values ({number})")
        print(number, flush=True)
        number += 1
"""


@pytest.mark.slow
def test_killed_server_comes_back_with_its_data(site):
    """After `kill -9` of the server alone, or of it and all its children, the next start brings it back with
    what it held.
    """
    server = site.server()
    server.start()
    site.sql("create table kept as select generate_series(1, 1000) as i")
    for children_too in (False, True, False):
        if children_too:
            site.kill_server()
        else:
            kill(site.postmasters()[0])
        server.start()
        assert site.sql("select count(*) from kept") == [["1000"]]
        assert len(site.postmasters()) == 1
    server.close()
    eventually(site.stopped)


@pytest.mark.slow
def test_busy_session_that_outlives_its_server_does_not_block_the_next(site):
    """A session deep in a query does not notice that its server died; it is ended, for its memory would block
    the start.
    """
    server = site.server()
    server.start()
    path = server.socket_dir / ".s.PGSQL.5432"
    sleeper = embedded_wire.Session(path, database="hotpath", user="hotpath", seconds=30)
    # An endless loop in PL/pgSQL does not look whether its server lives, and needs neither memory nor disk.
    endless = "do $$ begin loop null; end loop; end $$"
    ended = threading.Thread(target=_ignore_loss, args=(sleeper, endless))
    ended.start()
    eventually(
        lambda: site.sql("select 1 from pg_stat_activity where state = 'active' and query like 'do $$%'")
    )
    orphans = set(site.sessions())
    kill(site.postmasters()[0])
    server.start()
    assert site.sql("select 1") == [["1"]]
    assert not orphans & set(site.sessions())
    ended.join(40)
    assert not ended.is_alive()


def _ignore_loss(session: embedded_wire.Session, statement: str) -> None:
    with session:
        try:
            session.execute(statement)
        except (OSError, embedded_wire.ServerRefused):
            pass


def test_process_that_got_the_dead_servers_number_is_left_alone(site):
    """A pid file that names a living stranger (numbers repeat after a restart of a container) stops and
    misleads nobody.
    """
    server = site.server()
    server.start()
    site.kill_server()
    eventually(site.stopped)
    user = server_user(site.home)
    stranger = site.run(["sleep", "600"], **({"user": user.uid, "group": user.gid} if user else {}))
    pid_file = site.home / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    assert not server.status().running
    server.stop()
    server.start()
    assert site.sql("select 1") == [["1"]]
    assert stranger.poll() is None


def test_zombie_is_not_taken_for_a_server(site):
    """A killed process that nobody waited for still has a number; it counts as dead."""
    zombie = subprocess.Popen(["sleep", "600"])
    zombie.kill()
    try:
        eventually(lambda: not is_alive(zombie.pid))
        os.kill(zombie.pid, 0)  # the kernel still knows it
    finally:
        zombie.wait()


@pytest.mark.slow
def test_kill_at_any_moment_of_the_first_start(base, sites):
    """A process killed at moments from before initdb to after the first connection, alone or with initdb,
    never spoils the home.
    """
    begun = time.monotonic()
    sites(base / "calibrate").client().kill()
    whole = time.monotonic() - begun
    for moment in range(6):
        site = sites(base / str(moment))
        client = site.client(wait=False, start_new_session=True)
        time.sleep(whole * (moment + 1) / 7)  # the moment is the test's input, not a wait for anything
        (os.kill if moment % 2 else os.killpg)(client.pid, signal.SIGKILL)
        client.wait()
        site.server().start()
        assert site.sql("select 1") == [["1"]]
        assert len(site.postmasters()) == 1
        left = {path.name for path in site.home.iterdir()}
        assert not {name for name in left if name.startswith(".")}, "the half-made cluster is gone"
        site.end()


# Ends slowly: it has many files to give up. Says so when it has them.
SLOW_END = """
import os, resource, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for _ in range(min(most - 100, 20_000) // 2):
    os.pipe()
print("ready", flush=True)
time.sleep(600)
"""


def test_a_server_that_ends_slowly_is_waited_for(base, sites):
    """A process gives up its command line before the rest: it is down when it is gone."""
    for number in range(3):
        data = base / str(number)
        data.mkdir()
        argv = ["postgres", "-c", SLOW_END, str(data)]
        process = sites(base).run(
            argv, executable=sys.executable, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout.readline() == "ready\n"
        (data / "postmaster.pid").write_text(f"{process.pid}\n")
        assert stop_postmaster(data)
        assert not is_alive(process.pid)


def test_kill_of_everything_at_once(site):
    """User, reaper, server and its children killed together, as by the end of a container: the next start
    works.
    """
    client = site.client()
    for pid in site.reapers():
        kill(pid)
    site.kill_server()
    client.kill()
    site.client().communicate()
    eventually(site.stopped)


def test_home_that_was_removed_under_a_running_server_is_made_anew(site):
    """Who removes the home and starts again gets a new server, which the old one's reaper does not stop."""
    old = site.client(linger=0.1)
    site.kill_server()
    reapers = site.reapers()
    site.home.rename(site.home.with_name("removed"))
    server = site.server()
    server.start()
    old.communicate()
    eventually(lambda: not set(reapers) & set(site.reapers()))
    assert site.sql("select 1") == [["1"]]
    server.close()
    eventually(site.stopped)


@pytest.mark.slow
def test_acknowledged_commits_survive_kills(site):
    """Whatever a writer was told is committed is there after `kill -9` of the server, round after round."""
    server = site.server()
    server.start()
    site.sql("create table written (number bigint primary key)")
    path = str(server.socket_dir / ".s.PGSQL.5432")
    acknowledged: list[int] = []
    for number in range(3):
        writer = site.run(
            [sys.executable, "-c", WRITER, path, str((number + 1) * 1_000_000)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        first = [writer.stdout.readline() for _ in range(200)]
        site.kill_server()
        acknowledged += [int(line) for line in [*first, *writer.stdout.read().splitlines()]]
        server.start()
    stored = {int(row[0]) for row in site.sql("select number from written")}
    assert len(acknowledged) >= 600
    assert set(acknowledged) <= stored
    assert len(stored) <= len(acknowledged) + 3, "at most the one commit in flight a round"


def test_another_process_starts_the_server_that_ours_lost(site):
    """The address stays the same when the server is lost and brought back, by this process or by another."""
    server = site.server()
    address = server.start()
    kill(site.postmasters()[0])
    site.client()
    assert site.sql("select 1") == [["1"]]
    assert server.start() == address == EmbeddedPostgres(site.home).dsn("hotpath")
