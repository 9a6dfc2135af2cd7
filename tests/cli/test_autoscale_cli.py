"""`hotpath autoscale` as a user types it: what it shows, what it refuses."""

from __future__ import annotations

import trio

from hotpath import asyncpg_trio


def test_help_has_a_line_for_each_use(hotpath):
    """Its examples are not filled to a paragraph."""
    lines = hotpath("autoscale", "--help").out.splitlines()
    assert len([line for line in lines if line.startswith("  hotpath autoscale")]) == 5


def test_set_and_look(hotpath):
    """A scale is set, shown with its reasons, changed, and unset."""
    done = hotpath("autoscale", "set", "etl", "--min", "0", "--max", "4", "--tags", "etl-*")
    assert done.code == 0, done.err
    assert done.out.startswith("etl: 0 to 4 workers")
    hotpath("autoscale", "set", "etl", "--target", "30")
    (document,) = hotpath("autoscale", "--dry-run", "--json").documents
    assert (document["group"], document["workers"], document["wanted"]) == ("etl", 0, 0)
    assert document["scale"]["target_seconds"] == 30
    assert document["patterns"] == ["etl-*"]
    shown = hotpath("autoscale", "etl", "--dry-run").out
    assert shown.splitlines()[0].split() == (
        ["GROUP", "NOW", "WANTED", "MIN", "MAX", "WAITING", "IN", "HAND", "ARRIVE/S", "JOB"]
    )
    assert "etl: 0 wanted" in shown
    assert "  0 jobs wait, of unknown length (none has ended yet)" in shown
    assert hotpath("autoscale", "set", "etl", "--tags", "").code == 0
    assert hotpath("autoscale", "unset", "etl").out == "etl: the defaults\n"
    assert "has no scale" in hotpath("autoscale", "unset", "etl").error
    assert "no group" in hotpath("autoscale", "--dry-run").out


async def test_jobs_that_take_long_are_told_in_seconds(hotpath, environment):
    """How long a job takes has the unit that suits it, and a group without tags is told what to type."""
    assert await trio.to_thread.run_sync(hotpath, "deploy")
    connection = await asyncpg_trio.connect(environment["HOTPATH_DATABASE_URL"])
    try:
        await connection.execute(
            "insert into hotpath.minute (minute, script, tag, success, failure, canceled, retried, busy_us) "
            "select date_trunc('minute', now()), min(id), hotpath.tag_id('etl'), 2, 0, 0, 0, 100000000 "
            "from hotpath.script"
        )
    finally:
        await connection.close()
    await trio.to_thread.run_sync(hotpath, "autoscale", "set", "etl", "--tags", "etl")
    shown = (await trio.to_thread.run_sync(hotpath, "autoscale", "etl", "--dry-run")).out
    assert shown.splitlines()[1].endswith("  50.0 s")
    shown = (await trio.to_thread.run_sync(hotpath, "autoscale", "bare", "--dry-run")).out
    assert "nothing names its tags: hotpath autoscale set bare --tags a,b" in shown


REFUSED = [
    (["set", "g", "--min", "5", "--max", "2"], "--min 5 is more than --max 2"),
    (["set", "g", "--max", "0"], "--max takes 1"),
    (["set", "g", "--target", "nan"], "--target takes"),
    (["set", "g", "--utilisation", "80"], "--utilisation takes 0.05 to 1"),
    (["set", "g", "--tags", "a,,b"], "--tags"),
    (["set", " ", "--max", "2"], "GROUP takes a name"),
    (["set", "g"], "name something to set"),
    ([], "name the GROUP"),
    (["g", "--dry-run", "--", "true"], "--dry-run starts nothing"),
    (["g", "--", "no-such-program"], "there is no program 'no-such-program'"),
    (["g"], "no group 'g' is configured: `hotpath group set g --tags A,B` makes one"),
    (["g", "--grace", "-1", "--", "true"], "--grace"),
]


def test_what_is_refused(hotpath, subtests):
    """With the option's name, before anything is started or stored."""
    for arguments, named in REFUSED:
        with subtests.test(ascii(arguments)[:60]):
            done = hotpath("autoscale", *arguments)
            assert done.code in (1, 2)
            assert named in done.error
