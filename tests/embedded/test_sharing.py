"""One server for all, for exactly as long as somebody uses it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hotpath.store.embedded_errors import EmbeddedPostgresError
from hotpath.store.embedded_reaper import is_alive

from .conftest import eventually, kill


@pytest.mark.slow
def test_processes_that_start_at_once_share_one_server(new_site):
    """Six processes that begin together in an empty home get one server, which stops after the last."""
    clients = [new_site.client(wait=False) for _ in range(6)]
    assert [client.stdout.readline() for client in clients] == ["ready\n"] * 6
    assert len(new_site.postmasters()) == 1
    eventually(lambda: len(new_site.reapers()) == 1)  # one that comes second sees that, and goes
    for client in clients:
        client.stdin.close()
    eventually(new_site.stopped)
    eventually(lambda: not new_site.reapers())


def test_server_outlives_a_killed_user_while_another_is_left(site):
    """`kill -9` gives one reference back: the server stays for the others, and stops when the last is killed
    too.
    """
    first, second = site.client(), site.client()
    before = site.postmasters()
    first.kill()
    first.wait()
    with pytest.raises(AssertionError, match="did not come true"):
        eventually(site.stopped, seconds=0.8)  # more than twice its linger
    assert site.postmasters() == before
    second.kill()
    eventually(site.stopped)


def test_who_comes_back_soon_finds_the_same_server(site):
    """Within the linger nothing is stopped: commands run one after the other pay for one start."""
    site.client(linger=60).communicate()
    before = site.postmasters()
    site.server().start()
    assert site.postmasters() == before != []


def test_who_is_kept_runs_until_it_is_stopped(site):
    """A server that is to be kept outlives its users, before and behind; `stop` ends that, too."""
    first = site.client()
    assert len(site.reapers()) == 1
    with site.server(linger=-1) as keeper:
        keeper.start()
    before = site.postmasters()
    first.communicate()
    eventually(lambda: not site.reapers())
    site.client().communicate()
    assert site.reapers() == [], "nobody waits for its last user"
    assert site.postmasters() == before
    assert keeper.status().kept
    keeper.stop()
    assert not keeper.status().kept
    site.client().communicate()
    eventually(site.stopped)


def test_who_could_not_be_started_is_not_kept(site):
    """A start that fails leaves no word that the server is to run on."""
    (site.home / "data" / "PG_VERSION").write_text("9\n")
    server = site.server(linger=-1)
    with pytest.raises(EmbeddedPostgresError):
        server.start()
    assert not server.status().kept


def test_handles_of_one_process_count_each(site):
    """Two handles in one process are two references, closing one twice gives back one, and a closed one can
    start again.
    """
    first, second = site.server(), site.server()
    first.start()
    second.start()
    first.close()
    first.close()
    with pytest.raises(AssertionError, match="did not come true"):
        eventually(site.stopped, seconds=0.8)
    second.close()
    eventually(site.stopped)
    with first:
        first.start()
        assert site.sql("select 1") == [["1"]]
    eventually(site.stopped)


def test_killed_reaper_is_replaced_by_the_next_user(site):
    """A reaper that was killed is replaced at the next start, so the server still stops."""
    first = site.client()
    for pid in site.reapers():
        kill(pid)
    eventually(lambda: not site.reapers())
    second = site.client()
    eventually(lambda: len(site.reapers()) == 1)
    first.communicate()
    second.communicate()
    eventually(site.stopped)


def test_terminal_signals_of_a_user_do_not_reach_the_server(site):
    """Ctrl-C and a closed terminal end the process group that they are sent to, and not the server it
    started.
    """
    first = site.client(start_new_session=True)
    second = site.client()
    before = site.postmasters()
    os.killpg(first.pid, signal.SIGINT)
    os.killpg(first.pid, signal.SIGHUP)
    first.wait()
    assert site.sql("select 1") == [["1"]]
    assert site.postmasters() == before
    assert second.poll() is None


def test_stop_ends_it_for_everybody_and_start_brings_it_back(site):
    """Before the first start there is nothing, then a server of some version and size, then its files."""
    server = site.server()
    server.start()
    site.sql("create table kept as select 7 as i")
    pid = server.status().pid
    assert pid is not None
    site.server().stop()
    assert not is_alive(pid)
    server.stop()  # down already: nothing to do
    server.start()
    assert site.sql("select i from kept") == [["7"]]


def test_start_makes_each_database_once(site):
    """A workspace's database is made at its first start and found at the next, whatever its name."""
    server = site.server()
    odd = 'Odd "name" & 100% é'
    assert server.start() == f"postgresql://hotpath@/hotpath?host={site.home}/run&port=5432"
    assert server.start(odd).startswith(
        "postgresql://hotpath@/Odd%20%22name%22%20%26%20100%25%20%C3%A9?host="
    )
    site.sql("create table mine (i int)", database=odd)
    server.start(odd)
    assert site.sql("select count(*) from mine", database=odd) == [["0"]]


def test_status_tells_what_is_there(new_site):
    """Before the first start there is nothing, then a server of some version and size, then a stopped
    cluster.
    """
    server = new_site.server()
    assert (server.status().running, server.status().version, server.status().size) == (False, None, 0)
    assert not new_site.home.exists(), "looking makes nothing"
    server.start()
    status = server.status()
    assert status.running
    assert status.home == new_site.home
    assert status.pid == new_site.postmasters()[0]
    assert status.size > 10_000_000
    major = status.version.split(".")[0]
    server.stop()
    assert (server.status().running, server.status().pid, server.status().version) == (False, None, major)


def test_server_is_durable_private_and_configurable(site):
    """What was acknowledged is on disk, nothing listens on a network, nobody else gets in, and callers may
    set what they like.
    """
    server = site.server(settings={"work_mem": "5MB", "log_line_prefix": "it's %p "})
    server.start()
    shown = dict(site.sql("select name, setting from pg_settings"))
    assert {
        shown[name] for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
    } == {"on"}
    assert shown["listen_addresses"] == ""
    assert shown["jit"] == "off"
    assert (shown["work_mem"], shown["log_line_prefix"]) == ("5120", "it's %p ")
    assert (site.home / "run").stat().st_mode & 0o777 == 0o700
    assert (site.home / "data").stat().st_mode & 0o777 == 0o700
    assert (site.home / "lock").stat().st_mode & 0o777 == 0o600


def test_server_inherits_no_secret_and_no_locale(site, monkeypatch):
    """A server started from a shell with PG variables, a missing locale or a database password knows none of
    them.
    """
    monkeypatch.setenv("LC_ALL", "zz_ZZ.UTF-8")
    monkeypatch.setenv("PGPORT", "9")
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:topsecret@db/prod")
    site.server().start()
    environment = Path(f"/proc/{site.postmasters()[0]}/environ").read_bytes()
    assert b"topsecret" not in environment
    assert b"PGPORT" not in environment
