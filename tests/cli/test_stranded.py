"""What nobody will run is the first thing that `hotpath status` and `hotpath top` say."""

from __future__ import annotations

import json
import shlex

import pytest
import trio
from store_stage import open_stage


@pytest.fixture
def left(database_url: str) -> None:
    """Two jobs that have been due for a while in a tag without workers, and one that a worker waits for."""

    async def prepare() -> None:
        async with open_stage(database_url) as stage:
            await stage.loose(1)
            await stage.worker()
            await stage.loose(1, tag="slow\x1b[2J")
            await stage.connection.execute(
                "update hotpath.job_queue set id = '01900000-0000-7000-8000-000000000000', "
                "scheduled_for = now() - interval '3 minutes' where tag <> hotpath.tag_id('flow_x')"
            )

    trio.run(prepare)


def test_status_begins_with_it(hotpath, left):
    """With how long, why and what to do; the tag is marked. In JSON the same."""
    first, empty, _, *rows = hotpath("status").out.splitlines()
    assert empty == ""
    assert first.startswith("STRANDED for 3 min: 1 job of flow_x: no live worker listens to tag slow")
    assert "start one with: hotpath dedicate flow_x --tag 'slow" in first
    assert "\x1b" not in first
    assert [row.endswith("STRANDED") for row in rows if row.startswith("slow")] == [True]
    (document,) = hotpath("status", "--json").documents
    (found,) = document["stranded"]
    assert (found["script"], found["why"], found["waiting"]) == ("flow_x", "no_worker", 1)
    assert {tag["tag"]: tag["stranded"] for tag in document["tags"]}["flow_x"] is None


def test_top_says_it_in_its_first_line(hotpath, left):
    """And marks the tag."""
    lines = hotpath("top", "--count", "1").out.splitlines()
    assert "1 tag is STRANDED" in lines[0]
    assert any(line.startswith("slow") and line.endswith("STRANDED") for line in lines)


def test_a_tag_that_looks_like_an_option_is_resumed_by_what_is_told(hotpath):
    """A tag is whatever somebody chose; the command names it so that a shell and the program take it."""
    for tag in ("-dash", "--help", "a b'$(c)"):
        assert hotpath("tag", "pause", "--", tag).code == 0
        (found,) = [
            each
            for each in json.loads(hotpath("doctor", "--json").out)["findings"]
            if each["code"] == "paused"
        ]
        words = shlex.split(found["mend"])
        assert words.pop(0) == "hotpath"
        assert hotpath(*words).code == 0
        assert "paused" not in hotpath("doctor").out


def test_many_are_cut_short(hotpath, database_url):
    """Some of them say it all; the rest is a number."""

    async def prepare() -> None:
        async with open_stage(database_url) as stage:
            for number in range(25):
                await stage.loose(1, tag=f"t{number:02}")
            await stage.connection.execute(
                "update hotpath.job_queue set scheduled_for = now() - interval '3 minutes', "
                "id = ('01900000-0000-7000-8000-0000000000' || lpad(to_hex(row), 2, '0'))::uuid "
                "from (select ctid as at, row_number() over () as row from hotpath.job_queue) r "
                "where ctid = at"
            )

    trio.run(prepare)
    lines = [line for line in hotpath("status").out.splitlines() if line.startswith("STRANDED")]
    assert len(lines) == 21
    assert lines[-1].startswith("STRANDED: and 5 more")
    said = hotpath("doctor", "--json").documents[0]["findings"]
    assert [each["text"] for each in said if each["code"] == "stranded"][20:] == ["and 5 more like these"]
