"""Whose fault a death is."""

from __future__ import annotations

import attrs
import pytest

from hotpath.core.verdict import Death, Judgement, judge
from hotpath.core.watch import Kill
from hotpath.model import ErrorKind

JOB, OTHER = (7, 3), (8, 0)
SYNC = Death(ending="was killed by SIGSEGV", job=JOB, leases=[7, 8])


def test_the_job_in_hand_is_charged_with_the_true_reason():
    """I7: one job is charged, and its error says how the process ended."""
    judgement = judge(SYNC)
    assert (judgement.job, judgement.kind, judgement.suspects) == (JOB, ErrorKind.CRASH, ())
    assert judgement.message == "the worker process was killed by SIGSEGV in the middle of the job"


def test_without_a_job_in_hand_all_are_suspects():
    """I7: a death between two jobs, or while several waited, charges nobody, and still a poison is found."""
    assert judge(attrs.evolve(SYNC, job=None)) == Judgement(suspects=(7, 8))
    assert judge(attrs.evolve(SYNC, job=None, several=True)) == Judgement(suspects=(7, 8))
    several = judge(attrs.evolve(SYNC, several=True))
    assert (several.job, several.suspects) == (JOB, (7, 8)), "one that waits for a thread may have done it"


def test_a_worker_that_had_settled_leaves_nobody_to_blame():
    """I12: what it had said is believed, whatever was in hand."""
    assert judge(attrs.evolve(SYNC, settled=True)) == Judgement()


@pytest.mark.parametrize("kind", [ErrorKind.TIMEOUT, ErrorKind.CANCELED])
def test_a_job_that_was_killed_ends_with_that_reason(kind: ErrorKind):
    """I8: time-out or cancel, no crash; and not the next job, if it ended just before the signal."""
    death = attrs.evolve(SYNC, killed=Kill(kind, JOB, "no Python ran"))
    assert (judge(death).job, judge(death).kind) == (JOB, kind)
    assert "no Python ran" in judge(death).message
    assert judge(attrs.evolve(death, job=OTHER)) == Judgement()
    assert judge(attrs.evolve(death, job=None)) == Judgement()
    assert judge(attrs.evolve(death, job=None, several=True)).job == JOB


def test_no_job_is_charged_for_what_it_did_not_do():
    """I3, I6: a wedged, stopped or leaving worker costs its jobs nothing; who may have done it is watched."""
    assert judge(attrs.evolve(SYNC, killed=Kill(None, None, "its grace was over"))) == Judgement()
    wedged = attrs.evolve(SYNC, job=None, killed=Kill(None, None, "wedged", suspects=True))
    assert judge(wedged) == Judgement(suspects=(7, 8))
    stopped = attrs.evolve(SYNC, killed=Kill(None, JOB, "stopped", suspects=True))
    assert judge(stopped) == Judgement(suspects=(7,))
