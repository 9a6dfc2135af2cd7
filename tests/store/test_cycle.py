"""Flush and claim through `WorkerSession.cycle`: where jobs are, and that each outcome is written once."""

from __future__ import annotations

import trio
from store_stage import Stage, outcomes

from hotpath.store.queries import query


async def test_loose_jobs_from_queue_to_done(stage: Stage):
    """I1, I5: loose jobs are queued, from the claim running, from the flush done; one row each always."""
    ids = await stage.loose(5)
    worker = await stage.worker()
    await stage.check_once_each(ids)
    assert await stage.states() == {"queued": 5}
    hand = await stage.claim(worker)
    assert list(hand.ids) == ids
    assert hand.args == b'[{"x": 0},{"x": 1},{"x": 2},{"x": 3},{"x": 4}]'
    await stage.check_once_each(ids)
    assert await stage.states() == {"running": 5}
    assert await stage.flush(worker, outcomes(hand)) == {hand.lease}
    await stage.check_once_each(ids)
    assert [(row["state"], row["result"], row["attempt"]) for row in await stage.view()] == [
        ("success", f'{{"ok": {k}}}', 1) for k in range(5)
    ]
    await stage.check_empty()


async def test_sealed_jobs_from_batch_to_done(stage: Stage):
    """I1, I5: sealed jobs keep every right of a loose one, claimed slice by slice."""
    ids = await stage.sealed(10)
    worker = await stage.worker()
    first = await stage.claim(worker, 4)
    assert list(first.ids) == ids[:4]
    await stage.check_once_each(ids)
    assert await stage.states() == {"running": 4, "queued": 6}
    second = await stage.claim(worker, 4)
    assert list(second.ids) == ids[4:8]
    assert second.args == b'[{"x": 4},{"x": 5},{"x": 6},{"x": 7}]'
    third = await stage.claim(worker, 4)
    assert list(third.ids) == ids[8:]
    assert await stage.claim(worker) is None
    for hand in (second, third, first):
        await stage.check_once_each(ids)
        assert await stage.flush(worker, outcomes(hand)) == {hand.lease}
    await stage.check_once_each(ids)
    assert await stage.states() == {"success": 10}
    await stage.check_empty()


async def test_flush_and_claim_of_one_batch_in_one_statement(stage: Stage):
    """I1: flushing a slice while the next slice of the same batch is taken writes every outcome."""
    ids = await stage.sealed(12)
    worker = await stage.worker()
    hand = await stage.claim(worker, 3)
    for _ in range(3):
        cycle = await stage.cycle(worker, [outcomes(hand)], 3)
        assert cycle.accepted == {hand.lease}
        hand = cycle.hand
        assert hand is not None
        await stage.check_once_each(ids)
    cycle = await stage.cycle(worker, [outcomes(hand)], 3)
    assert cycle.hand is None
    assert not cycle.saw
    assert await stage.states() == {"success": 12}
    await stage.check_empty()


async def test_flush_of_several_leases_with_a_claim(stage: Stage):
    """I1: one statement ends slices of two batches and a gathered one, and takes the next slice of one."""
    first, second = await stage.sealed(4), await stage.sealed(6)
    worker = await stage.worker()
    hands = [await stage.claim(worker, 4), await stage.claim(worker, 3)]
    loose = await stage.loose(2, priority=3)
    hands.append(await stage.claim(worker, 2))
    cycle = await stage.cycle(
        worker, [outcomes(hand, log="said" if hand is hands[1] else None) for hand in hands], 3
    )
    assert cycle.accepted == {hand.lease for hand in hands}
    assert list(cycle.hand.ids) == second[3:]
    await stage.check_once_each([*first, *second, *loose])
    assert await stage.states() == {"success": 9, "running": 3}
    assert {row[0] for row in await stage.connection.fetch("select id from hotpath.job_log")} == set(
        second[:3]
    )
    await stage.flush(worker, outcomes(cycle.hand))
    await stage.check_empty()


async def test_two_workers_end_slices_of_one_batch_together(stage: Stage):
    """I1, I2: workers that flush slices of one batch at once leave neither a batch row nor a double row."""
    workers = [await stage.worker(), await stage.worker()]
    for round_ in range(8):
        ids = await stage.sealed(6)
        hands = [await stage.claim(worker, 3) for worker in workers]
        accepted: list[frozenset[int]] = []

        async def end(worker, hand, accepted=accepted):
            accepted.append((await stage.cycle(worker, [outcomes(hand)], 3)).accepted)

        async with trio.open_nursery() as nursery:
            for worker, hand in zip(workers, hands, strict=True):
                nursery.start_soon(end, worker, hand)
        assert set().union(*accepted) == {hand.lease for hand in hands}
        await stage.check_empty()
        assert await stage.count("job_done") == 6 * (round_ + 1)
        assert await stage.state(ids[-1]) == "success"


async def test_concurrent_claims_share_without_overlap(stage: Stage):
    """I1, I2: four workers that claim and flush at once run each loose and each sealed job exactly once."""
    ids = [*await stage.sealed(300), *await stage.loose(60), *await stage.sealed(300)]
    workers = [await stage.worker() for _ in range(4)]
    ran: list = []

    async def work(worker, want):
        flushes: list = []
        empty = 0
        while empty < 3:
            cycle = await stage.cycle(worker, flushes, want)
            flushes = []
            if cycle.hand is None:
                empty += not cycle.saw
            else:
                ran.extend(cycle.hand.ids)
                flushes = [outcomes(cycle.hand)]

    async with trio.open_nursery() as nursery:
        for number, worker in enumerate(workers):
            nursery.start_soon(work, worker, 5 + 6 * number)
    assert sorted(ran) == sorted(ids)
    assert await stage.states() == {"success": 660}
    assert sorted(row["id"] for row in await stage.view()) == sorted(ids)
    await stage.check_empty()


