"""Putting jobs in, one by one and in bulk: what is accepted is there, what is refused leaves nothing."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
import trio

from hotpath.errors import BadArgsError, JobCanceled, UnknownJobError, UnknownScriptError, UsageError


async def count(client):
    """How many jobs there are, wherever they are."""
    async with client.database.connection() as connection:
        return await connection.fetchval("select count(*) from hotpath.job")


async def test_enqueued_job_is_there(client_of):
    """A job that was put in can be looked up at once, with what it was given and what it got by default."""
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
    async with client_of() as client:
        plain = await client.job(await client.enqueue("add", {"x": 1}))
        chosen = await client.job(
            await client.enqueue("add", {"x": 1, "y": 5}, tag="ü", priority=-32768, scheduled_for=later)
        )
    assert (plain.script, plain.tag, plain.state, plain.priority, plain.attempt) == (
        "add",
        "add",
        "queued",
        0,
        0,
    )
    assert plain.args == {"x": 1}
    assert type(plain.id) is uuid.UUID
    assert abs(plain.scheduled_for - plain.created_at) < timedelta(minutes=1)
    assert (chosen.tag, chosen.priority, chosen.scheduled_for, chosen.args) == (
        "ü",
        -32768,
        later,
        {"x": 1, "y": 5},
    )


BAD_ARGS = {
    "missing": ({}, "field `x` is missing"),
    "wrong type": ({"x": "1"}, "field `x`: expected int, got str"),
    "null": ({"x": None}, "field `x`: expected int, got null"),
    "extra": ({"x": 1, "z": 2}, "field `z` is unknown"),
    "no object": ([1], "object"),
    "no JSON": ({"x": object()}, "object"),
}


async def test_bad_args_are_refused_by_name(client_of, subtests):
    """Args that the signature does not take are refused with the field named, alone or among many, and
    nothing is left.
    """
    async with client_of() as client:
        for name, (args, message) in BAD_ARGS.items():
            with subtests.test(name):
                with pytest.raises(BadArgsError, match=message):
                    await client.enqueue("add", args)
                with pytest.raises(BadArgsError, match=f"job 700 of add: .*{message}"):
                    await client.enqueue_many("add", [*({"x": i} for i in range(700)), args, {"x": 1}])
                assert await count(client) == 0


NO_TEXT = ["\0", "a\ud800b"]


async def test_text_that_postgres_cannot_hold_is_refused_by_name(client_of, subtests):
    """NUL and lone surrogates are refused at the door, with the field named, also as a key."""
    async with client_of() as client:
        for text in NO_TEXT:
            with subtests.test(ascii(text)[:60]):
                with pytest.raises(BadArgsError, match="text"):
                    await client.enqueue("f/team/text", {"text": text})
                with pytest.raises(BadArgsError, match="job 0"):
                    await client.enqueue_many("f/team/text", [{"text": text}])
                with pytest.raises(BadArgsError):
                    await client.enqueue("anything", {text: 1})
                with pytest.raises(UsageError, match="tag"):
                    await client.enqueue("add", {"x": 1}, tag=text)
                with pytest.raises(UnknownScriptError):
                    await client.enqueue(text, {})
                assert await count(client) == 0


BAD_OPTIONS = [
    {"priority": 32768},
    {"priority": -32769},
    {"priority": 1.5},
    {"priority": True},
    {"tag": ""},
    {"tag": "x" * 256},
    {"tag": 5},
    {"scheduled_for": datetime(2026, 1, 1)},  # noqa: DTZ001 - without a time zone on purpose
    {"scheduled_for": "now"},
]


async def test_bad_options_are_refused_by_name(client_of, subtests):
    """A tag, priority or time that no job can have is refused with its name."""
    async with client_of() as client:
        for options in BAD_OPTIONS:
            with subtests.test(ascii(options)[:60]):
                (name,) = options
                with pytest.raises(UsageError, match=name):
                    await client.enqueue("add", {"x": 1}, **options)
                with pytest.raises(UsageError, match=name):
                    await client.enqueue_many("add", [{"x": 1}], **options)
                assert await count(client) == 0


async def test_unknown_script(client_of):
    """A script that neither the database nor the workspace has is refused, with the similar name."""
    async with client_of() as client:
        await client.enqueue("add", {"x": 1})
        with pytest.raises(UnknownScriptError, match="did you mean 'add'"):
            await client.enqueue("adde", {})
        with pytest.raises(UnknownJobError):
            await client.job(uuid.uuid4())


async def test_bulk_ids_are_the_jobs_in_order(client_of):
    """Ids of a bulk enqueue come in the order of the args and of time, each its own job, across batches."""
    async with client_of() as client:
        ids = await client.enqueue_many("add", ({"x": i} for i in range(1234)), priority=3, tag="bulk")
        assert len(ids) == len(set(ids)) == 1234
        assert list(ids) == sorted(ids) == [ids[i] for i in range(1234)] == ids[:]
        assert (ids[-1], ids[5:7]) == (list(ids)[-1], list(ids)[5:7])
        with pytest.raises(IndexError):
            ids[1234]
        for i in (0, 499, 500, 999, 1233):
            job = await client.job(ids[i])
            assert (job.args, job.tag, job.priority, job.state) == ({"x": i}, "bulk", 3, "queued")
        assert await count(client) == 1234


async def test_large_args_among_small_ones(client_of):
    """Args over 8 KiB are kept beside the batch, and every job gets its own back."""
    texts = ["x" * (50_000 if i % 3 else 10) + str(i) for i in range(400)]
    async with client_of() as client:
        ids = await client.enqueue_many("f/team/text", ({"text": text} for text in texts))
        assert [(await client.job(ids[i])).args["text"] == texts[i] for i in (0, 1, 2, 200, 399)] == [
            True
        ] * 5
        found = await client.jobs(limit=400)
        assert [job.args["text"] for job in reversed(found)] == texts


async def test_async_source(client_of):
    """Args may come from an asynchronous generator."""

    async def source():
        for i in range(777):
            await trio.lowlevel.checkpoint()
            yield {"x": i}

    async with client_of() as client:
        ids = await client.enqueue_many("add", source())
        assert (len(ids), (await client.job(ids[776])).args) == (777, {"x": 776})
        assert len(await client.enqueue_many("add", [])) == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_source_that_raises_leaves_nothing(client_of, kind):
    """What the source raises comes out as it is, and none of its jobs is left."""

    def numbers():
        for i in range(2000):
            yield {"x": i}
        raise ConnectionResetError("mine")

    async def numbers_later():
        for each in numbers():
            yield each

    async with client_of() as client:
        with pytest.raises(ConnectionResetError, match="mine"):
            await client.enqueue_many("add", numbers() if kind == "sync" else numbers_later())
        assert await count(client) == 0
        await client.enqueue("add", {"x": 1})


async def test_cancelled_bulk_leaves_nothing(client_of):
    """A bulk enqueue that is cancelled midway leaves nothing, and the client works on."""

    async def endless():
        for i in range(1500):
            yield {"x": i}
        await trio.sleep_forever()

    async with client_of() as client:
        await client.enqueue("add", {"x": 0})
        with trio.move_on_after(0.3) as scope:
            await client.enqueue_many("add", endless())
        assert scope.cancelled_caught
        assert await count(client) == 1


async def test_bulk_memory_is_constant(client_of):
    """A source is read as it is sent, a batch at a time, and not collected first."""
    seen = []

    def source():
        for i in range(200_000):
            if i % 10_000 == 0:
                seen.append(len(pending))
            pending.append(i)
            yield {"x": i}

    pending: list[int] = []
    taken = 0
    async with client_of() as client:
        from hotpath.store.seal import Sealer

        validator = await client.validator("add")
        sealer = Sealer()
        for batch in sealer.seal(map(validator.encode, source())):
            taken += len(batch.args)
            assert len(pending) == taken  # nothing was read ahead of the batch
    assert taken == 200_000


async def test_changed_script_is_noticed(client_of, workspace):
    """A client that remembers an old signature looks again before it refuses."""
    async with client_of() as client:
        await client.enqueue("add", {"x": 1})
        (workspace / "add.py").write_text("def main(x: int, z: str): ...")
        async with client_of() as other:
            await other.register("add")
        await trio.sleep(0.15)  # younger knowledge is believed
        job = await client.job(await client.enqueue("add", {"x": 1, "z": "new"}))
        assert job.args == {"x": 1, "z": "new"}


async def test_default_priority_and_tag_of_the_script(client_of, workspace):
    """Jobs get the tag and priority that the script's settings say, one by one and in bulk."""
    (workspace / "urgent.py").write_text(
        "import hotpath\nhotpath.settings(tag='fast', priority=9)\ndef main(): ...\n"
    )
    async with client_of() as client:
        jobs = [await client.job(await client.enqueue("urgent"))]
        jobs.append(await client.job((await client.enqueue_many("urgent", [{}]))[0]))
        assert [(job.tag, job.priority) for job in jobs] == [("fast", 9)] * 2
        jobs = [await client.job(await client.enqueue("urgent", priority=2, tag="slow"))]
        assert [(job.tag, job.priority) for job in jobs] == [("slow", 2)]


