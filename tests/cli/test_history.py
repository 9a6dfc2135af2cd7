"""`hotpath history`: what queues were like, as a table."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from datetime import timedelta

import pytest
import trio
from store_stage import open_stage

from hotpath.core.series import begin_of
from hotpath.store.history import look_at_queues


@pytest.fixture
def looked(database_url: str) -> None:
    """Two looks: three jobs waited in one tag, and one in another."""

    async def prepare() -> None:
        async with open_stage(database_url) as stage:
            await stage.loose(3)
            await stage.loose(1, tag="far")
            now = begin_of(await stage.now(), 1)
            for minutes in (0, 7):
                await look_at_queues(stage.connection, now - timedelta(minutes=minutes))

    trio.run(prepare)


def test_tables(hotpath, looked):
    """A line for each tag, the fullest first; of one tag, a line for each step. Bars are for terminals."""
    done = hotpath("history", "--since", "10m")
    assert done.code == 0
    head, _, heads, *rows = done.out.splitlines()
    assert "in steps of 1m" in head
    assert heads.split() == ["TAG", "WAITING", "RUNNING", "OLDEST", "ENDED", "FAILED"]
    assert [row.split()[:2] for row in rows] == [["(all)", "4"], ["flow_x", "3"], ["far", "1"]]
    done = hotpath("history", "--since", "10m", "--tag", "far", "--step", "1m")
    _, *rows = done.out.splitlines()
    assert 10 <= len(rows) <= 12
    assert sorted(row.split()[1] for row in rows)[-3:] == ["-", "1", "1"]
    assert "█" not in done.out


def test_a_tag_that_had_no_jobs(hotpath, looked):
    """Is told, whatever the table shows."""
    for tag in ("nowhere", "nowhere-*"):
        done = hotpath("history", "--tag", tag)
        assert (done.code, done.error) == (0, f"note: no tag that matches {tag} had jobs in that time")


def test_json(hotpath, looked):
    """One document with the series."""
    (document,) = hotpath("history", "--since", "10m", "--tag", "f*,!flow_x", "--json").documents
    (series,) = document["tags"]
    assert series["tag"] == "far"
    assert len(series["waiting"]) == len(document["steps"])
    assert max(each or 0 for each in document["all"]["waiting"]) == 1


def test_on_a_terminal(environment, looked):
    """There are bars."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "hotpath", "history", "--since", "10m"]
    subprocess.run(
        command,
        stdout=follower,
        env=environment | {"COLUMNS": "150", "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    os.close(follower)
    said = b""
    with contextlib.suppress(OSError):  # that nobody has the other side any more
        while part := os.read(leader, 100_000):
            said += part
    os.close(leader)
    shown = said.decode()
    assert "THROUGHPUT" in shown
    assert "█" in shown


BAD_QUESTIONS = [
    (["--tag", "a,,b"], "--tag: '' is no tag"),
    (["--since", "whenever"], "is not a time"),
    (["--since", "14d", "--step", "1m"], "more than 2,000 steps"),
]


def test_bad_questions(hotpath, subtests):
    """Are refused in a line that names what is wrong."""
    for arguments, said in BAD_QUESTIONS:
        with subtests.test(ascii(arguments)[:60]):
            done = hotpath("history", *arguments)
            assert done.code == 2
            assert said in done.error
