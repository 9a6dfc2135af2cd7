"""The hub: what is looked at is read once, each viewer gets all of it from where he is, and one who is slow
costs nobody anything. What workers do is done here by what they do it with: `say_live`, on a real database.
"""

import json
from contextlib import asynccontextmanager

import pytest
import trio

from hotpath import asyncpg_trio
from hotpath.client import open_client
from hotpath.store.logs import LogChunk, say_live
from hotpath.web.hub import Hub, Look
from hotpath.web.logs_feed import MEMORY
from hotpath.web.outbox import FRAME_SECONDS, VIEWER_LIMIT, Outbox, Pace, Viewer


class Eyes:
    """A viewer with a connection of his own, who takes a frame when the test says so."""

    def __init__(self, hub):
        self.hub = hub
        self.outbox = Outbox()
        self.viewer = Viewer(1, self.outbox, left=hub.leave)
        self.seen = []

    def look(self, channel, job=None, after=None):
        self.hub.join(self.viewer, Look(channel, job, after))
        return self

    async def until(self, condition):
        """Take frames until it is true of what was seen."""
        with trio.fail_after(40):
            while not condition(self.seen):
                await self.outbox.wait()
                if frame := self.outbox.take():
                    self.seen += json.loads(frame)["events"]

    async def read(self, length):
        """The first so many characters of the log."""
        await self.until(lambda seen: len(text_of(seen)) >= length)
        return text_of(self.seen)

    async def last(self, kind):
        """The event of this kind, when it comes."""
        await self.until(lambda seen: any(event["type"] == kind for event in seen))
        return next(event for event in self.seen if event["type"] == kind)


def text_of(events):
    """What the events of a log say, which must follow each other."""
    text = ""
    for event in events:
        if event["type"] in ("log", "gap"):
            text += event["text"] or f"<{event['at']}-{event['end']}>"
    return text


class Stage:
    """A hub, a job, and somebody who says what it prints."""

    def __init__(self, client, hub):
        self.client = client
        self.hub = hub
        self.job = None
        self.end = 0

    async def say(self, text, attempt=1, at=None):
        """Have the job print this."""
        start = self.end if at is None else at
        self.end = start + len(text)
        chunk = LogChunk(attempt, start, self.end, text, [(start, 0)])
        await self.hub._reads.read(say_live, [(self.job, chunk)], 0)  # whatever becomes of the database

    async def watches(self):
        """The rows of `hotpath.watch`."""
        async with self.client.database.connection() as connection:
            return await connection.fetchval("select count(*) from hotpath.watch")

    def eyes(self, after=None):
        """Somebody who looks at the job's log."""
        return Eyes(self.hub).look("log", self.job, after)


@asynccontextmanager
async def staged(database_url, workspace):
    """A stage with a job that waits."""
    async with open_client(database_url, workspace=workspace) as client, trio.open_nursery() as nursery:
        stage = Stage(client, Hub(client.database, nursery))
        stage.job = await client.enqueue("add", {"x": 1})
        yield stage
        nursery.cancel_scope.cancel()


@pytest.fixture
async def stage(database_url, workspace):
    """A stage with a job that waits."""
    async with staged(database_url, workspace) as stage:
        yield stage


async def eventually(condition):
    """Wait until it is so."""
    with trio.fail_after(40):
        while not await condition():  # noqa: ASYNC110 - the condition is the database's
            await trio.sleep(0.02)


async def test_log(stage):
    """What is said comes in order, to the end; many viewers are one watch, and none when they have gone."""
    one, other = stage.eyes(), stage.eyes()
    await stage.say("first ")
    await stage.say("second ")
    for eyes in (one, other):
        assert await eyes.read(13) == "first second "
    assert await stage.watches() == 1
    other.outbox.forget(other.viewer)
    await stage.say("third")
    assert await one.read(18) == "first second third"
    await stage.client.cancel(stage.job)
    assert (await one.last("end"))["state"] == "canceled"
    assert text_of(other.seen) == "first second "

    async def nobody_watches():
        return await stage.watches() == 0

    await eventually(nobody_watches)
    assert stage.hub.statistics().logs == stage.hub.statistics().jobs == 0


async def test_resume(stage):
    """Who comes back with a position gets what is behind it, and nothing twice; be it in the middle."""
    first = stage.eyes()
    await stage.say("0123456789")
    await first.read(10)
    assert await stage.eyes(after=(1, 4)).read(6) == "456789"
    back = stage.eyes(after=(1, 10))
    await stage.say("abc")
    assert await back.read(3) == "abc"
    assert (back.seen[0]["at"], back.seen[0]["end"]) == (10, 13)


