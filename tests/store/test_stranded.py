"""A tag with jobs that nobody will run is never silent: `hotpath.stranded_tags` knows it, and why, at a cost
that does not grow with the backlog.
"""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from store_stage import NAME, Stage

from hotpath.documents import status_document
from hotpath.model import Description, Settings
from hotpath.store import looks, status, workers
from hotpath.store.scripts import register_version
from hotpath.store.stranded import GRACE, NO_WORKER, OTHER_SCRIPT, PAUSED, reason, stranded, why_stranded
from hotpath.web.scrapes import families

OTHER = "flow_y"


async def other_script(stage: Stage) -> int:
    """A second script, whose jobs wait in the first one's tag."""
    made = await register_version(
        stage.connection,
        Description(
            path=OTHER, hash="d" * 64, is_async=False, settings=Settings(tag=NAME),
            schema={"type": "object", "properties": {}, "required": [], "additionalProperties": True},
        ),
    )  # fmt: skip
    return made.script


async def long_due(stage: Stage, count: int, *tags: str) -> None:
    """Jobs of the stage's script that were put in long ago and have been due for an hour, of three
    priorities.
    """
    await stage.connection.execute(
        "insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args) "
        "select ('01900000-0000-7000-8000-' || lpad(to_hex(g), 12, '0'))::uuid, "
        "now() - interval '1 hour' + g * interval '1 ms', hotpath.tag_id(($2::text[])[g % $3::int4 + 1]), "
        "$4, g % 3, '{}' "
        "from generate_series(1, $1::int4) g",
        count, list(tags or (NAME,)), len(tags or (NAME,)), stage.script,
    )  # fmt: skip


async def looked(stage: Stage, grace: float = 0) -> list[tuple[str, str, str]]:
    """Tag, script and reason of what is stranded."""
    return [(each.tag, each.script, each.why) for each in await stranded(stage.connection, grace)]


@pytest.mark.parametrize("kind", ["loose", "sealed"])
async def test_nobody_listens(stage: Stage, kind: str):
    """Jobs, loose or sealed, are stranded until a worker listens to their tag, and again when it has gone."""
    put_in = stage.loose if kind == "loose" else stage.sealed
    await put_in(3)
    (found,) = await stranded(stage.connection, 0)
    assert (found.tag, found.script, found.waiting, found.more) == (NAME, NAME, 3, False)
    assert found.why == NO_WORKER
    assert found.text == (
        f"3 jobs of {NAME}: no live worker listens to tag {NAME}; start one with: hotpath dedicate {NAME}"
    )
    worker = await stage.worker()
    assert await looked(stage) == []
    await stage.kill(worker)
    assert await looked(stage) == [(NAME, NAME, NO_WORKER)]
    second = await stage.worker()
    assert await looked(stage) == []
    await workers.stop_worker(stage.connection, second.worker, 0)
    assert await looked(stage) == [(NAME, NAME, NO_WORKER)]


async def test_the_first_seconds_are_not_meant(stage: Stage):
    """What was put in just now, back-dated or not, and what was left by a worker that ended just now, is not
    called stranded yet.
    """
    now = await stage.now()
    await stage.loose(1)
    await stage.loose(1, tag="back", scheduled_for=now - timedelta(days=3))
    assert await looked(stage, GRACE) == []
    await long_due(stage, 1)
    assert await looked(stage, GRACE) == [(NAME, NAME, NO_WORKER)]
    worker = await stage.worker()
    await workers.stop_worker(stage.connection, worker.worker, 0)
    assert await looked(stage, GRACE) == []
    assert await looked(stage) != []


async def test_jobs_for_later_are_not_stranded(stage: Stage):
    """Nobody has to listen to a tag before its jobs are due."""
    due = await stage.now() + timedelta(hours=1)
    await stage.loose(2, scheduled_for=due)
    await stage.sealed(2, scheduled_for=due)
    assert await looked(stage) == []


