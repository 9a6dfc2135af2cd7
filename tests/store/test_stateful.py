"""The store against a model, by steps that Hypothesis chooses: I1, I2, I3, I4 and I7 after every one.

`STATEFUL_EXAMPLES=2000` looks longer, and each time elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from stateful_model import Machine, Portal
from thoroughness import examples

from hotpath.store import queries, work, workers

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "0"))
FIXED = settings(
    max_examples=EXAMPLES or examples(12, 30),
    stateful_step_count=40,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
GUARDS = {
    "done bits of a flush": (
        "cycle",
        "else coalesce(u.state, 1) <> 0 and (f.done is null or get_bit(f.done, (u.ord - 1)::int4) = 0) end",
        "else coalesce(u.state, 1) <> 0 end",
    ),
    "done bits of a give-back": (
        "give_back",
        "and (l.done is null or get_bit(l.done, (u.ord - 1)::int4) = 0)",
        "",
    ),
    "done bits of a retry": ("end_jobs", "and (l.done is null or get_bit(l.done, v.place) = 0)", ""),
    "the lease row of a flush": (
        "cycle",
        "gone as (delete from hotpath.lease l using f where l.id = f.id and f.final)",
        "gone as (delete from hotpath.lease l using f where l.id = f.id and f.final and f.lo > 30000)",
    ),
    "the worker of a lease": (
        "give_back",
        "where l.id = any ($1::int8[]) and l.worker = $2::int4",
        "where l.id = any ($1::int8[]) and l.worker = $2::int4 + 1",
    ),
    "the order of a claim": (
        "claim",
        "order by j.scheduled_for, j.id limit $2",
        "order by j.scheduled_for desc, j.id desc limit $2",
    ),
}


@pytest.fixture
def portal(database_url: str) -> Iterator[Portal]:
    """A Trio in a thread, with the stage in it."""
    with Portal(database_url) as portal:
        yield portal


def run(portal: Portal, limits: settings) -> None:
    """Run the machine on this portal."""
    machine = type("Machine", (Machine,), {"portal": portal})
    run_state_machine_as_test(machine, settings=limits)


@pytest.mark.slow
def test_store_keeps_its_word(portal: Portal):
    """I1, I2, I3, I4, I7: whatever workers, supervisors and clients do, late and twice included, each job is
    in one place, charged for what it did, and claimed in order.
    """
    run(portal, FIXED)


@pytest.mark.slow
@pytest.mark.parametrize("guard", GUARDS)
def test_a_missing_guard_is_found(portal: Portal, guard: str, monkeypatch):
    """Without this guard in its statement, the machine finds a job that is lost, doubled or out of order."""
    statement, text, instead = GUARDS[guard]
    whole = queries.query(statement)
    assert whole.count(text) >= 1, "the guard is written otherwise now: say here how"
    broken = whole.replace(text, instead)

    def query(name: str) -> str:
        return broken if name == statement else queries.query(name)

    monkeypatch.setattr(work, "query", query)
    monkeypatch.setattr(workers, "query", query)
    with pytest.raises((AssertionError, asyncpg.PostgresError)):
        run(portal, settings(FIXED, max_examples=200, phases=[Phase.generate], report_multiple_bugs=False))
