"""How runs in hand end, and leave."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hotpath.core.elements import is_too_deep
from hotpath.model import ErrorKind, OutcomeState
from hotpath.runtime import payload
from hotpath.runtime.masking import mask_outcome

if TYPE_CHECKING:
    from hotpath.flows.held import Held, Kept, Outside

FAILURE, CANCELED = int(OutcomeState.FAILURE), int(OutcomeState.CANCELED)


class Ends:
    """A part of `flows.home.Home`."""

    def __init__(self, kept: Mapping[str, Kept], outside: Outside) -> None:
        self.kept = kept
        self.outside = outside
        self.endings: set[Held] = set()
        """Runs that were told to end, and have not."""

    def end(self, held: Held, kind: ErrorKind) -> None:
        """A run is to end: now, or when the steps that run have."""
        if held.over:
            self.endings.discard(held)  # it ended while this was on its way
            return
        held.ending = held.ending or kind
        self.endings.add(held)
        for kept in self.kept.values():
            waiting = [call for call in kept.ready if call.run is held.run]
            if waiting:
                kept.ready = [call for call in kept.ready if call.run is not held.run]
                held.calls -= len(waiting)
        if not held.calls:
            self._end(held)

    def _end(self, held: Held) -> None:
        if held.ending is ErrorKind.TIMEOUT:
            self._finish(held, FAILURE, payload.timed_out(held.limit))
        else:
            what = payload.error_object("JobCanceled", "canceled while it ran", ErrorKind.CANCELED)
            self._finish(held, CANCELED, what)

    def _refused(self, held: Held, args: bytes) -> bool:
        """End a run whose args nobody can read; whether it is one."""
        if not is_too_deep(args):
            return False
        self._finish(held, FAILURE, payload.bad_args("the args are nested too deeply to be read"))
        return True

    def _finish(self, held: Held, state: int, body: bytes) -> None:
        held.over = True
        if held.masker is not None:
            state, body = mask_outcome(held.masker, state, body)
        if len(body) > payload.MAX_BYTES or (payload.NUL in body and not payload.is_storable(body)):
            state, body = FAILURE, payload.bad_result(None, body, None)
        now = time.perf_counter_ns() // 1000
        outcome = (held.index, state, held.started_us, now - held.started_us, body, None)
        (held.batch if held.group.spans is None else held.group.spans).report(outcome)
        self._left(held)

    def _left(self, held: Held) -> None:
        group = held.group
        self.endings.discard(held)
        group.held.pop(held.index, None)
        group.left -= 1
        if not group.left:
            self.outside.settled(group.done)