async def test_a_dedicated_worker_of_another_script_is_no_help(stage: Stage):
    """Who is dedicated to one script leaves the others of its tag; a worker that runs any script takes
    them.
    """
    await other_script(stage)
    await stage.worker()
    await stage.loose(1)
    await stage.connection.fetchval("select hotpath.enqueue($1, '{}')", OTHER)
    assert await looked(stage) == [(NAME, OTHER, OTHER_SCRIPT)]
    assert await why_stranded(stage.connection, NAME, OTHER) == OTHER_SCRIPT
    assert await why_stranded(stage.connection, NAME, NAME) is None
    assert await why_stranded(stage.connection, "far", NAME) == NO_WORKER
    assert await why_stranded(stage.connection, NAME, "unheard_of") == OTHER_SCRIPT
    assert "dedicated to other scripts" in reason(NAME, OTHER, OTHER_SCRIPT)
    any_script = await stage.worker()
    await stage.connection.execute("update hotpath.worker set script = null where id = $1", any_script.worker)
    assert await looked(stage) == []
    assert await why_stranded(stage.connection, NAME, OTHER) is None


async def test_patterns_and_exclusions(stage: Stage):
    """A normal worker listens by its patterns, whatever is in its `tags`."""
    worker = await stage.worker()
    await stage.connection.execute(
        "update hotpath.worker set script = null, patterns = array['etl-*', '!etl-slow'] where id = $1",
        worker.worker,
    )
    for tag in ("etl-fast", "etl-slow", "web"):
        await stage.loose(1, tag=tag)
    await stage.loose(1)
    assert await looked(stage) == [(tag, NAME, NO_WORKER) for tag in ("etl-slow", NAME, "web")]
    assert await why_stranded(stage.connection, "etl-fast", NAME) is None
    assert await why_stranded(stage.connection, "etl-slow", NAME) == NO_WORKER
    found = {tag.tag: tag.workers for tag in (await status.read_status(stage.connection)).tags}
    assert found == {"etl-fast": 1, "etl-slow": 0, "web": 0, NAME: 0}


async def test_a_paused_tag_is_paused(stage: Stage):
    """And not stranded, until the pause is over."""
    await stage.loose(1)
    assert await looked(stage) == [(NAME, NAME, NO_WORKER)]
    await stage.connection.execute("select hotpath.pause_tag($1)", NAME)
    assert await looked(stage) == []
    assert await why_stranded(stage.connection, NAME, NAME) == PAUSED
    assert "is paused" in reason(NAME, NAME, PAUSED)
    await stage.connection.execute("update hotpath.tag_pause set until = now() - interval '1 second'")
    assert await looked(stage) == [(NAME, NAME, NO_WORKER)]


async def test_it_is_told_everywhere(stage: Stage):
    """Status, overview and metrics name the tag."""
    await stage.loose(2)
    await stage.loose(1, tag="heard")
    worker = await stage.worker(tags=[await stage.connection.fetchval("select hotpath.tag_id('heard')")])
    assert worker is not None
    await long_due(stage, 1)
    now = await stage.now()
    document = status_document(await status.read_status(stage.connection), now)
    assert [(each["tag"], each["why"]) for each in document["stranded"]] == [(NAME, NO_WORKER)]
    by_name = {tag["tag"]: tag for tag in document["tags"]}
    assert (by_name[NAME]["stranded"], by_name[NAME]["stranded_scripts"]) == (NO_WORKER, (NAME,))
    assert (by_name["heard"]["stranded"], by_name["heard"]["workers"]) == (None, 1)
    overview = await looks.read_overview(stage.connection)
    assert [each.tag for each in overview.stranded] == [NAME]
    (family,) = [
        each
        for each in families(await looks.read_gauges(stage.connection))
        if each.name == "hotpath_tag_stranded"
    ]
    lines = "".join(family.lines(openmetrics=False))
    assert f'hotpath_tag_stranded{{tag="{NAME}"}} 1\n' in lines
    assert 'hotpath_tag_stranded{tag="heard"} 0\n' in lines


@pytest.mark.slow
async def test_cost_does_not_grow_with_the_backlog(stage: Stage):
    """With 200,000 jobs in few tags, no more than a thousand of each tag and priority are looked at."""
    await stage.worker()
    await stage.loose(1, tag="far")
    await long_due(stage, 200_000, "flow_x", "far")
    await stage.connection.execute("analyze hotpath.job_queue")
    first = time.perf_counter()
    (found,) = await stranded(stage.connection)
    assert (found.tag, found.waiting, found.more) == ("far", 3000, True)
    assert time.perf_counter() - first < 5
    (plan,) = await stage.connection.fetchrow(
        "explain (analyze, buffers, format json) select * from hotpath.stranded_tags()"
    )
    touched = json.loads(plan)[0]["Plan"]
    assert touched["Shared Hit Blocks"] + touched["Shared Read Blocks"] < 3_000
