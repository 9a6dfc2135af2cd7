"""Expressions that are no plain path, evaluated by QuickJS, an embedded JavaScript engine.

An expression sees the names it is given, the language, and nothing else: no file, no network, no module. It
can change nothing that a later one sees: all that is built in is frozen, and strict mode says so where an
expression tries. Values go in and out as JSON, so whole numbers beyond 2**53 lose their last digits in
JavaScript; plain paths, which `core.flow.paths` resolves, keep them.
"""

from __future__ import annotations

import functools
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from importlib import resources
from typing import Any

import msgspec

from hotpath.core.flow.paths import UNDEFINED, ExpressionError
from hotpath.core.flow.scan import ROOTS, steps_used, words
from hotpath.core.storable import MAX_BYTES, NUL, find_fault, has_nul

SECONDS = 0.25
"""How long one evaluation may take."""
MEMORY = 32 * 1024 * 1024
"""How many bytes JavaScript may use in one thread, built-in objects and compiled expressions included."""
STACK = 256 * 1024
"""Bytes of stack; about a thousand calls deep."""
COMPILED = 500
"""How many expressions a thread keeps compiled."""

_LINES_BEFORE = 100_000  # of our own JavaScript, so that its line numbers are beyond those of expressions
_UNDEFINED, _PENDING, _FAILED, _OUT_OF_MEMORY, _OUT_OF_STACK = range(5)


class _LimitError(Exception):
    """A limit was hit; the message says which."""

    is_time = False


class _TimeLimitError(_LimitError):
    is_time = True


class JavaScript:
    """Evaluates expressions, in any thread; each has its own context, made when it needs one.

    The time is counted in CPU time of the whole process, which is all that QuickJS offers; where other
    threads used it up, the evaluation begins anew, once. QuickJS looks at the time between two of its own
    instructions and within regular expressions: what it does in one go (searching a long text for a long
    text, arithmetic with a BigInt of a million digits) is not ended before it is through. For that there are
    the time-out of the job and the supervisor.
    """

    def __init__(self, *, seconds: float = SECONDS, memory: int = MEMORY, stack: int = STACK) -> None:
        self._seconds = seconds
        self._memory = memory
        self._stack = stack
        self._threads = threading.local()

    def evaluate(self, text: str, env: Mapping[str, Any]) -> Any:
        """The value of an expression over the names in `env`; `UNDEFINED` where it has none.

        It is an expression, or statements: their value is what they `return`, else that of the last one. A
        promise is waited for. NaN and the infinities become null. Raises `ExpressionError` for whatever
        JavaScript throws, for a limit, and for a value without a form in JSON (function, symbol, BigInt,
        cycle) or without a place in PostgreSQL (NUL, lone surrogates, more than `MAX_BYTES`).
        """
        names, values = _arguments(text, env)
        if len(values) > self._memory // 4:
            raise ExpressionError(
                f"the values it uses are {len(values):,} bytes of JSON: too many for JavaScript"
            )
        patience = 1
        while True:
            sandbox: _Sandbox | None = getattr(self._threads, "sandbox", None)
            is_fresh = sandbox is None or sandbox.is_spent or patience > 1
            if sandbox is None or is_fresh:
                sandbox = _Sandbox(self._seconds * patience, self._memory, self._stack)
                self._threads.sandbox = sandbox if patience == 1 else None
            began = time.perf_counter()
            try:
                return sandbox.evaluate(text, names, values)
            except _LimitError as limit:
                # what used the time or the memory up may have been others: other threads, earlier evaluations
                if limit.is_time:
                    again = patience == 1 and time.perf_counter() - began < 0.8 * self._seconds
                    patience = 4
                else:
                    again = not is_fresh
                if not again:
                    raise ExpressionError(str(limit)) from None

    def fault_of(self, text: str) -> str | None:
        """What is wrong with the syntax of an expression, without evaluating it; None: nothing."""
        try:
            names, _ = _arguments(text, dict.fromkeys(sorted(ROOTS), UNDEFINED))
            _Sandbox(self._seconds, self._memory, self._stack).compile(text, names)
        except _LimitError as limit:
            return None if limit.is_time else str(limit)  # of a busy machine: nothing is evaluated here
        except ExpressionError as error:
            return str(error)
        return None


