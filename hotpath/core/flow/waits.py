"""What goes on in a run at the same time, and what it waits for: strands, calls, moments, groups.

What a strand may wait for has `begin(strand) -> bool`: True if there is nothing to wait for, and its `value`
is sent back; else the strand goes on when somebody calls `go`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from hotpath.core.flow.paths import ExpressionError
from hotpath.core.flow.values import NULL, Scope, Value

if TYPE_CHECKING:
    from hotpath.core.flow.engine import Run
    from hotpath.core.flow.program import Node

Result: TypeAlias = "tuple[Value, bool]"
"""A sequence's result, and whether a step has stopped it early."""
Walk: TypeAlias = "Generator[Any, Any, Result]"

SUCCESS, FAILURE = 1, 2
WINDOW = 2_000
"""Calls of one run that are under way at a time: more would only wait in memory."""


class Failed(Exception):
    """A step failed for good: its error object as JSON, and its key."""

    def __init__(self, error: bytes, key: str) -> None:
        super().__init__(key)
        self.error = error
        self.key = key

    @property
    def wrapped(self) -> Value:
        """The error as the result of what goes on all the same."""
        return Value(b'{"error":' + self.error + b"}")


class Strand:
    """One thing that goes on in a run. `of` hears how it ends: `strand_ended`, `strand_failed`."""

    __slots__ = ("index", "of", "run", "walk")

    def __init__(self, run: Run, walk: Walk, of: Any, index: int = 0) -> None:
        self.run = run
        self.walk = walk
        self.of = of
        self.index = index
        run.strands.add(self)  # its walk must not outlive it while an inner one is closed: see `Run.strands`

    def go(self, value: Any = None) -> None:
        """Walk until it has to wait, or ends."""
        send = self.walk.send
        while True:
            try:
                wait = send(value)
            except StopIteration as stop:
                self.run.strands.discard(self)
                self.of.strand_ended(self, stop.value)
                return
            except Failed as failed:
                self.run.strands.discard(self)
                self.of.strand_failed(self, failed)
                return
            if not wait.begin(self):
                return
            value = wait.value

    def call_ended(self, _call: StepCall, state: int, outcome: bytes) -> None:
        """The call that it waited for has ended."""
        self.go((state, outcome))


class StepCall:
    """A script that is to be run: the driver does it and calls `run.ended`."""

    __slots__ = ("args", "attempt", "key", "node", "run", "scope", "shown", "strand", "timeout")

    def __init__(self, run: Run, node: Node, key: str, args: bytes, strand: Any = None) -> None:
        self.run = run
        self.node = node
        self.key = key
        self.args = args
        """JSON of its args."""
        self.strand = strand
        """Who waits for it; has `call_ended(call, state, outcome)`."""
        self.attempt = 1
        self.shown = False
        """Whether it was noted that it takes a while."""
        self.timeout: float | None = None
        """Seconds that one run of it may take, where the flow says so."""
        self.scope: Scope | None = None
        """What its `retry_if` may look at; None of a plain step."""

    @property
    def script(self) -> str:
        """Name of the script."""
        return self.node.script

    @property
    def id(self) -> bytes:
        """Id of the step's job."""
        return self.run.id_of(self.key)

    def begin(self, strand: Strand) -> bool:
        """The strand waits for its end."""
        self.strand = strand
        self.run.call(self)
        return False


class Until:
    """A moment, in microseconds since the epoch."""

    __slots__ = ("run", "until", "value")

    def __init__(self, run: Run, until_us: int) -> None:
        self.run = run
        self.until = until_us
        self.value = None

    def begin(self, strand: Strand) -> bool:
        """Whether it has come."""
        if self.until <= self.run.now_us:
            return True
        self.run.at(self.until, strand.go)
        return False


class Written:
    """That a step's note is committed."""

    __slots__ = ("key", "run")

    def __init__(self, run: Run, key: str) -> None:
        self.run = run
        self.key = key

    def begin(self, strand: Strand) -> bool:
        """Never at once."""
        self.run.wait_written(self.key, strand)
        return False


class Breath:
    """A moment for others: the strand goes on at the next tick."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    def begin(self, strand: Strand) -> bool:
        """Never at once."""
        self.run.at(self.run.now_us + 1, strand.go)
        return False


class Elsewhere:
    """The end of a job of another worker's, which finds the run anew: nobody goes on here."""

    __slots__ = ()

    def begin(self, strand: Strand) -> bool:
        """Never."""
        return False


class Ask:
    """A command: look what people have said by now, and call `run.told`."""

    __slots__ = ()


class Heard:
    """What people say about a step. The strand goes on whenever somebody has looked (`run.told`), which is
    done once more when the time is over.
    """

    __slots__ = ("key", "run", "until")

    def __init__(self, run: Run, key: str, until_us: int | None) -> None:
        self.run = run
        self.key = key
        self.until = until_us

    def begin(self, strand: Strand) -> bool:
        """Never at once."""
        self.run.hear(self.key, strand, self.until)
        return False


