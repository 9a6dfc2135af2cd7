"""/metrics: what Prometheus reads, in formats that a strict reader takes."""

from __future__ import annotations

import attrs
import pytest
import trio
from exposition_grammar import parse
from store_stage import NAME

from hotpath.core.tally import BUSY, CLAIM, CLAIMS, FAILURE, LOST, RETRIED, RUNS, SUCCESS, Tally
from hotpath.store import workers
from hotpath.store.looks import read_gauges
from hotpath.store.scaling import set_scale
from hotpath.store.workers import Counts, Facts
from hotpath.version import __version__
from hotpath.web import scrapes
from hotpath.web.exposition import Family, expose, wants_openmetrics

ODD = 'a "quoted" \\ back\nslash, {brace}=é\u2028'


async def count(stage, **named: int) -> None:
    """Say counts of the stage's script as a keeper."""
    tally = Tally()
    places = {
        "success": SUCCESS, "failure": FAILURE, "retried": RETRIED, "lost": LOST, "busy": BUSY,
        "claim": CLAIM,
    }  # fmt: skip
    for name, value in named.items():
        tally[places[name]] = value
    tally[RUNS + 2], tally[RUNS + 16], tally[CLAIMS + 5] = 4, 1, 2
    counts = Counts(keeper=7, script=stage.script, tag=stage.tag, counts=list(tally))
    await workers.heartbeat(stage.connection, {}, 15, counts=[counts])


def by(**labels: str) -> frozenset:
    """A key of `parse`."""
    return frozenset(labels.items())


@pytest.mark.parametrize("openmetrics", [False, True])
async def test_metrics(served, stage, openmetrics):
    """Queue, outcomes, histograms, losses, deaf listeners and workers are told."""
    worker = await stage.worker()
    await stage.loose(3)
    await stage.loose(2, tag=ODD.replace("\u2028", ""))
    await stage.claim(worker, 1)
    await stage.kill(await stage.worker())
    facts = Facts(
        worker=worker.worker, rss=123_456, cpu_us=2_500_000, lease=None, place=None, ago=None, under_way=1,
        occupied=[0.5, 0.25, 0.125], rates=[1.0], deaf=True,
    )  # fmt: skip
    await workers.heartbeat(stage.connection, {worker.worker: 9}, 600, [facts])
    await count(stage, success=4, failure=1, retried=2, lost=3, busy=1_500_000, claim=700)
    accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"} if openmetrics else {}
    response = await served.http.get("/metrics", headers=accept)
    assert response.status_code == 200
    kind = "application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain; version=0.0.4"
    assert response.headers["content-type"] == f"{kind}; charset=utf-8"
    found = parse(response.text, openmetrics=openmetrics)
    assert found["hotpath_build_info"] == {by(version=__version__): 1}
    odd = ODD.replace("\u2028", "")
    assert found["hotpath_jobs_waiting"] == {by(tag=NAME): 2, by(tag=odd): 2}
    assert found["hotpath_jobs_running"][by(tag=NAME)] == 1
    assert 0 <= found["hotpath_oldest_due_seconds"][by(tag=NAME)] < 60
    assert found["hotpath_tag_workers"][by(tag=NAME)] == 1
    own = {"script": NAME, "tag": NAME}
    assert found["hotpath_outcomes_total"] == {
        by(**own, outcome="success"): 4, by(**own, outcome="failure"): 1, by(**own, outcome="canceled"): 0
    }  # fmt: skip
    assert found["hotpath_retries_total"] == {by(**own): 2}
    assert found["hotpath_lease_losses_total"] == {by(**own): 3}
    assert found["hotpath_busy_seconds_total"] == {by(**own): 1.5}
    runs = found["hotpath_run_duration_seconds_bucket"]
    assert runs[by(script=NAME, le="4e-06")] == 0
    assert runs[by(script=NAME, le="1.6e-05")] == 4
    assert found["hotpath_run_duration_seconds_count"] == {by(script=NAME): 5}
    assert found["hotpath_run_duration_seconds_sum"] == {by(script=NAME): 1.5}
    assert found["hotpath_claim_duration_seconds_count"] == {by(script=NAME): 2}
    assert found["hotpath_flush_duration_seconds_count"] == {by(script=NAME): 0}
    assert found["hotpath_deaf_listeners"] == {frozenset(): 1}
    assert found["hotpath_workers"] == {by(state="running"): 1, by(state="idle"): 0, by(state="lost"): 1}
    name = await stage.connection.fetchval("select name from hotpath.worker where id = $1", worker.worker)
    assert found["hotpath_worker_up"][by(worker=name, script=NAME, group="")] == 1
    assert sum(found["hotpath_worker_up"].values()) == 1
    assert found["hotpath_worker_occupancy"][by(worker=name, window="5m")] == 0.25
    assert found["hotpath_worker_resident_memory_bytes"] == {by(worker=name): 123_456}
    assert found["hotpath_worker_cpu_seconds_total"] == {by(worker=name): 2.5}
    assert found["hotpath_worker_jobs_total"][by(worker=name)] == 9