class _Sandbox:
    """A context of QuickJS, for the thread that makes it: another thread gets nonsense out of it."""

    def __init__(self, seconds: float, memory: int, stack: int) -> None:
        from _quickjs import Context, JSException  # `quickjs` around it would start a thread when imported

        self.is_spent = True
        """Whether it may not be used again: because it was interrupted, or has something left to do."""
        self._seconds = seconds
        self._memory = memory
        self._error: type[Exception] = JSException
        self._context = Context()
        self._context.set_memory_limit(memory)
        self._context.set_max_stack_size(stack)
        function = self._context.eval(_prelude())
        self._compile, self._call, self._settle, self._failure = map(function, range(4))
        # they are kept on JavaScript's side: an object freed in another thread would corrupt its memory
        self._slots: OrderedDict[tuple[str, tuple[str, ...]], int] = OrderedDict()
        self._free = list(range(COMPILED))
        self._context.set_time_limit(seconds)
        self.is_spent = False

    def evaluate(self, text: str, names: tuple[str, ...], values: str) -> Any:
        """The value of an expression over `names`, of which the first ones have these values (a JSON list).

        Raises `_LimitError` for a limit, `ExpressionError` for all else.
        """
        self.is_spent = True  # until it is known that nothing is left behind
        try:
            slot = self._slots.get((text, names))
            if slot is None:
                slot = self._compiled(text, names)
            else:
                self._slots.move_to_end((text, names))
            given = self._call(slot, values)
            if given == _PENDING:
                self._run_jobs()
                given = self._settle(slot)
            self.is_spent = self._context.execute_pending_job()
        except self._error as error:
            raise self._limit(str(error)) from None
        return _value_of(given) if type(given) is str else self._other(given)

    def compile(self, text: str, names: tuple[str, ...]) -> None:
        """See whether an expression can be compiled; raises as `evaluate` does."""
        try:
            self._compiled(text, names)
        except self._error as error:
            raise self._limit(str(error)) from None

    def _compiled(self, text: str, names: tuple[str, ...]) -> int:
        """The slot of an expression that was not compiled so far."""
        if not self._free:
            self._free.append(self._slots.popitem(last=False)[1])
        slot = self._free[-1]
        self._other(self._compile(slot, text, ",".join(names)))
        self._slots[text, names] = self._free.pop()
        return slot

    def _run_jobs(self) -> None:
        """Run what promises wait for, until there is nothing to run."""
        until = time.perf_counter() + self._seconds
        while self._context.execute_pending_job():
            if time.perf_counter() > until:
                raise self._limit("interrupted")

    def _other(self, given: Any) -> Any:
        """What it means that a call gave no JSON."""
        if given == _FAILED:
            raise ExpressionError(_one_line(self._failure()))
        if given == _OUT_OF_STACK:
            self.is_spent = True
            raise self._limit("stack")
        if given is None or given == _OUT_OF_MEMORY:  # None: there was none left to hand over the text
            self.is_spent = True
            raise self._limit("out of memory")
        return UNDEFINED

    def _limit(self, message: str) -> _LimitError:
        """The error for what QuickJS throws past our own JavaScript."""
        if "interrupted" in message:
            return _TimeLimitError(f"it runs longer than {self._seconds:g} s")
        if "stack" in message:
            return _LimitError("its calls or its values are nested too deeply")
        return _LimitError(f"it needs more than {self._memory // 1024 // 1024} MiB of memory")


@functools.cache
def _prelude() -> str:
    """Our own JavaScript, which gives a function that gives four functions."""
    own = (resources.files("hotpath.flows") / "javascript.js").read_text(encoding="utf-8")
    return "\n" * _LINES_BEFORE + own


def _arguments(text: str, env: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """The names that an expression is compiled for, and the values of the first of them, as a JSON list.

    Those that are undefined come last, because JSON has no form of it.
    """
    names, steps = _plan(text, tuple(env))
    values = [env[name] for name in names]
    if steps is not None:
        at = names.index("results")
        if isinstance(values[at], Mapping):
            values[at] = {step: values[at][step] for step in steps if step in values[at]}
    if any(value is UNDEFINED for value in values):
        pairs = sorted(zip(names, values, strict=True), key=lambda pair: pair[1] is UNDEFINED)
        names = tuple(name for name, _ in pairs)
        values = [value for _, value in pairs if value is not UNDEFINED]
    try:
        return names, _encode(values).decode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only hold as an escape
        return names, json.dumps(values, default=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ExpressionError(f"JavaScript cannot be given the values it uses: {error}") from None


@functools.lru_cache(maxsize=4096)
def _plan(text: str, env: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str] | None]:
    """Which names of an environment an expression uses, and, if it says so, which steps of `results`.

    Raises `ExpressionError` for a text that is none.
    """
    if "\0" in text:
        raise ExpressionError("the expression holds a NUL character")
    if not text.strip("; \t\r\n"):
        raise ExpressionError("the expression is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ExpressionError("the expression holds a lone surrogate, which is not valid text") from None
    used = words(text)
    names = tuple(name for name in env if name in used)
    return names, steps_used(text) if "results" in names else None


def _plain(value: Any) -> Any:
    """What JSON makes of the values that it knows no form of."""
    if value is UNDEFINED:
        return None
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"`{type(value).__qualname__}` has no JSON form")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def _value_of(text: str) -> Any:
    """The value of JSON that JavaScript wrote; raises `ExpressionError` if it cannot be stored."""
    raw = text.encode()
    if len(raw) > MAX_BYTES:
        raise ExpressionError(f"the value is larger than {MAX_BYTES} bytes of JSON")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        value = json.loads(text)
    else:
        if not (NUL in raw and has_nul(raw)):
            return value
    fault = find_fault(value)
    raise ExpressionError(
        f"the value{fault.path} {fault.reason}" if fault else "the value is nested too deeply"
    )


def _one_line(message: str) -> str:
    return " ".join(message.split())
