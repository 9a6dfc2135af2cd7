"""The supervisor's rules about a worker it watches, and about starting the next one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.restart import LONGEST, LONGEST_READY, Restarts
from hotpath.core.watch import (
    DEAF,
    FINALLY,
    LEAVE,
    PAUSE,
    SECOND,
    STOPPED,
    Kill,
    Sight,
    Watch,
)
from hotpath.model import ErrorKind

LEASE = 15 * SECOND
TICK = SECOND // 10
JOB, OTHER = (7, 3), (7, 4)


def watch(*, several: bool = False) -> Watch:
    """A watch that has looked once, at an idle worker that is well."""
    new = Watch(LEASE, several)
    assert new.look(SECOND, Sight(beat=1)) is None
    return new


def run(watch: Watch, seconds: float, *, beats: bool = True, **sight) -> tuple[Kill | None, float]:
    """Look every tick for that long; the first verdict and after how many seconds it came."""
    start = watch._looked_at
    for tick in range(1, round(seconds * SECOND / TICK) + 1):
        now = start + tick * TICK
        beat = now if beats else 1
        if kill := watch.look(now, Sight(beat=beat, **sight)):
            return kill, (now - start) / SECOND
    return None, seconds


def test_a_job_in_time_may_hold_the_gil_for_ever():
    """A job without a deadline, or before it, is nobody's business, even if nothing else can run."""
    assert run(watch(), 100, beats=False, job=JOB)[0] is None
    assert run(watch(), 100, beats=False, job=JOB, deadline=200 * SECOND)[0] is None


def test_an_overdue_job_that_holds_the_gil_is_killed_at_once():
    """I8: past its deadline, with an I/O side that does not move, a job has a moment only."""
    kill, after = run(watch(), 60, beats=False, job=JOB, deadline=10 * SECOND)
    assert (kill.kind, kill.job) == (ErrorKind.TIMEOUT, JOB)
    assert 9 <= after <= 9.6


def test_an_overdue_job_that_lives_gets_its_finally():
    """I8: where Python runs the job has FINALLY to end, and is killed then."""
    kill, after = run(watch(), 60, job=JOB, deadline=10 * SECOND)
    assert (kill.kind, kill.job) == (ErrorKind.TIMEOUT, JOB)
    assert abs(after - 9 - FINALLY / SECOND) < 0.3


def test_a_cancel_reaches_a_job_that_holds_the_gil():
    """I8: within DEAF and a tick; a job that is not in hand does not bring down the one that is."""
    kill, after = run(watch(), 60, beats=False, job=JOB, asked=[JOB])
    assert (kill.kind, kill.job) == (ErrorKind.CANCELED, JOB)
    assert after <= DEAF / SECOND + 0.2
    assert run(watch(), 60, beats=False, job=JOB, asked=[OTHER])[0] is None


def test_a_cancel_of_one_job_lets_another_take_its_step():
    """I8: of several, one that holds the thread for a while costs nobody's life at once; only for long."""
    sight = {"job": JOB, "held": True, "asked": [OTHER]}
    assert run(watch(several=True), FINALLY / SECOND - 0.5, beats=False, **sight)[0] is None
    kill, _ = run(watch(several=True), 60, beats=False, **sight)
    assert (kill.kind, kill.job) == (ErrorKind.CANCELED, OTHER)


def test_a_cancel_reaches_a_blocked_loop():
    """I8: where many run at once the job in hand may be unknown: a loop that stands still is ended."""
    kill, after = run(watch(several=True), 60, beats=False, held=True, asked=[OTHER])
    assert (kill.kind, kill.job) == (ErrorKind.CANCELED, OTHER)
    assert after <= DEAF / SECOND + 0.2
    assert run(watch(several=True), 60, held=True, asked=[OTHER])[0] is None


def test_what_the_worker_cannot_end_is_killed():
    """I8: the worker's own word is enough."""
    kill, after = run(watch(several=True), 1, held=True, stuck={OTHER: ErrorKind.TIMEOUT})
    assert (kill.kind, kill.job, after) == (ErrorKind.TIMEOUT, OTHER, 0.1)


