"""Replay of a flow that is written as code: which steps `main` has asked for, and what is known of them.

There is no program counter. A run that comes back starts its `main` anew, and each step that has ended is
answered from what was recorded. For that, each call has a *key* which depends only on what `main` did before
it: the function's name, numbered from its second call on (`score`, `score#2`), within a coroutine given to
`gather` behind `gather[0]/`.

**Rounds.** A failed step stays failed: `main` may have caught it and gone another way, and must go that way
again after a crash, or when it was parked. But when the *run* fails and its script's `Retry` runs it again,
steps that failed are to run again and those that succeeded are not. So an attempt that fails and is to be
repeated notes a mark, `rerun:` `{"round": n}`, before its outcome, and the number goes into the ids of the
steps that run from then on: the id of a recorded failure says which round it is of. A crash or a lost lease
notes nothing, and thus stays in its round.

The id also depends on the function's own name. So a record whose id fits no round is that of another
function: the script has changed.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from hotpath.core.flow.keys import step_uuid
from hotpath.core.notes import Checkpoint, Mark, Recalled
from hotpath.errors import FlowChangedError, HotpathError
from hotpath.model import OutcomeState

SUCCESS = int(OutcomeState.SUCCESS)
RERUN = "rerun:"
SHOWN = 200
"""Characters of args that an error shows."""

_decode = msgspec.json.decode


class Scope:
    """Where in a run calls are made: in `main`, or in one of the coroutines that it gave to `gather`."""

    __slots__ = ("_counts", "prefix")

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self._counts: dict[str, int] = {}

    def key(self, name: str, kind: str = "") -> str:
        """Key of the next call of this name; `kind` tells apart what may have the same names."""
        count = self._counts[kind + name] = self._counts.get(kind + name, 0) + 1
        return f"{self.prefix}{name}" if count == 1 else f"{self.prefix}{name}#{count}"

    def within(self, key: str, index: int) -> Scope:
        """For a coroutine given to the `gather` of this key."""
        return Scope(f"{key}[{index}]/")


class Replay:
    """What one run in hand has asked for. Made when `main` begins; `learn` comes before all that asks."""

    __slots__ = (
        "_marks", "_round", "asked", "changed", "events", "generation", "known", "learned", "made", "run",
        "sent", "unasked",
    )  # fmt: skip

    def __init__(self, run: UUID) -> None:
        self.run = run
        self.learned = False
        """Whether it is known what was recorded."""
        self.known: dict[str, Checkpoint] = {}
        self.events: dict[str, Any] = {}
        self.unasked: dict[str, None] = {}
        """Recorded steps that `main` has not asked for yet, in order."""
        self.made: dict[str, None] = {}
        """Calls that were made and that nobody has awaited yet."""
        self.asked = False
        """Whether any step was."""
        self.changed: FlowChangedError | None = None
        self.generation = 0
        self.sent: dict[str, bytes] = {}
        """By key, ids of the jobs that were sent through the queue."""
        self._marks: dict[str, bytes] = {}
        self._round = 0

    def learn(self, recalled: Recalled | None) -> None:
        """This was recorded; None: nothing."""
        self.learned = True
        if recalled is None:
            return
        self.known = dict(recalled.steps)
        for key, child in recalled.children.items():
            self.sent[key] = child.id
            if child.state and key not in self.known:
                self.known[key] = Checkpoint(child.state, child.outcome, None, child.id)
        self.generation = recalled.generation
        self.events = dict(recalled.events)
        self._marks = recalled.marks
        self.unasked = dict.fromkeys(self.known)
        rerun = self.mark(RERUN)
        if rerun is not None:
            self._round = int(rerun["round"])

    def mark(self, key: str) -> Any:
        """What was noted under this name; None: nothing."""
        raw = self._marks.get(key)
        return None if raw is None else _decode(raw)

    def again(self) -> Mark:
        """What an attempt notes that has failed and is to be repeated."""
        return Mark(RERUN, msgspec.json.encode({"round": self._round + 1}))

    def id_of(self, key: str, what: str) -> bytes:
        """Id of the job that this step is when it runs now; `what` says which function or script it is."""
        return self._id(key, what, self.generation, self._round)

    def _id(self, key: str, what: str, generation: int, round_: int) -> bytes:
        return step_uuid(self.run, f"{key}\0{what}\0{round_}", generation)

    def ask(self, key: str, what: str, args: bytes) -> Checkpoint | None:
        """How the step has ended; None: it is to be run.

        Raises `FlowChangedError` if what is recorded is of another function, or has other args.
        """
        self.asked = True
        found = self.known.get(key)
        if found is None:
            return None
        self.unasked.pop(key, None)
        standing = self._standing(key, what, found.id)
        if standing is None:
            raise self._change(f"step {key} was recorded of another function than {what}, which it is now")
        if found.args is not None and not _same(found.args, args):
            raise self._change(
                f"step {key} was recorded with the args {_show(found.args)} and is now called with "
                f"{_show(args)}"
            )
        return found if found.state == SUCCESS or standing else None

    def _standing(self, key: str, what: str, id_: bytes) -> bool | None:
        """Whether a failure recorded under this id still counts; None: it is of another function."""
        if id_ == self._id(key, what, self.generation, self._round):
            return True
        for generation in range(self.generation, -1, -1):
            # Rounds of an earlier generation are no longer known: a run has few.
            for round_ in range(self._round if generation == self.generation else 100):
                if id_ == self._id(key, what, generation, round_):
                    return generation < self.generation  # kept on purpose, by a retry from a later step
        return None

    def _change(self, what: str) -> FlowChangedError:
        self.changed = FlowChangedError(
            f"{what}: the script has changed since, or what it does depends on chance or on the time; to "
            f"begin anew, `hotpath retry` the run"
        )
        return self.changed

    def check_end(self) -> None:
        """`main` has returned: raises `FlowChangedError` if it has not asked for all that is recorded, or has
        caught one, and HotpathError if it has not awaited a call.
        """
        if self.changed is not None:
            raise self.changed
        if self.made:
            key = next(iter(self.made))
            raise HotpathError(
                f"step {key} was called and not awaited: write `await`, or give it to gather()"
            )
        # In a later round a step that failed before may have ended otherwise, and `main` gone another way.
        if self.unasked and not self._round:
            names = ", ".join(list(self.unasked)[:5]) + (", ..." if len(self.unasked) > 5 else "")
            number = len(self.unasked)
            steps = f"step {names} was" if number == 1 else f"{number} steps ({names}) were"
            raise self._change(f"{steps} recorded and `main` has returned without asking for it")


def _same(one: bytes, other: bytes) -> bool:
    return one == other or _decode(one) == _decode(other)


def _show(args: bytes) -> str:
    text = args.decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
