"""I11: a connection that is open and dead is noticed: by deadlines, by the kernel, by a listener that proves
itself.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from servers import Proxy, Server, is_root
from trouble_tools import check_once, enqueue_marks
from worker_stage import Stage, open_stage

import hotpath
from hotpath.store import listen, reach
from hotpath.worker import link
from hotpath.worker.wake import Waker

pytestmark = pytest.mark.slow


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of tenths of seconds, where seconds are usual."""
    monkeypatch.setattr(link, "STATEMENT_DEADLINE", 0.5)
    monkeypatch.setattr(reach, "CANCEL_GRACE", 0.2)
    monkeypatch.setattr(listen, "PROVE", 0.2)
    monkeypatch.setattr(listen, "DEAF", 0.3)


@pytest.fixture
async def proxy(server: Server, nursery: trio.Nursery) -> AsyncIterator[Proxy]:
    """A running proxy before the server."""
    made = Proxy(server)
    await nursery.start(made.run)
    yield made
    nursery.cancel_scope.cancel()


async def test_silent_proxy(
    impatient: None, stage: Stage, proxy: Proxy, database: str, nursery: trio.Nursery
):
    """A worker whose connections fall silent in the middle of the work makes new ones and flushes what it
    kept; what the old ones left on the server is ended.
    """
    marks = await enqueue_marks(stage, 600, 0.002)
    what = hotpath.dedicated("mark", workspace=stage.workspace, database_url=proxy.url(database))
    worker = await nursery.start(hotpath.serve_worker, what)
    for done in (50, 250):
        await stage.until_done(done)
        proxy.silence()
    await stage.until_done(600)
    await check_once(stage, marks, 600)
    assert worker.statistics().jobs == 600
    assert worker.statistics().refused == 0

    async def is_alone() -> bool:
        return await stage.connection.fetchval(
            "select count(*) = 1 from pg_stat_activity where application_name = $1",
            f"hotpath worker {worker.id}",
        )

    await stage.until(is_alone)  # no ghost holds on
    worker.stop()


async def test_deaf_listener(impatient: None, stage: Stage, proxy: Proxy, database: str):
    """A listener that hears nothing any more notices by its own proof, connects again, and is woken as
    before.
    """
    tag = await stage.connection.fetchval("select hotpath.tag_id('t')")
    waker = Waker(proxy.url(database), 1, [tag])
    wakes = 0

    def count() -> None:
        nonlocal wakes
        wakes += 1

    waker.wake = count
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waker.run)
        before = 0

        async def woken() -> bool:
            return wakes > before

        for _ in range(3):
            await stage.until(woken)  # for what came while nobody listened
            before = wakes
            await stage.connection.execute("select pg_notify('hotpath', $1::int8::text)", tag)
            await stage.until(woken)
            before = wakes
            proxy.silence()
        nursery.cancel_scope.cancel()


async def test_notes_of_sleep_hang_no_one(impatient: None, stage: Stage, proxy: Proxy, database: str):
    """A note of sleep over a silent connection ends in `DeafError`, in time."""
    with trio.fail_after(30), pytest.raises(listen.DeafError):
        async with listen.open_listener(proxy.url(database), "hotpath") as listener:
            proxy.silence()
            await listener.doze(1, [1], 5.0)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace at 10.213.77.2, which reaches us at 10.213.77.1."""
    if not is_root():
        pytest.skip("a network namespace needs root")
    name, ours, theirs = f"hpt{os.getpid()}", f"hpa{os.getpid() % 100000}", f"hpb{os.getpid() % 100000}"
    steps = (
        f"ip netns add {name}",
        f"ip link add {ours} type veth peer name {theirs} netns {name}",
        f"ip addr add 10.213.77.1/24 dev {ours}",
        f"ip link set {ours} up",
        f"ip -n {name} addr add 10.213.77.2/24 dev {theirs}",
        f"ip -n {name} link set {theirs} up",
    )
    try:
        for step in steps:
            if subprocess.run(step.split(), check=False, capture_output=True).returncode:
                pytest.skip(f"no network namespaces here: {step}")
        yield name
    finally:
        subprocess.run(["ip", "link", "del", ours], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextlib.contextmanager
def lost_packets(name: str) -> Iterator[None]:
    """Whatever either side sends is lost without a word: it goes to an address that nobody has."""
    number = name.removeprefix("hpt")
    ours, theirs = f"hpa{int(number) % 100000}", f"hpb{int(number) % 100000}"
    nowhere = "lladdr 02:00:00:00:00:99 nud permanent"
    wrong = (
        f"ip neigh replace 10.213.77.2 dev {ours} {nowhere}",
        f"ip -n {name} neigh replace 10.213.77.1 dev {theirs} {nowhere}",
    )
    for step in wrong:
        subprocess.run(step.split(), check=True)
    try:
        yield
    finally:
        for step in wrong:
            subprocess.run(step.replace("replace", "del").replace(nowhere, "").split(), check=True)


async def test_lost_packets(
    namespace: str, server: Server, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A worker whose packets are dropped notices, by the kernel's account of them; when they arrive again it
    flushes what it kept. The limits are shortened by the URL, as users may.
    """
    limits = "keepalives_idle=1&keepalives_interval=1&tcp_user_timeout=1500&connect_timeout=1"
    async with open_stage(server.url(database), tmp_path) as stage:
        marks = await enqueue_marks(stage, 800, 0.005)
        monkeypatch.setattr(stage, "url", f"{server.url(database, host='10.213.77.1')}&{limits}")
        command = await stage.dedicate("mark", launcher=("ip", "netns", "exec", namespace))
        await stage.until_done(50)
        (pid,) = await stage.worker_pids()

        async def is_noticed() -> bool:
            return "broke" in command.stderr

        with lost_packets(namespace):
            await stage.until(is_noticed)
        await stage.until_done(800, 40)
        await check_once(stage, marks, 800)
        assert await stage.worker_pids() == [pid]
        command.process.terminate()
        assert await command.wait() == 0, command.stderr


async def test_server_without_these_settings(server: Server, database: str, monkeypatch: pytest.MonkeyPatch):
    """A server that has not all of the settings against dead clients is used without them."""
    for lacking in ({"client_connection_check_interval": "never"}, {"no_such_setting": "1"}):
        monkeypatch.setattr(reach, "SERVER", lacking)
        reached = await reach.reach(
            server.url(database), name="hotpath test", settings={"enable_seqscan": "off"}
        )
        assert await reached.connection.fetchval("select current_setting('enable_seqscan')") == "off"
        await reached.connection.close()
