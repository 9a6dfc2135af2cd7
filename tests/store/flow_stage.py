"""What tests of flows in the database stand on: a flow, a script that its steps are sent to, runs in hand."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import attrs
from store_stage import ANYTHING, NAME, Stage

from hotpath import asyncpg_trio
from hotpath.core.flow.keys import step_uuid
from hotpath.core.hand import Hand
from hotpath.core.notes import Dispatch, Mark, Note, Parking, Recalled, StepNote, columns
from hotpath.core.positions import Positions
from hotpath.model import Description, Settings
from hotpath.store import flows, scripts
from hotpath.store.work import Claim, WorkerSession

CHILD = "score"
FAILED = b'{"name": "E", "message": "no", "traceback": "", "kind": "exception"}'


@attrs.define(eq=False)
class Flows:
    """The stage's script `flow_x` as a flow, and the script `score` beside it."""

    stage: Stage
    child: int
    child_tag: int

    async def run(self, **options: Any) -> UUID:
        """A run that waits."""
        return (await self.stage.loose(1, **options))[0]

    async def in_hand(
        self, count: int = 1, session: WorkerSession | None = None
    ) -> tuple[WorkerSession, Hand]:
        """A worker with so many new runs in one hand."""
        await self.stage.loose(count)
        session = session or await self.stage.worker()
        hand = await self.stage.claim(session)
        assert hand is not None
        assert len(hand) == count
        return session, hand

    async def note(
        self, session: WorkerSession, *noted: tuple[Hand, int, Note], again: bool = False
    ) -> list[bool]:
        """Write notes as a worker does."""
        notes = columns([(hand, index, note, None) for hand, index, note in noted])
        return await flows.write_notes(
            session.connection,
            session.worker,
            attrs.evolve(notes, again=again),
            clock_offset_us=1_800_000_000_000_000,
            durable=True,
        )

    async def park(self, session: WorkerSession, hand: Hand, index: int = 0, **waits: Any) -> int:
        """Park a run of a hand; by default until somebody wakes it."""
        parking = Parking(**({"until_us": None} | waits))
        place = hand.place(index)
        return await flows.park(
            session.connection, session.worker, [(hand.lease, place, hand.ids[index], parking)]
        )

    async def recall(self, run: UUID) -> Recalled | None:
        """What is known of one run."""
        return (await flows.recall(self.stage.connection, [run])).get(run)

    async def due(self, run: UUID) -> bool:
        """Whether the run waits in the queue and its time has come."""
        return bool(
            await self.stage.connection.fetchval(
                "select scheduled_for <= now() from hotpath.job_queue where id = $1", run
            )
        )

    async def send(self, session: WorkerSession, hand: Hand, index: int = 0, key: str = "a") -> UUID:
        """Dispatch a step of a run to `score`; its id."""
        note = dispatch(hand.ids[index], key)
        assert await self.note(session, (hand, index, note)) == [True]
        return UUID(bytes=note.id)

    async def scorer(self) -> WorkerSession:
        """A worker for `score`."""
        return await self.stage.worker(tags=[self.child_tag])

    async def claim_child(self, session: WorkerSession) -> Hand:
        """The waiting jobs of `score`."""
        claim = Claim(100, self.child_tag, CHILD, self.child, Positions())
        hand = (await session.cycle([], claim)).hand
        assert hand is not None
        return hand


async def make_flows(stage: Stage) -> Flows:
    """Make the stage's script a flow and register `score`."""
    made = []
    for name, kind in ((NAME, "flow"), (CHILD, "script")):
        description = Description(
            path=name, hash="1" * 64, is_async=True, schema=ANYTHING, settings=Settings(), kind=kind
        )
        made.append(await scripts.register_version(stage.connection, description))
    stage.version = made[0]
    return Flows(stage, made[1].script, await stage.connection.fetchval("select hotpath.tag_id($1)", CHILD))


def step(run: UUID, key: str, **more: Any) -> StepNote:
    """A step of a run that ended well, unless `more` says otherwise; `at` is when it began."""
    said = {
        "key": key,
        "id": step_uuid(run, key, more.pop("generation", 0)),
        "script": 0,
        "started_us": more.pop("at", 1_000_000),
        "duration_us": 10,
        "state": 1,
        "attempt": 1,
        "args": b'{"x": 1}',
        "outcome": json.dumps(f"result of {key}").encode(),
        "log": None,
    }
    return StepNote(**(said | more))


def dispatch(run: UUID, key: str, **more: Any) -> Dispatch:
    """A step of a run that goes through the queue."""
    said = {"tag": None, "priority": 0, "timeout_ms": None, "args": b'{"x": 5}', "script": CHILD}
    return Dispatch(key=key, id=step_uuid(run, key, 0), **(said | more))


def mark(key: str, value: Any) -> Mark:
    """A mark with this value; None takes it away."""
    return Mark(key, None if value is None else json.dumps(value).encode())


def nonce(number: int) -> bytes:
    """A nonce like no other."""
    return number.to_bytes(12)


async def resume(
    connection: asyncpg_trio.Connection, run: UUID, key: str, number: int = 1, **more: Any
) -> None:
    """An approval with token `number`."""
    await flows.resume(connection, run, key, **({"approved": True, "nonce": nonce(number)} | more))