class _Siblings(ABC):
    """What goes on side by side, at most `limit` at a time, until all have ended or one fails that counts."""

    __slots__ = ("failed", "limit", "owner", "run", "running", "started", "value")

    def __init__(self, run: Run, limit: int) -> None:
        self.run = run
        self.limit = limit
        self.running = 0
        self.started = 0
        self.failed: tuple[int, Failed] | None = None
        self.owner: Strand | None = None
        self.value: Any = None

    def begin(self, strand: Strand) -> bool:
        """Start those that may; whether all have ended."""
        self.pump()
        if self._is_over():
            self._conclude()
            return True
        self.owner = strand
        return False

    @abstractmethod
    def pump(self) -> None:
        """Start as many as may be."""

    @abstractmethod
    def _is_over(self) -> bool:
        """Whether nothing more is to come."""

    @abstractmethod
    def _conclude(self) -> None:
        """Make the value of what has come."""

    def _go_on(self) -> None:
        if self.owner is not None and self._is_over():
            owner, self.owner = self.owner, None
            self._conclude()
            owner.go(self.value)

    def _fail(self, index: int, failed: Failed) -> None:
        """The first in order is the one that counts, whichever came first in time."""
        if self.failed is None or index < self.failed[0]:
            self.failed = (index, failed)


class Group(_Siblings):
    """Strands side by side, at most `limit` at a time. Its value: the list of their results, or `Failed`."""

    __slots__ = ("bodies", "breaks", "keeps", "pumping", "results")

    def __init__(
        self,
        run: Run,
        bodies: Iterator[Walk],
        size: int,
        limit: int | None,
        keeps: list[bool],
        *,
        breaks: bool = True,
    ) -> None:
        super().__init__(run, size if limit is None else limit)
        self.bodies = bodies
        self.keeps = keeps
        """Of each strand, whether its error is a result like others."""
        self.breaks = breaks
        """Whether no further one starts after an error that is not."""
        self.results: list[Value] = [NULL] * size
        self.pumping = False

    def pump(self) -> None:
        """Start as many as may be."""
        if self.pumping:
            return
        self.pumping = True
        size = len(self.results)
        while self.started < size and self.running < self.limit and not self._is_broken():
            if self.running and self.run.active >= WINDOW:
                if self not in self.run.stalled:
                    self.run.stalled.append(self)
                break
            strand = Strand(self.run, next(self.bodies), self, self.started)
            self.started += 1
            self.running += 1
            strand.go()
        self.pumping = False
        self._go_on()

    def _is_broken(self) -> bool:
        return self.breaks and self.failed is not None

    def _is_over(self) -> bool:
        return not self.running and (self.started == len(self.results) or self._is_broken())

    def _conclude(self) -> None:
        self.value = self.results if self.failed is None else self.failed[1]

    def strand_ended(self, strand: Strand, result: Result) -> None:
        """One has its result."""
        self.results[strand.index] = result[0]
        self.running -= 1
        self.pump()

    def strand_failed(self, strand: Strand, failed: Failed) -> None:
        """One has failed."""
        index = strand.index
        if self.keeps[index]:
            self.results[index] = failed.wrapped
        else:
            self._fail(index, failed)
        self.running -= 1
        self.pump()


class PlainLoop(_Siblings):
    """A parallel loop over one plain step: as `Group`, without a strand for each iteration."""

    __slots__ = ("items", "keeps", "node", "prefix", "results", "scope")

    def __init__(
        self,
        run: Run,
        node: Node,
        scope: Scope,
        key: str,
        items: list[bytes],
        limit: int | None,
        *,
        keeps: bool,
    ) -> None:
        super().__init__(run, len(items) if limit is None else limit)
        self.node = node
        self.scope = Scope(scope.input, f"{key}[0]/", scope, b"null")
        self.prefix = key
        self.items = items
        self.keeps = keeps
        self.results: list[bytes] = [b"null"] * len(items)

    def pump(self) -> None:
        """Call as many as may be."""
        run, node, scope, items = self.run, self.node, self.scope, self.items
        known, calls, prefix, id = run.known, run.commands, self.prefix, node.id
        size, args = len(items), node.args
        room = min(self.limit - self.running, max(WINDOW - run.active, 0 if self.running else 1))
        while room > 0 and self.started < size and self.failed is None:
            index = self.started
            self.started += 1
            key = f"{prefix}[{index}]/{id}"
            if known and key in known:
                found = known[key]
                self._note(index, key, found.state, found.outcome)
                continue
            scope.item = item = items[index]
            scope.index = index
            try:
                call = StepCall(run, node, key, args(scope, Value(item)), self)
            except ExpressionError as error:
                failed = run.failed(key, "ExpressionError", str(error), node.module.line)
                self._note(index, key, 2, failed.error)
                continue
            calls.append(call)
            run.active += 1
            self.running += 1
            room -= 1
        if (
            self.started < size
            and self.failed is None
            and self.running < self.limit
            and self not in run.stalled
        ):
            run.stalled.append(self)
        self._go_on()

    def _is_over(self) -> bool:
        return not self.running and (self.started == len(self.items) or self.failed is not None)

    def _conclude(self) -> None:
        if self.failed is not None:
            self.value = self.failed[1]
        else:
            self.value = [Value(raw) for raw in self.results]

    def _note(self, index: int, key: str, state: int, outcome: bytes) -> None:
        if state == SUCCESS:
            self.results[index] = outcome
        elif self.keeps:
            self.results[index] = b'{"error":' + outcome + b"}"
        else:
            self._fail(index, Failed(outcome, key))

    def call_ended(self, call: StepCall, state: int, outcome: bytes) -> None:
        """One of the calls has ended."""
        key = call.key
        self.running -= 1
        index = int(key[len(self.prefix) + 1 : key.index("]", len(self.prefix))])
        if state == SUCCESS:
            self.results[index] = outcome
        else:
            self._note(index, key, state, outcome)
        # A limit of the flow's is kept full; our own window is filled again by halves, at less cost.
        if self.started < len(self.items) and (self.limit <= WINDOW or self.run.active < WINDOW // 2):
            self.pump()
        else:
            self._go_on()