async def test_late(stage):
    """Who comes when memory no longer has the start gets it from the database, at his pace."""
    first = stage.eyes()
    line = "x" * 30_000 + "\n"
    count = 2 * MEMORY // len(line)
    for k in range(count):
        await stage.say(line)
        await first.read((k + 1) * len(line))
    late = stage.eyes()
    assert await late.read(count * len(line)) == line * count
    assert stage.hub.statistics().logs == 1


async def test_missing(stage):
    """Where something was not said and nobody has it, a gap says so, and what follows comes."""
    eyes = stage.eyes()
    await stage.say("abc")
    await eyes.read(3)
    await stage.say("xyz", at=100)
    assert await eyes.read(13) == "abc<3-100>xyz"


async def test_slow_viewer(stage):
    """One who does not take what he is sent is told to ask again, and loses what waited; others lose
    nothing.
    """
    slow, quick = stage.eyes(), stage.eyes()
    await stage.say("begin\n")
    await quick.read(6)
    line = "y" * 60_000
    for k in range(1, VIEWER_LIMIT // len(line) + 2):
        await stage.say(line)
        await quick.read(6 + k * len(line))
    await eventually_over(slow.viewer)
    assert slow.outbox.statistics().characters < 100
    await slow.until(bool)
    assert [event["type"] for event in slow.seen] == ["resync"]
    assert text_of(quick.seen) == "begin\n" + line * k
    again = stage.eyes(after=(1, 0))
    assert len(await again.read(6 + k * len(line))) == 6 + k * len(line)


async def eventually_over(viewer):
    """Wait until the viewer is over."""

    async def over():
        return viewer.is_over

    await eventually(over)


async def test_many_viewers(stage):
    """200 viewers of one log: what they are sent is one string for all, read once; what waits for those who
    do not take it is bounded.
    """
    everybody = [stage.eyes() for _ in range(200)]
    await stage.say("hello\n")
    for eyes in everybody:
        assert await eyes.read(6) == "hello\n"
    before = stage.hub.statistics().reads.reads
    await stage.say("z" * 50_000)
    for eyes in everybody:
        await eyes.outbox.wait()
    bodies = {id(body) for eyes in everybody for _, body in eyes.outbox._waiting}
    assert len(bodies) == 1
    assert stage.hub.statistics().reads.reads - before < 100
    for _ in range(40):
        await stage.say("z" * 50_000)
    await eventually_over(everybody[-1].viewer)
    assert all(eyes.outbox.statistics().characters <= VIEWER_LIMIT for eyes in everybody)


async def test_database_goes_away(stage, database_url):
    """When every connection of the server is cut, the feeds go on where they were."""
    eyes = stage.eyes()
    overview = Eyes(stage.hub).look("overview")
    await stage.say("before ")
    await eyes.read(7)
    await overview.last("overview")
    connection = await asyncpg_trio.connect(database_url)
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    await connection.execute("delete from hotpath.watch")  # as a crash would
    await connection.close()
    overview.seen.clear()
    await stage.say("after")
    assert await eyes.read(12) == "before after"
    await overview.last("overview")

    async def is_watched_again():
        return await stage.watches() == 1

    await eventually(is_watched_again)


async def test_nobody_looks(stage):
    """While nobody looks nothing is read."""
    eyes = stage.eyes()
    overview = Eyes(stage.hub).look("overview")
    await overview.last("overview")
    eyes.outbox.forget(eyes.viewer)
    overview.outbox.forget(overview.viewer)

    async def nobody_watches():
        return await stage.watches() == 0

    await eventually(nobody_watches)
    before = stage.hub.statistics().reads
    await trio.sleep(1.3)
    assert stage.hub.statistics().reads == before


def test_pace():
    """Frames are further apart while the server is late with them, within bounds, and as before when it no
    longer is.
    """
    pace = Pace()
    assert pace.seconds == FRAME_SECONDS
    for _ in range(1000):
        pace.note(0.05)
    assert pace.seconds == pytest.approx(FRAME_SECONDS + 4 * 0.05, rel=0.01)
    for _ in range(1000):
        pace.note(60)
    assert pace.seconds == 1
    for _ in range(1000):
        pace.note(0)
    assert pace.seconds == pytest.approx(FRAME_SECONDS, rel=0.01)
