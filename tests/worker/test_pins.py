"""Jobs that are pinned to a version are run by it, whatever is current."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from worker_stage import Stage

from hotpath.errors import DatabaseUnavailableError, ScriptError, UnknownScriptError, UsageError
from hotpath.scripts.describe import describe
from hotpath.scripts.locate import locate
from hotpath.store.choices import pin_version
from hotpath.store.scripts import register_version
from hotpath.worker import pins, supervisor
from hotpath.worker.options import DedicateOptions
from hotpath.worker.supervisor import supervise


async def deployed(stage: Stage, *numbers: int) -> list[str]:
    """Versions that give these numbers, the last of them current; their hashes."""
    hashes = []
    for number in numbers:
        (stage.workspace / "job.py").write_text(f"def main(x: int) -> int:\n    return {number}\n")
        description = await describe(locate("job", stage.workspace))
        await register_version(stage.connection, description, deploy=True)
        hashes.append(description.hash)
    return hashes


async def test_a_dedicated_worker_has_pins_run_beside_it(stage: Stage):
    """Pinned by client and by SQL, loose and sealed; and it ends the process for them when they are done."""
    one, two, _ = await deployed(stage, 1, 2, 3)
    command = await stage.dedicate("job")
    await command.ready()
    jobs = [await stage.client.enqueue(f"job@{one[:6]}", {"x": x}) for x in range(3)]
    sealed = await stage.client.enqueue_many(f"job@{two[:12]}", ({"x": x} for x in range(50)))
    by_sql = await stage.connection.fetchval(
        "select hotpath.enqueue(hotpath.pin('job', $1), '{\"x\": 1}')", one[:4]
    )
    plain = await stage.client.enqueue("job", {"x": 0})
    assert (
        await stage.connection.fetchval("select hotpath.why_stranded('job', $1)", f"job@{one[:12]}") is None
    )
    assert [await stage.client.result(job) for job in (*jobs, by_sql)] == [1] * 4
    assert Counter([await stage.client.result(job) for job in sealed]) == {2: 50}
    assert await stage.client.result(plain) == 3
    scripts = await stage.connection.fetch("select distinct script, tag from hotpath.job order by 1")
    assert [tuple(row) for row in scripts] == [
        (name, "job") for name in sorted(["job", f"job@{one[:12]}", f"job@{two[:12]}"])
    ]


@pytest.mark.slow
async def test_a_team_of_a_pin_ends_when_it_is_idle(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    """Its process is not kept for ever; another job starts it again."""
    one, _ = await deployed(stage, 1, 2)
    monkeypatch.setattr(pins, "IDLE", 0.5)
    options = DedicateOptions(name="job", workspace=stage.workspace, quiet=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, stage.client.config, options)
        for round_ in (1, 2):
            job = await stage.client.enqueue(f"job@{one}", {"x": 1})
            assert await stage.client.result(job) == 1

            async def gone(lives: int = round_) -> bool:
                # On a busy machine one may have been idle for that long before it saw its job.
                return await stage.connection.fetchval(
                    "select count(*) >= $1::int4 and bool_and(w.stopped_at is not null)"
                    " from hotpath.worker w join hotpath.script s on s.id = w.script"
                    " where s.pin_of is not null",
                    lives,
                )

            await stage.until(gone)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_drain_runs_pinned_jobs_too(stage: Stage):
    """`--drain` ends when those are done as well that wait for a pinned version."""
    one, _ = await deployed(stage, 1, 2)
    job = await stage.client.enqueue(f"job@{one}", {"x": 1})
    await stage.drain("job")
    assert (await stage.client.job(job)).result == 1
    await stage.check_empty()


@pytest.mark.slow
async def test_a_worker_dedicated_to_a_pin_and_a_normal_one(stage: Stage):
    """`hotpath dedicate NAME@HASH` runs its jobs alone; a normal worker runs them as any script's."""
    one, two = await deployed(stage, 1, 2)
    job = await stage.client.enqueue(f"job@{one[:8]}", {"x": 1})
    other = await stage.client.enqueue("job", {"x": 1})
    await stage.drain(f"job@{one[:5]}")
    assert (await stage.client.job(job)).result == 1
    assert (await stage.client.job(other)).state == "queued"
    again = await stage.client.enqueue(f"job@{two[:8]}", {"x": 1})
    late = await stage.client.enqueue(f"job@{one[:8]}", {"x": 1})
    await stage.drain_all()
    assert [(await stage.client.job(each)).result for each in (other, again, late)] == [2, 2, 1]


