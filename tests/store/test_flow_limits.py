"""Flows with a `concurrent_limit`: so many runs have a place, whichever workers have them, and no more."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
from flow_stage import Flows
from store_stage import outcomes

from hotpath.core.hand import Hand
from hotpath.flows.home import SLOT
from hotpath.store import flows, jobs
from hotpath.store.work import WorkerSession

MOST = 2


async def admit(flowing: Flows, session: WorkerSession, hand: Hand, most: int = MOST) -> set[UUID]:
    """Ask for places for all runs of the hand."""
    return await flows.admit(session.connection, flowing.stage.version.script, most, list(hand.ids))


async def wait_for_place(flowing: Flows, session: WorkerSession, hand: Hand, index: int) -> None:
    """Park a run that has no place."""
    assert await flowing.park(session, hand, index, events={SLOT: 0}) == 1


async def end(session: WorkerSession, hand: Hand) -> None:
    """End every run of the hand that is left in it."""
    await session.cycle([outcomes(hand)], None)


async def test_as_many_places_as_the_limit(flowing: Flows):
    """Two workers ask: the runs that came first have the places, also when they ask again."""
    one, first = await flowing.in_hand(1)
    other, then = await flowing.in_hand(2)
    assert await admit(flowing, one, first) == set(first.ids)
    assert await admit(flowing, other, then) == {then.ids[0]}
    assert await admit(flowing, one, first) == set(first.ids)
    assert await admit(flowing, other, then) == {then.ids[0]}


async def test_end_of_a_run_wakes_the_next(flowing: Flows):
    """The end of a run frees its place in the same transaction, and wakes the one that has waited longest."""
    one, first = await flowing.in_hand(1)
    other, then = await flowing.in_hand(3)
    await admit(flowing, one, first)
    await admit(flowing, other, then)
    for index in (1, 2):
        await wait_for_place(flowing, other, then, index)
    assert not await flowing.due(then.ids[1])
    await end(one, first)
    assert await flowing.due(then.ids[1])
    assert not await flowing.due(then.ids[2])
    again = await flowing.stage.claim(other)
    assert list(again.ids) == [then.ids[1]]
    assert await admit(flowing, other, again) == {then.ids[1]}


async def test_place_that_comes_before_the_park(flowing: Flows):
    """A place that becomes free while a run is on its way into the queue is not missed."""
    one, first = await flowing.in_hand(2)
    other, then = await flowing.in_hand(1)
    await admit(flowing, one, first)
    assert await admit(flowing, other, then) == set()
    await end(one, first)
    await wait_for_place(flowing, other, then, 0)
    assert await flowing.due(then.ids[0])


async def test_canceled_runs_free_their_places(flowing: Flows):
    """Runs that are canceled, with a place or while they wait for one, stand in nobody's way."""
    one, first = await flowing.in_hand(2)
    other, then = await flowing.in_hand(3)
    await admit(flowing, one, first)
    await admit(flowing, other, then)
    for index in range(3):
        await wait_for_place(flowing, other, then, index)
    assert await jobs.cancel(flowing.stage.connection, then.ids[0])  # it would have been next
    await flowing.park(one, first, 0)
    assert await jobs.cancel(flowing.stage.connection, first.ids[0])  # it had a place, and slept
    assert await flowing.due(then.ids[1])
    assert not await flowing.due(then.ids[2])


async def test_released_run_keeps_its_place(flowing: Flows):
    """A run that is given back, or parked, has its place when it comes again: it has not ended."""
    one, first = await flowing.in_hand(2)
    other, then = await flowing.in_hand(1)
    await admit(flowing, one, first)
    await one.give_back([first.lease])
    assert await admit(flowing, other, then) == set()
    again = await flowing.stage.claim(one)
    assert await admit(flowing, one, again) == set(first.ids)


