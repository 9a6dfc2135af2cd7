"""What a flow's file says, as plain data whose lines are known, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import attrs

from hotpath.core.storable import find_fault

Place: TypeAlias = "str | int"
Syntax: TypeAlias = "Callable[[str], str | None]"
"""What is wrong with the syntax of a JavaScript expression; None: nothing."""


@attrs.frozen
class Fault:
    """One thing that is wrong with a flow."""

    line: int
    """In its file, from 1; 0: not known."""
    step: str | None
    """Id of the step it is about, or its place (`modules[2]`) where it has no id; None: the flow's own."""
    message: str

    def __str__(self) -> str:
        return self.message if self.step is None else f"step {self.step}: {self.message}"


class Lines:
    """On which lines the mappings and lists of a document, and what they hold, begin."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[int, Mapping[Any, int], object]] = {}

    def note(self, container: dict[str, Any] | list[Any], line: int, entries: Mapping[Any, int]) -> None:
        """Say where a mapping or list begins, and where each of its keys or items does."""
        self._of[id(container)] = line, entries, container  # kept, so that its id stays its own

    def of(self, container: object, entry: Place | None = None) -> int:
        """The line of an entry, or of the container where it has no such entry; 0: not known."""
        line, entries, _ = self._of.get(id(container), (0, {}, None))
        return line if entry is None else entries.get(entry, line)


class Reading:
    """One flow being read: its lines, and the faults found so far."""

    def __init__(self, lines: Lines, syntax: Syntax | None = None) -> None:
        self.lines = lines
        self.syntax = syntax
        self.faults: list[Fault] = []

    def fault(self, step: str | None, line: int, message: str) -> None:
        """Write down what is wrong, and go on."""
        self.faults.append(Fault(line, step, message))


class Fields:
    """The options of one mapping, asked for one by one; `close` refuses those that nobody asked for.

    An option that is null counts as absent. One with a wrong value is written down as a fault and counts as
    absent too.
    """

    def __init__(
        self, reading: Reading, given: object, step: str | None, *, name: str = "", line: int = 0
    ) -> None:
        self.reading = reading
        self.step = step
        self.own_line = reading.lines.of(given) or line
        self._prefix = f"{name}." if name else ""
        self._known: dict[str, None] = {}
        self.given: dict[str, Any] = {}
        if isinstance(given, dict):
            self.given = given
        elif given is not None:
            self.reading.fault(step, line, f"`{name}` must be a mapping (`key: value`), not {kind_of(given)}")

    def line(self, key: str) -> int:
        """On which line an option is."""
        return self.reading.lines.of(self.given, key) or self.own_line

    def name_of(self, key: str) -> str:
        """An option's full name, such as `retry.constant.seconds`."""
        return f"{self._prefix}{key}"

    def fault(self, key: str, message: str) -> None:
        """Say what is wrong with an option: it `must be text, not a number`, or `: there is no such file`."""
        space = "" if message.startswith(":") else " "
        self.reading.fault(self.step, self.line(key), f"`{self.name_of(key)}`{space}{message}")

    def get(self, key: str) -> Any:
        """Whatever there is."""
        self._known[key] = None
        return self.given.get(key)

    def text(self, key: str, default: str | None = None) -> str | None:
        """A text."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fault(key, f"must be text, not {kind_of(value)}")
            return default
        if fault := find_fault(value):
            self.fault(key, fault.reason)
            return default
        return value

    def flag(self, key: str) -> bool:
        """True or false; by default false."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            self.fault(key, f"must be true or false, not {kind_of(value)}")
            return False
        return bool(value)

    def number(
        self, key: str, default: float = 0.0, *, low: float = 0.0, high: float = math.inf, above: bool = False
    ) -> float:
        """A number from `low`, or above it, to `high`."""
        value = self.get(key)
        if value is None:
            return default
        if fault := fault_of_number(value, low=low, high=high, above=above):
            self.fault(key, fault)
            return default
        return float(value)

    def integer(self, key: str, default: int = 0, *, low: int = 0, high: int = 32767) -> int:
        """A whole number from `low` to `high`; 3.0 is one too, since JavaScript does not tell."""
        value = self.get(key)
        if value is None:
            return default
        whole = not isinstance(value, bool) and (
            isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        )
        if not whole or not low <= value <= high:
            self.fault(key, f"must be a whole number from {low} to {high:,}, not {shown(value)}")
            return default
        return int(value)

    def list(self, key: str) -> list[Any]:
        """A list; by default an empty one."""
        value = self.get(key)
        if value is not None and not isinstance(value, list):
            self.fault(key, f"must be a list, not {kind_of(value)}")
            return []
        return value or []

    def mapping(self, key: str) -> dict[str, Any]:
        """A mapping; by default an empty one."""
        value = self.get(key)
        if value is not None and not isinstance(value, dict):
            self.fault(key, f"must be a mapping (`key: value`), not {kind_of(value)}")
            return {}
        return value or {}

    def inner(self, key: str) -> Fields | None:
        """The options of a mapping within this one; None: absent."""
        value = self.get(key)
        if value is None:
            return None
        return Fields(self.reading, value, self.step, name=self.name_of(key), line=self.line(key))

    def close(self, ignored: Iterable[str] = (), refused: Mapping[str, str] | None = None) -> None:
        """Refuse the options nobody asked for, save those that mean nothing here and do no harm. `refused`
        are options of Windmill's that would mean something, and what to do instead.
        """
        ignored = frozenset(ignored)
        for key, value in self.given.items():
            if key in self._known or key in ignored:
                continue
            if refused and key in refused:
                if value is not None and value is not False:
                    self.fault(key, f"is not supported{refused[key]}")
                continue
            known = ", ".join(self._known)
            self.fault(
                key if len(key) <= 80 else f"{key[:77]}...",
                f"is unknown; known here are {known}" if known else "is unknown; nothing is known here",
            )


def fault_of_number(value: object, *, low: float, high: float = math.inf, above: bool = False) -> str | None:
    """What is wrong with a number, as `must be ...`; None: nothing."""
    fits = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if fits:
        assert isinstance(value, int | float)
        fits = low <= value <= high and not (above and value == low)
    if fits:
        return None
    bound = f"above {low:g}" if above else f"of at least {low:g}"
    most = f" and at most {high:g}" if high < math.inf else ""
    return f"must be a number {bound}{most}, not {shown(value)}"


def kind_of(value: object) -> str:
    """A value's kind, as people who write YAML call it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "a mapping"


def shown(value: object) -> str:
    """A value in a message: itself if it is short, else its kind."""
    if isinstance(value, list | dict) or value is None or isinstance(value, bool):
        return kind_of(value)
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}..."
