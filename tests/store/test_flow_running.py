"""Steps that a run's own worker has under way are seen to run, while it has the run."""

from __future__ import annotations

from uuid import UUID

from flow_stage import Flows, mark, step

from hotpath.core.flow.keys import step_uuid
from hotpath.store import flows

SINCE = 1_800_000_000_000_000


async def states(flowing: Flows, run: UUID) -> dict[str, str]:
    """State of each step of the run, by key."""
    return {each.key: each.state.value for each in await flows.read_steps(flowing.stage.connection, run)}


async def test_steps_under_way(flowing: Flows):
    """A step is there from the mark that says that it runs to the note that says how it ended; of a run that
    nobody has in hand, none runs.
    """
    worker, hand = await flowing.in_hand()
    run = hand.ids[0]
    script = flowing.stage.version.script
    said = {
        "id": str(UUID(bytes=step_uuid(run, "l[0]/b", 0))),
        "since": SINCE,
        "attempt": 2,
        "script": script,
    }
    await flowing.note(worker, (hand, 0, step(run, "a")), (hand, 0, mark("running:l[0]/b", said)))
    assert await states(flowing, run) == {"a": "success", "l[0]/b": "running"}
    [seen] = [each for each in await flows.read_steps(flowing.stage.connection, run) if each.key != "a"]
    assert (seen.attempt, str(seen.id), seen.finished_at) == (2, said["id"], None)
    assert seen.started_at is not None
    assert seen.started_at.timestamp() == SINCE / 1e6
    await worker.give_back([hand.lease])
    assert await states(flowing, run) == {"a": "success"}
    hand = await flowing.stage.claim(worker)
    assert hand is not None
    assert await states(flowing, run) == {"a": "success", "l[0]/b": "running"}
    await flowing.note(worker, (hand, 0, step(run, "l[0]/b")))
    assert await states(flowing, run) == {"a": "success", "l[0]/b": "success"}
    await flowing.note(worker, (hand, 0, mark("running:l[0]/b", None)))
    assert await states(flowing, run) == {"a": "success", "l[0]/b": "success"}
