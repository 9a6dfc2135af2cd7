"""`hotpath schedule`: set, listed, shown, paused, run, written to a file and read from it."""

import pytest
import trio
from store_stage import open_stage

from hotpath.store.servers import Standing

SECRET = """
    import hotpath
    def main(x: int = 0, key: hotpath.Secret = hotpath.Secret("")):
        return x
"""


def test_from_set_to_delete(hotpath):
    """A schedule is made with the script of the workspace, changed in part, and gone when it is deleted."""
    done = hotpath("schedule", "set", "s", "--script", "add", "--cron", "30 2 * * *", "--timezone",
                   "Europe/Berlin", "-a", "x=3", "--json")  # fmt: skip
    assert done.code == 0, done.err
    (document,) = done.documents
    assert (document["script"], document["args"], document["state"]) == ("add", {"x": 3}, "active")
    assert len(document["next"]) == 5
    changed = hotpath("schedule", "set", "s", "--priority", "5", "--json").documents[0]
    assert (changed["priority"], changed["args"], changed["next"]) == (5, {"x": 3}, document["next"])
    listed = hotpath("schedule", "list")
    assert "cron 30 2 * * * Europe/Berlin" in listed.out
    assert hotpath("schedule", "list", "--script", "nope").out.splitlines()[1:] == []
    ahead = hotpath("schedule", "next", "s", "-n", "3")
    assert len(ahead.out.splitlines()) == 3
    assert "T02:30:00+0" in ahead.out or "T03:00:00+02:00" in ahead.out
    job = hotpath("schedule", "run", "s").out.strip()
    shown = hotpath("schedule", "show", "s")
    assert job in shown.out
    assert "by hand" in shown.out
    assert hotpath("jobs", "--schedule", "s", "--json").documents[0]["id"] == job
    assert "schedule       s, tick of" in hotpath("job", job).out
    assert hotpath("job", job, "--json").documents[0]["schedule"]["name"] == "s"
    assert hotpath("schedule", "pause", "s").out == "paused s\n"
    assert hotpath("schedule", "show", "s", "--json").documents[0]["state"] == "paused"
    assert "is paused" in hotpath("schedule", "next", "s").err
    assert hotpath("schedule", "resume", "s", "--json").documents[0]["state"] == "active"
    assert hotpath("schedule", "delete", "s").code == 0
    gone = hotpath("schedule", "show", "s")
    assert (gone.code, "no schedule 's'" in gone.error) == (1, True)


def test_bad_input(hotpath):
    """I13: what cannot be is refused in one line that names the field, by 2 for usage and 1 for the rest."""
    hotpath("schedule", "set", "s", "--script", "add", "--every", "1h", "-a", "x=1")
    for flags, code, named in (
        (("--cron", "0 0 30 2 *"), 2, "day-of-month '30'"),
        (("--cron", "0 0 * * *", "--timezone", "Mars/Base"), 2, "Mars/Base"),
        (("--every", "10ms"), 2, "every"),
        (("--at", "2001-01-01T00:00"), 2, "at:"),
        (("--every", "1h", "--cron", "@daily"), 2, "every contradicts cron"),
        (("--catch-up", "all", "--overlap", "skip"), 2, "overlap"),
        (("--catch-up-within", "soon"), 2, "--catch-up-within"),
        (("--priority", "99999"), 2, "priority"),
        (("--script", "nope"), 1, "nope"),
        (("-a", "x=one"), 1, "x"),
        (("-a", "z=1"), 1, "z"),
    ):
        done = hotpath("schedule", "set", "s", *flags)
        assert (done.code, named in done.error) == (code, True), (flags, done.err)
    assert hotpath("schedule", "list", "--json").documents[0]["every"] == 3600
    done = hotpath("jobs", "--schedule", "s", "--state", "queued")
    assert (done.code, "--schedule" in done.error) == (2, True)


def test_who_sets_one_is_told_if_nobody_has_it_tick(hotpath, database_url):
    """A worker that was killed is none; a server that is up does."""

    async def register(lease: float) -> None:
        async with open_stage(database_url) as stage:
            await stage.worker(lease=lease)

    async def serve(standing: Standing) -> None:
        async with open_stage(database_url) as stage:
            await standing.say(stage.connection)

    async def leave(standing: Standing) -> None:
        async with open_stage(database_url) as stage:
            await standing.gone(stage.connection)

    def said() -> str:
        done = hotpath("schedule", "set", "s", "--script", "add", "--every", "1h", "-a", "x=1")
        assert done.code == 0
        return done.err

    assert "neither a worker nor `hotpath serve` runs now" in said()
    standing = Standing("127.0.0.1:8765", is_loopback=True, is_open=True, is_secure=False)
    trio.run(serve, standing)
    assert said() == ""
    trio.run(leave, standing)
    trio.run(register, -1.0)  # its lease is over
    assert "neither a worker nor `hotpath serve` runs now" in said()
    trio.run(register, 600.0)
    assert said() == ""