async def test_groups_that_are_scaled(served, stage):
    """Every group's live workers; what is wanted, and of what, of those with a scale."""
    await stage.worker()
    await stage.kill(await stage.worker())
    await stage.loose(3)
    await count(stage, success=9, failure=1, busy=10_000_000)
    await set_scale(stage.connection, "crowd", lambda scale: attrs.evolve(scale, min_workers=0, tags=(NAME,)))
    found = parse((await served.http.get("/metrics")).text)
    assert found["hotpath_group_workers"] == {by(group="default"): 1, by(group="crowd"): 0}
    assert found["hotpath_group_workers_wanted"] == {by(group="crowd"): 1}
    assert found["hotpath_group_workers_max"] == {by(group="crowd"): 10}
    assert found["hotpath_group_jobs_waiting"] == {by(group="crowd"): 3}
    assert found["hotpath_group_backlog_seconds"][by(group="crowd")] == pytest.approx(3)
    assert found["hotpath_group_service_seconds"][by(group="crowd")] == pytest.approx(1)
    assert "hotpath_group_arrivals_per_second" not in found


async def test_scrapes_are_read_once_a_second(served, monkeypatch):
    """However many ask at once, the database is asked once; after a second it is asked anew."""
    reads = []

    async def counting(connection):
        reads.append(connection)
        return await read_gauges(connection)

    monkeypatch.setattr(scrapes, "read_gauges", counting)
    monkeypatch.setattr(scrapes, "FRESH_SECONDS", 3600.0)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(served.http.get, "/metrics")
    assert len(reads) == 1
    monkeypatch.setattr(scrapes, "FRESH_SECONDS", 0.0)
    parse((await served.http.get("/metrics")).text)
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text;q=0.3,text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=odd", False),
    ],
)
def test_who_wants_openmetrics(accept, wanted):
    """Those who prefer it, by the Accept header."""
    assert wants_openmetrics(accept) is wanted


@pytest.mark.parametrize("value", ["", ODD, "\\", '"', "\n", "\\n", '\\"', "\x00\x1b[31m", "\ud800"])
def test_labels_are_escaped(value):
    """Any text may be a label's value and is read back as it was, save what is no Unicode."""
    family = Family("hotpath_x", "gauge", 'help with \\ and\nnew line and "')
    family.add(1.5, tag=value)
    for openmetrics in (False, True):
        found = parse(expose([family], openmetrics=openmetrics), openmetrics=openmetrics)
        assert found == {"hotpath_x": {by(tag=value.replace("\ud800", "?")): 1.5}}


def test_nothing_known_is_not_said():
    """A family without samples is left out, and an unknown value is no sample."""
    family = Family("hotpath_x", "gauge", "Nothing.")
    family.add(None, tag="a")
    assert expose([family], openmetrics=False) == ""
    assert expose([family], openmetrics=True) == "# EOF\n"