async def test_partial_flush_keeps_the_lease(stage: Stage):
    """I1, I5: what ended early is done, the rest of the lease still runs, and ends with a later flush."""
    for ids in (await stage.loose(9), await stage.sealed(9)):
        worker = await stage.worker()
        hand = await stage.claim(worker)
        part = outcomes(hand, [0, 4, 8], state=2, payload=b'{"name": "E", "kind": "exception"}', log="l")
        assert not part.final
        assert await stage.flush(worker, part) == {hand.lease}
        assert [await stage.state(job) for job in ids] == [
            "failure" if k % 4 == 0 else "running" for k in range(9)
        ]
        assert await stage.flush(worker, outcomes(hand, [1, 2])) == {hand.lease}
        assert await stage.state(ids[2]) == "success"
        last = outcomes(hand, [3, 5, 6, 7])
        assert last.final
        assert await stage.flush(worker, last) == {hand.lease}
    assert await stage.states() == {"failure": 6, "success": 12}
    assert await stage.count("job_log") == 6
    await stage.check_empty()


async def test_resent_flush_writes_nothing_twice(stage: Stage):
    """I2: a flush sent again writes nothing twice; a whole one finds its lease gone, its outcome there."""
    ids = await stage.sealed(6)
    worker = await stage.worker()
    hand = await stage.claim(worker)
    part = outcomes(hand, [1, 2], log="once")
    for _ in range(2):
        assert await stage.flush(worker, part) == {hand.lease}
    assert await stage.states() == {"success": 2, "running": 4}
    rest = outcomes(hand, [0, 3, 4, 5])
    assert await stage.flush(worker, rest) == {hand.lease}
    assert await stage.flush(worker, rest) == frozenset()
    assert await worker.settled([rest]) == {hand.lease}
    await stage.check_once_each(ids)
    assert await stage.count("job_log") == 2
    await stage.check_empty()


async def test_large_args_travel_apart(stage: Stage):
    """I1: args over 8 KiB are stored once, are null in the claim, and the view shows them in every state."""
    text = "y" * 9000
    job = (await stage.sealed([1, text]))[1]
    worker = await stage.worker()
    loose = await stage.connection.fetchval(
        "select hotpath.enqueue('flow_x', jsonb_build_object('x', $1::text))", text
    )
    assert await stage.count("payload") == 2
    hands = [await stage.claim(worker), await stage.claim(worker)]
    assert sorted(hand.args for hand in hands) == [b"[null]", b'[{"x": 1},null]']
    found = await worker.payloads([job, loose])
    assert {len(args) for args in found.values()} == {len(text) + len('{"x": ""}')}
    await stage.flush(worker, *[outcomes(hand) for hand in hands])
    for row in await stage.view():
        assert len(row["args"]) > 9000 or row["args"] == '{"x": 1}'
    assert await stage.connection.fetchval("select length(args::text) from hotpath.job_get($1)", loose) > 9000
    assert await stage.count("payload") == 2


async def test_claim_stops_at_the_head_of_another_tag(stage: Stage):
    """I4: with `before`, a claim takes only what comes before the other tag's head, loose or sealed."""
    other = await stage.connection.fetchval("select hotpath.tag_id('other')")
    first = await stage.loose(2)
    middle = (await stage.loose(1, tag="other"))[0]
    last = await stage.loose(2)
    await stage.sealed(3)
    worker = await stage.worker(tags=[stage.tag, other])
    heads = await worker.heads([stage.tag, other], stage.script)
    assert [(head[0], head[3]) for head in heads] == [(stage.tag, first[0]), (other, middle)]
    hand = await stage.claim(worker, before=heads[1][1:])
    assert list(hand.ids) == first
    assert await stage.claim(worker, before=heads[1][1:]) is None
    hand = await stage.claim(worker, tag=other)
    assert list(hand.ids) == [middle]
    assert list((await stage.claim(worker)).ids) == last


async def test_two_scripts_on_one_tag(stage: Stage):
    """I1: a dedicated worker takes jobs of its own script only, whatever else waits in its tag."""
    await stage.connection.execute(
        "insert into hotpath.script (name, tag) values ('g', hotpath.tag_id('flow_x'))"
    )
    await stage.connection.execute(
        "insert into hotpath.script_version (script, hash, is_async, schema, settings)"
        " select id, 'h', false, '{}', '{}' from hotpath.script where name = 'g'"
    )
    await stage.connection.execute(
        "update hotpath.script s set version = v.id from hotpath.script_version v"
        " where v.script = s.id and s.name = 'g'"
    )
    strange = [await stage.connection.fetchval("select hotpath.enqueue('g', '{}')") for _ in range(3)]
    ours = await stage.loose(2)
    worker = await stage.worker()
    assert list((await stage.claim(worker)).ids) == ours
    assert await stage.claim(worker) is None
    assert [await stage.state(job) for job in strange] == ["queued"] * 3


async def test_statements_are_planned_before_the_first_job(stage: Stage):
    """Warming up plans the hot statements, and takes and writes nothing."""
    await stage.loose(2)
    await stage.sealed(2)
    worker = await stage.worker()
    await worker.prepare()
    await worker.warm_up(claims=True)
    assert await stage.states() == {"queued": 4}
    plans = await worker.connection.fetch(
        "select statement, generic_plans, custom_plans from pg_prepared_statements"
        " where statement = any($1::text[])",
        [query("cycle"), query("claim")],
    )
    assert [tuple(row)[1:] for row in plans] == [(1, 0)] * 2