def test_a_secret_is_not_shown(hotpath, workspace):
    """Args that a script marks as secret are masked, and a mask is not taken for the secret."""
    (workspace / "keyed.py").write_text(SECRET.replace("\n    ", "\n"))
    done = hotpath(
        "schedule", "set", "s", "--script", "keyed", "--every", "1h", "-a", "key=hushhush", "--json"
    )
    assert done.code == 0, done.err
    for arguments in (("show", "s"), ("show", "s", "--json"), ("list", "--json"), ("pause", "s", "--json")):
        shown = hotpath("schedule", *arguments)
        assert ("hushhush" in shown.out + shown.err, "••••••" in shown.out) == (False, True), arguments
    again = hotpath("schedule", "set", "s", "-a", "key=••••••")
    assert (again.code, "secret" in again.error) == (1, True)


def test_to_a_file_and_back(hotpath, tmp_path):
    """What is exported is imported as it was, the paused ones paused; a file is taken whole or not at all."""
    timing = ("--cron", "5 4 * * MON", "--timezone", "Asia/Tokyo")
    hotpath(
        "schedule", "set", "a", "--script", "add", *timing, "-a", "x=1", "-t", "slow", "--overlap", "skip"
    )
    # What is left of the time when it was no interval must not keep the file from being read.
    hotpath("schedule", "set", "b", "--script", "add", *timing, "-a", "x=2")
    hotpath("schedule", "set", "b", "--every", "90s")
    hotpath("schedule", "set", "c", "--script", "echo", "--at", "2099-01-01T10:00")
    hotpath("schedule", "pause", "b")
    file = tmp_path / "schedules.yaml"
    assert hotpath("schedule", "export", "-o", file).code == 0
    before = hotpath("schedule", "list", "--json").documents
    hotpath("schedule", "delete", "a", "b", "c")
    assert hotpath("schedule", "import", file).out == "set a, b, c\n"
    after = hotpath("schedule", "list", "--json").documents
    differs = {"last_job", "next_at", "next", "created_at", "updated_at"}
    assert before[1].pop("timezone") == "Asia/Tokyo"
    assert after[1].pop("timezone") == "UTC"
    assert [{k: v for k, v in each.items() if k not in differs} for each in after] == [
        {k: v for k, v in each.items() if k not in differs} for each in before
    ]
    for text, named in (
        (
            "schedules:\n  d: {script: add, every: 60, args: {x: 1}}\n  e: {script: add, cron: bad}",
            "schedule e",
        ),
        ("schedules:\n  d: {script: add, evry: 60}", "evry"),
        ("schedules:\n  d: {script: add, cron: 5}", "cron"),
        ("schedules:\n  d: {script: add, every: 60, priority: high}", "whole number"),
        ("schedules:\n  d: {script: add, every: 60, catch_up_within: soon}", "field `catch_up_within`"),
        (
            "schedules:\n  d: {script: add, every: 1}\n  d: {script: add, every: 2}",
            "line 3: `d` stands there twice",
        ),
        ("schedules: [", "line"),
        ("other: {}", "schedules:"),
    ):
        file.write_text(text)
        done = hotpath("schedule", "import", file)
        assert (done.code, named in done.error) == (2, True), done.err
    assert len(hotpath("schedule", "list", "--json").documents) == 3
    file.write_text("schedules:\n  d: {script: echo, at: 2099-01-01T10:00:00+02:00, catch_up_within: 2d}")
    assert hotpath("schedule", "import", file).code == 0
    (read,) = (hotpath("schedule", "show", "d", "--json")).documents
    assert (read["at"], read["catch_up_within"]) == ("2099-01-01T08:00:00+00:00", 2 * 86400)


@pytest.mark.parametrize(
    "command", ["set", "list", "show", "next", "pause", "resume", "delete", "run", "export"]
)
def test_each_has_help_and_json(command):
    """Every command explains itself and has `--json`."""
    from click.testing import CliRunner

    from hotpath.cli.app import app
    from hotpath.cli.options import Given

    result = CliRunner().invoke(app, ["schedule", command, "--help"], obj=Given())
    assert (result.exit_code, "--json" in result.output) == (0, True)
