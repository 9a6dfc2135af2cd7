"""Hand a claimed batch to the runtime; args that were too large to travel with the claim are fetched a few at
a time.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import attrs
import trio

from hotpath.store.claimed import join, split
from hotpath.store.work import WorkerSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotpath.core.hand import Hand
    from hotpath.core.notes import Note, OnWritten, Parking, Recalled
    from hotpath.runtime.protocol import Batch, Outcome, Runtime
    from hotpath.worker.link import Link

LARGE_AT_ONCE = 8
"""Jobs with large args that are in memory together: at most 128 MiB of args."""


@attrs.frozen
class _Shifted(Container[int]):
    """Indexes of a hand as one of its parts counts them; it follows the hand's changes."""

    whole: Container[int]
    first: int

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and index + self.first in self.whole


@attrs.define(eq=False)
class Part:
    """Some neighbouring jobs of a batch, as a batch of their own."""

    hand: Hand
    first: int
    args: bytes
    ids: Sequence[UUID]
    attempts: Sequence[int]
    tag: str
    timeouts: Sequence[float | None] | None
    report: Callable[[Outcome], object] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        first, report = self.first, self.hand.report
        self.report = lambda outcome: report((outcome[0] + first, *outcome[1:]))

    def __len__(self) -> int:
        return len(self.ids)

    def retry(self, outcome: Outcome, delay: float) -> None:
        """As of the hand."""
        self.hand.retry((outcome[0] + self.first, *outcome[1:]), delay)

    def note(self, index: int, note: Note, on_written: OnWritten = None) -> None:
        """As of the hand."""
        self.hand.note(index + self.first, note, on_written)

    def park(self, index: int, parking: Parking, log: str | None = None) -> None:
        """As of the hand."""
        self.hand.park(index + self.first, parking, log)

    async def recall(self, indexes: Sequence[int]) -> dict[int, Recalled]:
        """As of the hand."""
        found = await self.hand.recall([index + self.first for index in indexes])
        return {index - self.first: known for index, known in found.items()}

    async def cached(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """As of the hand."""
        return await self.hand.cached(keys)

    async def admit(self, script: int, most: int) -> set[int]:
        """As of the hand."""
        there = await self.hand.desk.admit(script, most, list(self.ids))
        return {index for index, job in enumerate(self.ids) if job in there}

    @property
    def traces(self) -> Mapping[int, str]:
        """The hand's, counted from here."""
        return {index - self.first: trace for index, trace in (self.hand.traces or {}).items()}

    def now_us(self) -> int:
        """The hand's."""
        return self.hand.now_us()

    @property
    def tokens(self) -> range:
        """Token of each job."""
        return range(self.number, self.number + len(self.ids))

    @property
    def number(self) -> int:
        """Token of its first job."""
        return self.hand.number + self.first

    @property
    def mark(self) -> MutableSequence[int]:
        """The hand's."""
        return self.hand.mark

    @property
    def until(self) -> int:
        """The hand's."""
        return self.hand.until

    @property
    def stopped(self) -> bool:
        """Whether the hand is."""
        return self.hand.stopped

    @property
    def canceling(self) -> Container[int]:
        """The hand's, counted from here."""
        return _Shifted(self.hand.canceling, self.first)

    @property
    def begun(self) -> int:
        """How many of its jobs have started; setting it tells the hand."""
        return max(0, min(self.hand.begun - self.first, len(self.ids)))

    @begun.setter
    def begun(self, count: int) -> None:
        self.hand.begun = max(self.hand.begun, self.first + count)


Given: TypeAlias = "tuple[int, Batch]"
"""What a runtime was given of a hand: the index of its first job, and the batch."""


async def feed(runtime: Runtime, hand: Hand, link: Link, given: list[Given]) -> None:
    """Run the batch. Returns when each job is reported, or when the batch was stopped.

    What the runtime is given is added to `given` before.
    """
    if link.traced:
        found = await link.guarded(WorkerSession.traces, hand.ids)
        hand.traces = {index: found[job] for index, job in enumerate(hand.ids) if job in found}
    elements = split(hand.args) if b"null" in hand.args else []
    if b"null" not in elements:
        given.append((0, hand))
        await runtime.run(hand)
        return
    room = trio.CapacityLimiter(LARGE_AT_ONCE if runtime.concurrency > 1 else 1)

    async def run(part: Part, token: object) -> None:
        try:
            await runtime.run(part)
        finally:
            room.release_on_behalf_of(token)

    async with trio.open_nursery() as nursery:
        at = 0
        while at < len(elements):
            token = object()
            await room.acquire_on_behalf_of(token)  # with one job at a time, this also keeps their order
            if hand.stopped:
                break
            end = at + 1
            args = elements[at]
            if args == b"null":
                job = hand.ids[at]
                args = (await link.guarded(WorkerSession.payloads, [job])).get(job, b"{}")
            while end < len(elements) and b"null" not in (elements[end - 1], elements[end]):
                end += 1
            document = join([args, *elements[at + 1 : end]])
            ids = [hand.ids[index] for index in range(at, end)]
            attempts = [hand.attempts[index] for index in range(at, end)]
            timeouts = hand.timeouts and hand.timeouts[at:end]
            part = Part(hand, at, document, ids, attempts, hand.tag, timeouts)
            given.append((at, part))
            nursery.start_soon(run, part, token)
            at = end
