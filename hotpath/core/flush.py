"""What a worker tells the database of the leases it holds: which places ended, how, and which run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import attrs

if TYPE_CHECKING:
    from hotpath.core.hand import Hand


@attrs.frozen(eq=False)
class LeaseFlush:
    """What one flush says of one lease; `started`, `durations` and `states` have one entry for each place
    of it.
    """

    hand: Hand
    final: bool
    """All jobs of the lease have ended, so the lease goes."""
    before: int
    """Bit mask of the places that had left the lease before."""
    started: Sequence[int]
    durations: Sequence[int]
    states: Sequence[int] | None
    """None: all succeeded."""
    payloads: Sequence[bytes]
    """JSON of each result or error; `null` for a place that does not end now."""
    logs: list[tuple[int, str]]
    """Ordinal in the batch, and text."""
    jobs: int
    """Outcomes, retries among them."""
    failed: int
    """Of those, the ones that are neither a success nor to run again."""
    busy_us: int
    size: int
    """Bytes of the payloads, and characters of the logs."""
    retries: list[tuple[int, float]] = attrs.field(factory=list)
    """Place and delay in seconds of each attempt that failed and is to run again: its state is 4, its
    payload the error.
    """

    def some_job(self) -> UUID:
        """Id of one job that this flush ends."""
        hand = self.hand
        if self.states is None:
            return hand.ids[0]
        ended = next(place for place, state in enumerate(self.states) if state)
        return hand.ids[ended if hand.places is None else hand.places.index(ended)]

    @property
    def ended(self) -> int:
        """Bit mask of the places that end with this flush."""
        if self.states is None:
            return (1 << len(self.started)) - 1
        return sum(1 << place for place, state in enumerate(self.states) if state)

    @property
    def bits(self) -> bytes | None:
        """The places that end now; or, when the lease is to go, those that have left it before (None: none),
        without which it must not go: a flush that was not written would take its jobs with it.
        """
        mask = self.before if self.final else self.ended
        if self.final and not mask:
            return None
        return mask.to_bytes((len(self.started) + 7) // 8, "little")

    @property
    def body(self) -> bytes:
        """The payloads as one JSON array."""
        return b"[" + b",".join(self.payloads) + b"]"

    def part(self, places: range, before: int, failure: bytes | None = None) -> LeaseFlush:
        """What it says of these places, and the lease goes on; with `failure`, they end in that error
        instead.

        For a flush that the database refuses because of one job's data: halves of it are tried until the job
        is found.
        """
        size = len(self.started)
        old = self.states if self.states is not None else [1] * size
        states = [old[place] if place in places else 0 for place in range(size)]
        logs = [entry for entry in self.logs if entry[0] - self.hand.lo in places]
        retries = [entry for entry in self.retries if entry[0] in places]
        if failure is not None:
            states, logs, retries = [2 if state else 0 for state in states], [], []
        payloads = [(failure or self.payloads[place]) if states[place] else b"null" for place in range(size)]
        return attrs.evolve(
            self, final=False, before=before, states=states, logs=logs, payloads=payloads, retries=retries
        )

    def instead(self, failures: Mapping[int, bytes]) -> LeaseFlush:
        """The same, save that those of its jobs at these places that end now end in these errors."""
        failures = {place: error for place, error in failures.items() if self.ended >> place & 1}
        if not failures:
            return self
        states = list(self.states) if self.states is not None else [1] * len(self.started)
        payloads = list(self.payloads)
        for place, error in failures.items():
            states[place], payloads[place] = 2, error
        retries = [entry for entry in self.retries if entry[0] not in failures]
        failed = sum(state in (2, 3) for state in states)
        return attrs.evolve(self, states=states, payloads=payloads, retries=retries, failed=failed)

    def closing(self, before: int) -> LeaseFlush:
        """Nothing more of any job: the lease goes."""
        size = len(self.started)
        return attrs.evolve(
            self, before=before, states=[0] * size, logs=[], payloads=[b"null"] * size, retries=[]
        )


def totals(flushes: Sequence[LeaseFlush]) -> tuple[int, int, int, int]:
    """Jobs, failures, microseconds in `main` and bytes of results of several flushes."""
    return (
        sum(flush.jobs for flush in flushes),
        sum(flush.failed for flush in flushes),
        sum(flush.busy_us for flush in flushes),
        sum(flush.size for flush in flushes),
    )
