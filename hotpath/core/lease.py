"""The lease book: which numbers a worker's hands have, and what the supervisor is told of them.

A job in hand is named by a *token*, the number of its hand (1 to 65,535) above 16 bits of its index in it:
one word of shared memory says it. A number is used again only when both are over that it stands for: the
lease in the database, and the runtime's call, which may still write the number down as the last thing it
does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import attrs

NUMBERS = 65_535
"""Hands at a time."""
_SHIFT = 16


def hand_number(token: int) -> int:
    """Number of the hand that a job's token names; 0 for no job."""
    return token >> _SHIFT


def _nothing(_number: int, _lease: int) -> None:
    pass


@attrs.define(eq=False)
class LeaseBook:
    """The hands of one worker. `note(number, lease)` is told which lease each number stands for; 0: none."""

    note: Callable[[int, int], object] = _nothing
    _leases: dict[int, int] = attrs.field(factory=dict)
    """By number in use; 0 once the lease is gone."""
    _running: set[int] = attrs.field(factory=set)
    _free: list[int] = attrs.field(factory=list)

    @property
    def full(self) -> bool:
        """Whether no number is left."""
        return len(self._leases) >= NUMBERS

    def leases(self) -> dict[int, int]:
        """The leases held, by number."""
        return {number: lease for number, lease in self._leases.items() if lease}

    def held(self) -> list[int]:
        """The leases held; any thread may ask."""
        return [lease for lease in list(self._leases.values()) if lease]

    def open(self, lease: int) -> int:
        """A number for this lease; return the token of its first job. Raises IndexError when it is full."""
        if self._free:
            number = heapq.heappop(self._free)  # the lowest: readers of the table stop at the highest
        elif self.full:
            raise IndexError("a worker holds 65,535 leases at most")
        else:
            number = len(self._leases) + 1
        self._leases[number] = lease
        self.note(number, lease)
        return number << _SHIFT

    def move(self, token: int, lease: int) -> None:
        """The number stands for another lease: the claim is sent once more, or has brought nothing (0)."""
        number = hand_number(token)
        if self._leases[number] != lease:
            self._leases[number] = lease
            self.note(number, lease)

    def came(self, token: int) -> None:
        """The claim that was sent has been done: only from now on does the database know of the lease, so
        whoever looked there before has to look again.
        """
        number = hand_number(token)
        self.note(number, self._leases[number])

    def run(self, token: int) -> None:
        """The runtime has been given the hand."""
        self._running.add(hand_number(token))

    def returned(self, token: int) -> None:
        """The runtime is through with the hand."""
        self._running.discard(hand_number(token))
        self._reuse(hand_number(token))

    def close(self, token: int) -> None:
        """The lease is gone: flushed, given back, or lost."""
        self.move(token, 0)
        self._reuse(hand_number(token))

    def _reuse(self, number: int) -> None:
        if self._leases.get(number) == 0 and number not in self._running:
            del self._leases[number]
            heapq.heappush(self._free, number)