async def test_larger_limit(flowing: Flows):
    """A worker that knows of a larger limit finds places for those that wait."""
    one, first = await flowing.in_hand(2)
    other, then = await flowing.in_hand(2)
    await admit(flowing, one, first)
    assert await admit(flowing, other, then) == set()
    assert await admit(flowing, other, then, most=MOST + 2) == set(then.ids)


@pytest.mark.parametrize("end_first", [True, False])
async def test_place_that_comes_while_its_run_parks(flowing: Flows, end_first):
    """I1: the end of a run and the parking of the one that has its place next meet: the second waits, and
    the run is due.
    """
    one, first = await flowing.in_hand(2)
    other, then = await flowing.in_hand(1)
    await admit(flowing, one, first)
    assert await admit(flowing, other, then) == set()

    async def free() -> None:
        await end(one, first)

    async def park() -> None:
        await wait_for_place(flowing, other, then, 0)

    meeting = ((free, one), (park, other)) if end_first else ((park, other), (free, one))
    async with trio.open_nursery() as nursery, meeting[0][1].connection.transaction():
        await meeting[0][0]()
        nursery.start_soon(meeting[1][0])
        await flowing.stage.blocked(meeting[1][1].connection)
    assert await flowing.due(then.ids[0])


@pytest.mark.parametrize("how", ["cancel", "cancel one that waits", "park", "flush"])
async def test_limits_are_locked_before_runs(flowing: Flows, how):
    """I11: whoever ends runs of a flow with a limit takes its lock first: who waits for it has no run's lock
    and no row of the queue, so that those who grant places do not wait for them.
    """
    stage = flowing.stage
    worker, hand = await flowing.in_hand(3)
    await admit(flowing, worker, hand)
    run = hand.ids[0]
    child = await flowing.send(worker, hand)
    client, holder = await stage.connect(), await stage.connect()
    waiter = client if how.startswith("cancel") else worker.connection
    if how == "cancel":
        await flowing.park(worker, hand, children=(child.bytes,))
    elif how == "cancel one that waits":
        await wait_for_place(flowing, worker, hand, 2)
        run = hand.ids[2]
    elif how == "park":
        assert await stage.cancel(run)

    async def act() -> None:
        if how.startswith("cancel"):
            assert await stage.cancel(run, client)
        elif how == "park":
            assert await flowing.park(worker, hand, children=(child.bytes,)) == 1
        else:
            await stage.flush(worker, outcomes(hand))

    async with trio.open_nursery() as nursery, holder.transaction():
        await holder.execute("select pg_advisory_xact_lock(7310869, $1)", stage.version.script)
        nursery.start_soon(act)
        await stage.blocked(waiter)
        held = await stage.connection.fetchval(
            "select count(*) from pg_locks where locktype = 'advisory' and granted and pid = $1",
            waiter.get_server_pid(),
        )
        rows = await stage.connection.fetch("select id from hotpath.job_queue for update skip locked")
        assert held == 0
        assert len(rows) == await stage.count("job_queue")
    assert await stage.state(run) == ("success" if how == "flush" else "canceled")


async def test_cancel_of_a_run_that_gets_a_place(flowing: Flows):
    """I11: a cancel of a parked run, and the end of the one that leaves it its place, do not deadlock."""
    stage = flowing.stage
    one, first = await flowing.in_hand(2)
    other, then = await flowing.in_hand(1)
    await admit(flowing, one, first)
    await admit(flowing, other, then)
    await wait_for_place(flowing, other, then, 0)
    client, holder = await stage.connect(), await stage.connect()
    async with trio.open_nursery() as nursery, holder.transaction():
        await holder.execute("select from hotpath.job_queue where id = $1 for update", then.ids[0])
        nursery.start_soon(stage.cancel, then.ids[0], client)
        await stage.blocked(client)
        nursery.start_soon(end, one, first)
        await stage.blocked(one.connection)
    assert await stage.state(then.ids[0]) == "canceled"
    assert await stage.count("flow_slot") == 0