async def test_canceled_jobs(client_of):
    """A job that waits, loose or sealed, can be canceled once; its result is then JobCanceled."""
    async with client_of() as client:
        loose = await client.enqueue("add", {"x": 1})
        sealed = (await client.enqueue_many("add", [{"x": i} for i in range(5)]))[2]
        for job_id in (loose, sealed):
            assert await client.cancel(job_id) is True
            assert await client.cancel(job_id) is False
            with pytest.raises(JobCanceled) as caught:
                await client.result(job_id)
            assert caught.value.error["kind"] == "canceled"
        with pytest.raises(UnknownJobError):
            await client.cancel(uuid.uuid4())


async def test_bulk_stores_what_single_enqueue_stores(client_of):
    """Whatever args hold, a job of a bulk enqueue gets them back as they were, among many of its kind."""
    values = [
        None, True, -(2**63), 2**64, 1.5, 1e-7,
        "", "ü😀", 'a"b\\', "line\nend\r\t", "\u2028", "\\u0000",
        [], {}, [None, [1, {"a": "b"}]], {"": None, "ä": {"deep": [1.25]}},
        "x" * 8191, "x" * 8192, "é" * 5000,
    ]  # fmt: skip
    async with client_of() as client:
        ids = await client.enqueue_many("anything", ({"v": v, "w": 1} for v in values for _ in range(700)))
        for index, value in enumerate(values):
            job = await client.job(ids[index * 700 + index])
            assert job.args == {"v": value, "w": 1}
            alone = await client.job(await client.enqueue("anything", {"v": value, "w": 1}))
            assert alone.args == job.args


async def test_bulk_leaves_the_program_its_turn(client_of):
    """Other tasks run while a long synchronous source is read."""
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with client_of() as client, trio.open_nursery() as nursery:
        await client.enqueue("add", {"x": 1})
        nursery.start_soon(others)
        await trio.lowlevel.checkpoint()
        turns = 0
        await client.enqueue_many("add", ({"x": i} for i in range(100_000)))
        assert turns > 10
        nursery.cancel_scope.cancel()