def test_a_wedged_worker_is_not_kept_alive():
    """Standing still for a lease without a job in hand is the end; before the I/O side's start it is not."""
    kill, after = run(watch(), 60, beats=False, held=True)
    assert (kill.kind, kill.job) == (None, None)
    assert abs(after - LEASE / SECOND) < 0.2
    assert run(watch(several=True), 60, beats=False, held=True)[0] is None
    young = Watch(LEASE, several=False)
    young.look(0, Sight())
    assert all(young.look(tick * TICK, Sight()) is None for tick in range(1, 1000))


def test_a_stopped_process_is_as_good_as_dead():
    """I6: a process in state T is killed soon, and its job is not blamed."""
    kill, after = run(watch(), 60, beats=False, job=JOB, is_stopped=True)
    assert (kill.kind, kill.job) == (None, JOB)
    assert after <= STOPPED / SECOND + 0.2


def test_a_deaf_worker_does_not_hold_up_the_end():
    """I12: told to give back at once, a worker in which no Python runs is killed; one that moves has time."""
    kill, after = run(watch(), 60, beats=False, job=JOB, leaving=True)
    assert kill.kind is None
    assert after <= LEAVE / SECOND + 0.2
    assert run(watch(), 60, job=JOB, leaving=True)[0] is None


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3 * SECOND),
            st.booleans(),
            st.sampled_from([None, JOB, OTHER]),
            st.sampled_from([0, 5 * SECOND, 50 * SECOND]),
            st.lists(st.sampled_from([JOB, OTHER]), max_size=2),
            st.booleans(),
            st.booleans(),
        ),
        max_size=60,
    ),
    st.booleans(),
)
def test_any_life(steps, several):
    """Whatever is seen: no kill without a reason, none for what was not watched, and the right job named."""
    watch, now, beat, looked, moved = Watch(LEASE, several), 0, 1, None, 0
    due: dict = {}
    for step, beats, job, deadline, asked, is_stopped, leaving in steps:
        now += step
        beat += beats
        paused = looked is None or step > PAUSE
        moved = now if beats or paused else moved
        sight = Sight(
            job=job,
            deadline=deadline,
            beat=beat,
            held=True,
            asked=asked,
            is_stopped=is_stopped,
            leaving=leaving,
        )
        wanted = {(each, ErrorKind.CANCELED) for each in asked if several or each == job}
        if job and deadline and now > deadline:
            wanted.add((job, ErrorKind.TIMEOUT))
        due = {key: now if paused else due.get(key, now) for key in wanted}
        kill = watch.look(now, sight)
        looked = now
        if paused:
            assert kill is None, "what happened while nobody watched was held against the worker"
        if kill is not None and kill.kind is not None:
            waited = now - due[kill.job, kill.kind]
            assert waited >= FINALLY or min(waited, now - moved) >= DEAF
        elif kill is not None:
            assert is_stopped or leaving or now - moved >= LEASE
        else:
            assert not any(
                min(now - since, now - moved) >= (DEAF if job in (each, None) else FINALLY)
                for (each, _), since in due.items()
            )
            assert not any(now - since >= FINALLY for (each, _), since in due.items() if each == job)


def test_a_life_that_brought_something_is_followed_at_once():
    """A kill -9 of a healthy worker costs no wait, however often; barren lives wait longer and longer."""
    restarts = Restarts()
    for _ in range(5):
        restarts = restarts.after(ready=True, jobs=1)
        assert restarts.wait == 0
    waits = []
    for _ in range(2000):
        restarts = restarts.after(ready=False, jobs=0)
        waits.append(restarts.wait)
    assert waits[:4] == [0, 0.1, 0.2, 0.4]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST
    assert restarts.after(ready=True, jobs=0).wait == LONGEST_READY
    assert restarts.after(ready=True, jobs=1).wait == 0
