"""`hotpath retention` and `hotpath prune` as people call them, and jobs of which something is not kept."""

from __future__ import annotations

import pytest
import trio
from retention_stage import add_days, add_jobs, age_scripts, name
from store_stage import open_stage


@pytest.fixture
def old_jobs(database_url):
    """Ids of two jobs that ended four days ago, with logs, and one of 20 days ago."""

    async def prepare():
        async with open_stage(database_url) as stage:
            await stage.connection.execute("delete from hotpath.retention")
            await age_scripts(stage)
            await add_days(stage, 4, 20)
            return [*await add_jobs(stage, 4, 2, log="said\n"), *await add_jobs(stage, 20, 1)]

    return trio.run(prepare)


def test_rules_are_set_shown_and_cleared(hotpath, old_jobs):
    """What is said is shown, for all and for a script; cleared, it is said no more."""
    done = hotpath("retention", "set", "--jobs", "30d", "--logs", "7d", "--disk", "20G")
    assert (done.code, done.out) == (0, "all scripts: jobs 30d, logs 7d, disk 20.0 GB\n")
    (document,) = hotpath("retention", "set", "--script", "flow_x", "--results", "12h", "--json").documents
    assert document == {
        "script": "flow_x", "jobs": None, "results": "12h", "args": None, "logs": None, "disk": None,
    }  # fmt: skip
    (shown,) = hotpath("retention", "show", "--json").documents
    assert shown["default"]["disk"] == 20 << 30
    assert shown["scripts"][0]["kept"] == {"jobs": "30d", "results": "12h", "args": "30d", "logs": "7d"}
    text = hotpath("retention", "show").out
    assert "flow_x" in text
    assert "20.0 GB" in text
    assert "any more" in hotpath("retention", "clear", "--script", "flow_x").out
    assert hotpath("retention", "clear", "--json").documents == [{"script": None, "cleared": True}]
    assert hotpath("retention", "clear", "--json").documents == [{"script": None, "cleared": False}]


def test_what_does_not_come_out_as_it_was_said_is_remarked(hotpath, old_jobs):
    """A span beyond the job's own, of this call or of one before, and a bound that takes days away now."""
    done = hotpath("retention", "set", "--jobs", "5d", "--results", "9d")
    assert (done.code, done.out) == (0, "all scripts: jobs 5d, results 9d\n")
    assert done.error == "results 9d: kept for 5d, since nothing of a job outlives it"
    done = hotpath("retention", "set", "--script", "flow_x", "--logs", "forever", "--json")
    assert done.error == "logs forever: kept for 5d, since nothing of a job outlives it"
    done = hotpath("retention", "set", "--jobs", "10d", "--disk", "20")
    assert done.error.startswith("disk 20 B: the tables take ")
    done = hotpath("retention", "set", "--disk", "20T")
    assert (done.code, done.err) == (0, "")
    # The bound alone is said no more, and the rest stays.
    done = hotpath("retention", "set", "--disk", "forever")
    assert (done.code, done.out) == (0, "all scripts: jobs 10d, results 9d\n")
    assert hotpath("retention", "show", "--json").documents[0]["default"]["disk"] is None


BAD_RULES = [
    (("--jobs", "soon"), "jobs must be a span"),
    (("--disk", "-3"), "disk must be a size"),
    (("--script", "flow_y", "--jobs", "1d"), "did you mean 'flow_x'"),
    (("--script", "flow_x", "--disk", "1G"), "disk is a bound"),
    ((), "say for how long"),
]


def test_rules_that_cannot_be(hotpath, old_jobs, subtests):
    """One line that names the field and what is expected."""
    for given, names in BAD_RULES:
        with subtests.test(ascii(given)[:60]):
            done = hotpath("retention", "set", *given)
            assert (done.code, done.out) == (2, "")
            assert names in done.error


def test_prune_shows_and_does(hotpath, old_jobs):
    """A dry run names what would go and changes nothing; `prune` does it; what is gone is told."""
    assert "nothing: all that there is is kept" in hotpath("prune", "--dry-run").out
    assert hotpath("retention", "set", "--jobs", "9d", "--args", "2d", "--results", "1d").code == 0
    (plan,) = hotpath("prune", "--dry-run", "--json").documents
    assert {each["name"] for each in plan["partitions"]} == {
        name(parent, 20) for parent in ("job_done", "job_attempt", "job_log")
    }
    assert [(each["name"], each["rows"]) for each in plan["days"]] == [
        (name("job_done", 4), {"results": 2, "args": 2})
    ]
    text = hotpath("prune", "--dry-run").out
    assert name("job_done", 20) in text
    assert "flow_x" in text
    assert hotpath("job", old_jobs[2]).code == 0, "nothing has changed"
    done = hotpath("prune")
    assert done.code == 0, done.err
    assert f"dropped {name('job_done', 20)}\n" in done.out
    assert "took away 2 results, 2 args" in done.out
    (again,) = hotpath("prune", "--json").documents
    assert (again["dropped"], again["more"]) == ([], False)
    assert hotpath("job", old_jobs[2]).code == 1
    shown = hotpath("job", old_jobs[0])
    assert shown.out.count("not kept any more") == 2
    (document,) = hotpath("job", old_jobs[0], "--json").documents
    assert (document["args"], document["result"], document["not_kept"]) == (None, None, ["args", "result"])
    assert hotpath("logs", old_jobs[0]).out == "said\n"
    retried = hotpath("retry", old_jobs[0])
    assert retried.code == 1
    assert "its args are not kept any more" in retried.error
    assert len(hotpath("jobs", "--json").documents) == 2
