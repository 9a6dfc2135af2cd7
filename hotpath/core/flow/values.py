"""What a run knows while it is under way: results as JSON and as data, and which of them a module may see."""

from __future__ import annotations

from typing import Any

import msgspec

_decode = msgspec.json.decode


class Value:
    """A JSON value that is kept as it is written, and read only if somebody looks inside."""

    __slots__ = ("_data", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._data: Any = _UNREAD

    @property
    def data(self) -> Any:
        """The value itself; not to be changed."""
        if self._data is _UNREAD:
            self._data = _decode(self.raw)
        return self._data


_UNREAD = object()
NULL = Value(b"null")


class Approvals:
    """What people said behind a step that waited for them."""

    __slots__ = ("approvers", "payloads")

    def __init__(self, payloads: list[bytes], approvers: list[str]) -> None:
        self.payloads = payloads
        self.approvers = approvers


class FlowInput:
    """The args of a flow, and its environment; the same for all its modules."""

    __slots__ = ("_fields", "env", "value")

    def __init__(self, value: Value, env: dict[str, Any]) -> None:
        self.value = value
        self.env = env
        self._fields: dict[str, msgspec.Raw] | None = None

    def become(self, value: Value) -> None:
        """What a preprocessor has made of the args."""
        self.value, self._fields = value, None

    def field(self, name: str) -> bytes | None:
        """JSON of one arg; None if it is not there."""
        if self._fields is None:
            self._fields = _decode(self.value.raw, type=dict[str, msgspec.Raw])
        raw = self._fields.get(name)
        return None if raw is None else bytes(raw)


class Scope:
    """What the modules of one sequence see: results of their own sequence and of those around it."""

    __slots__ = ("approvals", "index", "input", "item", "outer", "prefix", "results")

    def __init__(
        self,
        input: FlowInput,
        prefix: str,
        outer: Scope | None = None,
        item: bytes | None = None,
        index: int = 0,
    ) -> None:
        self.input = input
        self.prefix = prefix
        """What the keys of its steps begin with."""
        self.outer = outer
        self.item = item
        """JSON of `flow_input.iter.value`; None: not in a loop."""
        self.index = index
        self.results: dict[str, Value] = {}
        self.approvals: Approvals | None = None if outer is None else outer.approvals

    def within(self, segment: str) -> Scope:
        """For the modules of a branch."""
        return Scope(self.input, f"{self.prefix}{segment}/", self, self.item, self.index)

    def iteration(self, loop: str, index: int, item: bytes) -> Scope:
        """For one iteration of a loop."""
        return Scope(self.input, f"{self.prefix}{loop}[{index}]/", self, item, index)

    def find(self, id: str) -> Value | None:
        """The result of a module that may be seen from here."""
        scope: Scope | None = self
        while scope is not None:
            value = scope.results.get(id)
            if value is not None:
                return value
            scope = scope.outer
        return None

    def all_results(self) -> dict[str, Any]:
        """Every result that may be seen, by id."""
        seen = {} if self.outer is None else self.outer.all_results()
        seen.update((id, value.data) for id, value in self.results.items())
        return seen

    def input_data(self) -> dict[str, Any]:
        """`flow_input`, with `iter` inside a loop."""
        data: dict[str, Any] = self.input.value.data
        if self.item is None:
            return data
        return {**data, "iter": {"value": _decode(self.item), "index": self.index}}
