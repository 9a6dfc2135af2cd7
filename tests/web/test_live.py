"""From a job that prints to somebody elsewhere who reads it: real workers, a real server, `hotpath.remote`,
and `hotpath logs --follow --server`.
"""

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from web_stage import until

from hotpath.errors import ServerError, UnknownJobError, UsageError
from hotpath.remote import open_remote
from hotpath.store.logs import LogChunk, say_live

TALK = '''
import pathlib, time

def main(lines: int, heard: str, fail: bool = False):
    """Say some lines, ten at a time: more when they have been heard."""
    for number in range(lines):
        print(f"line {number} é")
        while number % 10 == 9 and not pathlib.Path(f"{heard}{number}").exists():
            time.sleep(0.01)
    if fail:
        raise ValueError("no more")
'''


@asynccontextmanager
async def dedicated(database_url, workspace, script):
    """A worker of its own that is ready."""
    environment = os.environ | {
        "HOTPATH_DATABASE_URL": database_url,
        "HOTPATH_WORKSPACE": str(workspace),
    }
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "hotpath", "dedicate", script], stderr=subprocess.PIPE, env=environment
    )
    try:
        said = b""
        while b"is ready" not in said:
            more = await process.stderr.receive_some()
            assert more, said
            said += more
        yield environment
    finally:
        process.terminate()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 20):
            await process.wait()
        await process.stderr.aclose()


def text_of(events):
    """What a log says; its parts have to follow each other."""
    text, attempt = "", 1
    for event in events:
        if event["type"] in ("log", "gap"):
            assert event["type"] == "log"
            if event["attempt"] != attempt:
                attempt, text = event["attempt"], ""
            assert event["at"] == len(text)
            text += event["text"]
    return text


@pytest.mark.slow
async def test_from_print_to_reader(served, database_url, workspace, tmp_path):
    """Each line is read as it is printed, once and in order, to the end, by a reader of the library and by
    the command; who watches sees all of it while the job runs.
    """
    (workspace / "talk.py").write_text(TALK)
    whole = "".join(f"line {number} é\n" for number in range(100))
    async with dedicated(database_url, workspace, "talk") as environment:
        heard = str(tmp_path / "heard")
        job = await served.client.enqueue("talk", {"lines": 100, "heard": heard, "fail": True})
        command = [sys.executable, "-m", "hotpath", "logs", str(job), "--follow", "--server", served.url]
        elsewhere = environment | {"HOTPATH_DATABASE_URL": "postgresql://127.0.0.1:1/nowhere"}
        events = []
        async with trio.open_nursery() as nursery:
            followed = partial(trio.run_process, command, capture_stdout=True, env=elsewhere)
            done = []

            @nursery.start_soon
            async def follow():
                done.append(await followed())

            async with open_remote(served.url) as remote, remote.subscribe("log", job=job) as log:
                async for event in log:
                    events.append(event)
                    await trio.Path(f"{heard}{text_of(events).count(chr(10)) - 1}").touch()
        assert text_of(events) == whole
        assert (events[-1]["type"], events[-1]["state"]) == ("end", "failure")
        assert done[0].stdout.decode() == whole
        times = [when for event in events for _, when in event.get("times", ())]
        assert times == sorted(times)


@pytest.fixture
async def said(served):
    """Somebody says what a job prints: as its worker would, on the real database."""
    job = await served.client.enqueue("add", {"x": 1})
    length = 0

    async def say(text):
        nonlocal length
        chunk = LogChunk(1, length, length + len(text), text, [(length, 0)])
        length += len(text)
        async with served.client.database.connection() as connection:
            await say_live(connection, [(job, chunk)], 0)

    say.job = job
    return say


async def read_until(log, events, length):
    """Read events until so much of the log is there."""
    with trio.fail_after(50):
        while len(text_of(events)) < length:
            events.append(await anext(log))


@pytest.mark.slow
async def test_slow_reader(served, said):
    """One who does not read for a while is dropped by the server, comes back by himself to where he was, and
    has all of it in the end.
    """
    line = "x" * 60_000
    async with open_remote(served.url) as remote, remote.subscribe("log", job=said.job) as log:
        events = []
        await said("begin")
        await read_until(log, events, 5)
        for _ in range(200):  # 12 MB: more than sockets and buffers hold
            await said(line)
        await read_until(log, events, 5 + 200 * len(line))
        assert text_of(events) == "begin" + line * 200
        await served.client.cancel(said.job)
        assert [event async for event in log][-1]["type"] == "end"


async def test_server_starts_again(serve_fixture):
    """A reader goes on where he was when the server has been away, and what was said meanwhile is there."""
    async with serve_fixture() as first:
        job = await first.client.enqueue("add", {"x": 1})
        port = int(first.url.rpartition(":")[2])
        events = []
        async with open_remote(first.url) as remote, remote.subscribe("log", job=job) as log:
            await _say(first, job, 0, "one ")
            await read_until(log, events, 4)
            first.state.stopping.set()
            await first.done.wait()
            await _say(first, job, 4, "two ")
            await until(lambda: not remote.is_connected)
            async with serve_fixture(port=port) as second:
                await read_until(log, events, 8)
                await _say(second, job, 8, "three")
                await read_until(log, events, 13)
        assert text_of(events) == "one two three"


async def _say(served, job, at, text):
    async with served.client.database.connection() as connection:
        await say_live(connection, [(job, LogChunk(1, at, at + len(text), text, []))], 0)


async def test_refusals(served):
    """What cannot be had is said by an error that fits: no such job, no server, no URL."""
    async with open_remote(served.url) as remote:
        nobody = "01900000-0000-7000-8000-000000000000"
        async with remote.subscribe("log", job=nobody) as log:
            with pytest.raises(UnknownJobError, match=nobody):
                await anext(log)
        async with remote.subscribe("overview") as overview:  # the connection is as good as before
            assert (await anext(overview))["type"] == "overview"
    with pytest.raises(ServerError, match="no server"):
        async with open_remote("http://127.0.0.1:1"):
            pass
    with pytest.raises(ServerError, match="refuses this with status 403"):
        async with open_remote(served.url + "/elsewhere"):
            pass
    for url in ("127.0.0.1:8765", "http://", "http://[", "http://host:port"):
        with pytest.raises(UsageError):
            async with open_remote(url):
                pass
