"""I11: the server restarts, crashes, ends sessions, is away: outcomes are kept, work goes on, nothing
twice.
"""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest
import trio
from servers import Server
from trouble_tools import check_once, enqueue_marks, reconnect
from worker_stage import Stage

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_restart(stage: Stage, server: Server, database: str, how: signal.Signals):
    """A restart in the middle of a run loses no outcome and no command, shut down or crashed."""
    marks = await enqueue_marks(stage, 1000, 0.002)
    command = await stage.dedicate("mark")
    await stage.until_done(100)
    await trio.to_thread.run_sync(server.stop, how)
    await trio.to_thread.run_sync(server.start)
    await reconnect(stage, server, database)
    await stage.until_done(1000, 45)
    if how is signal.SIGINT:
        await check_once(stage, marks, 1000)
    else:  # a crash may forget claims, which do not wait for the disk: those jobs run again (decision 0002)
        assert await stage.states() == {"success": 1000}
        assert set(marks.read_text().split()) == {str(x) for x in range(1000)}
    assert command.process.returncode is None
    command.process.terminate()
    assert await command.wait() == 0, command.stderr


async def test_outage(stage: Stage, server: Server, database: str):
    """While the server is away the worker keeps what it finished; soon after it is back the next job
    starts.
    """
    marks = await enqueue_marks(stage, 400, 0.005)
    command = await stage.dedicate("mark", "--processes", "2")
    await stage.until_done(50)
    await trio.to_thread.run_sync(server.stop)
    await trio.sleep(3)
    began = len(marks.read_text().split())
    await trio.to_thread.run_sync(server.start)
    back = time.monotonic()
    await reconnect(stage, server, database)
    await stage.client.enqueue("mark", {"x": 400, "file": str(marks)})  # there is one, however far it came

    async def goes_on() -> bool:
        return len(marks.read_text().split()) > began

    await stage.until(goes_on)
    print(f"first job {time.monotonic() - back:.3f} s after the server accepts connections")
    await stage.until_done(401, 40)
    await check_once(stage, marks, 401)
    assert len(await stage.worker_pids()) == 2
    assert command.process.returncode is None


async def test_outage_beyond_the_lease(stage: Stage, server: Server, database: str):
    """An outage that outlasts the lease ends workers, but no outcome: what they kept is written, once, and
    the rest runs in their successors.
    """
    marks = await enqueue_marks(stage, 400, 0.005)
    command = await stage.dedicate("mark", "--lease", "3")
    await stage.until_done(50)
    await trio.to_thread.run_sync(server.stop)
    await trio.sleep(4)
    await trio.to_thread.run_sync(server.start)
    await reconnect(stage, server, database)
    await stage.until_done(400, 45)
    assert await stage.states() == {"success": 400}
    assert set((await trio.Path(marks).read_text()).split()) == {str(x) for x in range(400)}
    await stage.check_empty()
    command.process.terminate()
    assert await command.wait() == 0, command.stderr


async def test_stop_while_the_server_is_away(stage: Stage, server: Server):
    """I12: an idle worker that is told to stop during an outage has nothing to wait for."""
    command = await stage.dedicate("mark")
    await command.ready()
    await trio.to_thread.run_sync(server.stop)
    command.process.terminate()
    assert await command.wait() == 0, command.stderr
    await trio.to_thread.run_sync(server.start)


async def test_every_backend_is_killed(stage: Stage):
    """Sessions of worker, supervisor, listener and client end again and again: nobody exits, nobody goes
    deaf.
    """
    marks = await enqueue_marks(stage, 1500, 0.001)
    command = await stage.dedicate("mark")
    await command.ready()  # a command that cannot connect at its start says so and ends
    pids: list[int] = []
    with trio.move_on_after(3):
        while True:
            await stage.connection.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            pids = pids or await stage.worker_pids()
            await trio.sleep(0.15)
    await stage.until_done(1500, 40)
    await check_once(stage, marks, 1500)
    assert await stage.worker_pids() == pids, "a worker was replaced"
    assert command.process.returncode is None

    async def is_told() -> bool:
        return await stage.connection.fetchval("select exists (select from hotpath.doze where until > now())")

    await stage.until(is_told, 30)
    job = await stage.client.enqueue("mark", {"x": 1, "file": str(marks)})
    with trio.fail_after(20):
        await stage.client.result(job)
    command.process.terminate()
    assert await command.wait() == 0, command.stderr


@pytest.mark.parametrize("flags", [(), ("--drain",)], ids=["serve", "drain"])
async def test_start_during_an_outage(stage: Stage, server: Server, database: str, flags: tuple[str, ...]):
    """A server that is restarted while a command starts ends no worker, once the command itself has
    connected.
    """
    marks = await enqueue_marks(stage, 50, 0.0)
    command = await stage.dedicate("mark", *flags)

    async def has_registered() -> bool:
        return await stage.connection.fetchval("select exists (select from hotpath.worker)")

    await stage.until(has_registered)
    await trio.to_thread.run_sync(server.stop, signal.SIGQUIT)
    await trio.sleep(0.5)
    await trio.to_thread.run_sync(server.start)
    await reconnect(stage, server, database)
    await stage.until_done(50)
    assert Counter(marks.read_text().split()).keys() == {str(x) for x in range(50)}
    if flags:
        assert await command.wait() == 0, command.stderr