async def test_a_version_that_is_not_there_is_refused(stage: Stage):
    """Unknown, ambiguous, misspelt, and one whose source is not stored."""
    one, _ = await deployed(stage, 1, 2)
    for name, text in (
        ("job@00000000", "no version of job begins with 00000000; there are"),
        ("job@xyz", "a version is named by 4 to 64 hex digits"),
        ("job@ab", "a version is named by 4 to 64 hex digits"),
        ("jab@abcd", "did you mean 'job'"),
    ):
        with pytest.raises(ScriptError, match=text):
            await stage.client.enqueue(name, {"x": 1})
    await stage.connection.execute(
        "insert into hotpath.script_version (script, hash, is_async, schema, settings)"
        " select script, $1 || repeat('0', 60), false, schema, settings from hotpath.script_version limit 1",
        one[:4],
    )
    with pytest.raises(UnknownScriptError, match="more than one version of job begins with"):
        await pin_version(stage.connection, f"job@{one[:4]}")
    with pytest.raises(ScriptError, match="is not in the database"):
        await pin_version(stage.connection, f"job@{one[:4]}00000000")


async def test_a_pin_follows_its_scripts_tag_and_priority(stage: Stage):
    """Jobs of a pin wait where the script's own wait, by the priority that its version says."""
    first = "import hotpath\nhotpath.settings(priority=4)\ndef main(x: int) -> int:\n    return 1\n"
    (stage.workspace / "job.py").write_text(first)
    description = await describe(locate("job", stage.workspace))
    await register_version(stage.connection, description, deploy=True)
    pinned = await pin_version(stage.connection, f"job@{description.hash[:9]}")
    assert pinned == f"job@{description.hash[:12]}"
    (stage.workspace / "job.py").write_text(first.replace("priority=4", "tag='there'"))
    await register_version(stage.connection, await describe(locate("job", stage.workspace)), deploy=True)
    job = await stage.client.job(await stage.client.enqueue(pinned, {"x": 1}))
    assert (job.script, job.tag, job.priority) == (pinned, "there", 4)


async def test_a_pin_that_is_refused_is_said(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Not only in the debug log: whatever Hotpath has against it, and once for each try."""
    one, _ = await deployed(stage, 1, 2)
    make = supervisor.team_of

    async def refuse(house, options, edition, early=None):
        if "@" in options.name:
            raise UsageError("its tag depends on `x`")
        return await make(house, options, edition, early)

    monkeypatch.setattr(supervisor, "team_of", refuse)
    monkeypatch.setattr(pins, "LOOK_EVERY", 0.01)
    looks = pins.pins_waiting
    seen: list[int] = []

    async def look(*args):
        seen.append(1)
        return await looks(*args)

    monkeypatch.setattr(pins, "pins_waiting", look)
    await stage.client.enqueue(f"job@{one}", {"x": 1})

    async with trio.open_nursery() as nursery:
        options = DedicateOptions(name="job", workspace=stage.workspace, quiet=True)
        nursery.start_soon(supervise, stage.client.config, options)

        async def refused_and_looked_again() -> bool:
            if "cannot be run" not in caplog.text:
                seen.clear()
            return len(seen) > 2

        await stage.until(refused_and_looked_again)
        nursery.cancel_scope.cancel()
    said = [each for each in caplog.records if "its tag depends on `x`" in each.getMessage()]
    assert [(each.levelname, each.getMessage()) for each in said] == [
        ("ERROR", f"job@{one[:12]} cannot be run, its jobs wait: its tag depends on `x`")
    ]


async def test_a_look_for_pins_that_is_refused_is_said_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """What the database will go on refusing is a warning, once; weather is none."""
    errors = [DatabaseUnavailableError("away"), *[UsageError("never")] * 3]

    async def look(_self):
        if not errors:
            raise trio.EndOfChannel
        raise errors.pop(0)

    monkeypatch.setattr(pins, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(pins.Pins, "look", look)
    with pytest.raises(trio.EndOfChannel), caplog.at_level("WARNING"):
        await pins.Pins(None).run()
    assert [each.getMessage() for each in caplog.records] == [
        "jobs of pinned versions cannot be looked for: never"
    ]
