"""Functions as steps of a flow that is code: what a call is, and how it is run as a job of its own."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import time
import typing
from collections.abc import Callable, Container, Mapping, MutableSequence, Sequence
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakKeyDictionary

import attrs
import msgspec
import trio

from hotpath.core.storable import MAX_BYTES, NUL, encode_custom, find_fault
from hotpath.errors import HotpathError, ScriptError
from hotpath.flows.steps import NESTED
from hotpath.model import ErrorKind, OutcomeState, Retry
from hotpath.runtime import payload
from hotpath.runtime.capture import log_of, step_begins, step_ends
from hotpath.runtime.code_run import CodeRun, current_run
from hotpath.runtime.context import CLOSED, BatchInHand, RunningJob, current
from hotpath.runtime.ending import delay_of
from hotpath.runtime.joblog import JobLog
from hotpath.runtime.masking import Masking, mask_outcome
from hotpath.runtime.stepping import resume
from hotpath.scripts.signature import decode_custom, is_async

if TYPE_CHECKING:
    from hotpath.runtime.protocol import Outcome

SUCCESS, FAILURE = int(OutcomeState.SUCCESS), int(OutcomeState.FAILURE)
OPTIONS = "__hotpath_task__"
"""Attribute of a function that has options as a step."""
_NAME = re.compile(r"[^\W\d][\w-]{0,199}")
# Sets come out in one order in every process, so that the same args are the same bytes.
_encode_args = msgspec.json.Encoder(enc_hook=encode_custom, order="deterministic").encode


@attrs.frozen
class Options:
    """How a function is run as a step."""

    retry: Retry | None = None
    timeout: float | None = None
    strict: bool = False
    cache_ttl: float | None = None


PLAIN = Options()


def check_name(name: object) -> str:
    """The name of a step. Raises HotpathError for one that cannot be."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise HotpathError(
            f"{name!r} cannot be the name of a step: it takes letters, digits, `_` and `-`, and begins with "
            f"a letter; name it with `hotpath.step.named(NAME, ...)`"
        )
    return name


class Target:
    """A function that is called as a step: what is known of it, once."""

    __slots__ = ("__weakref__", "_decode", "_signature", "is_async", "name", "options", "what")

    def __init__(self, function: Callable[..., Any]) -> None:
        bare: Any = inspect.unwrap(function)
        while isinstance(bare, functools.partial):
            bare = bare.func
        self.name: str = getattr(bare, "__name__", type(bare).__name__)
        self.what: str = getattr(bare, "__qualname__", type(bare).__qualname__)
        self.is_async = is_async(function)
        options = getattr(function, OPTIONS, None) or getattr(bare, OPTIONS, None)
        self.options: Options = options or PLAIN
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):
            self._signature = None
        self._decode = _decoder(bare)

    def bind(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """JSON of these args by name. Raises HotpathError where that cannot be."""
        if self._signature is None:
            if args:
                raise HotpathError(
                    f"step {key}: the signature of {self.what} cannot be read: give its args by name"
                )
            return encode_args(key, kwargs)
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise HotpathError(f"step {key}: {self.what}() cannot be called like this: {error}") from None
        named = dict(bound.arguments)
        for parameter in self._signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                named.update(named.pop(parameter.name, {}))
        return encode_args(key, named)

    def decode(self, raw: bytes) -> Any:
        """The result, as the function's annotation has it if that can be."""
        return self._decode(raw)


def _decoder(function: Any) -> Callable[[bytes], Any]:
    try:
        kind = typing.get_type_hints(function, include_extras=True)["return"]
        typed = msgspec.json.Decoder(kind, dec_hook=decode_custom).decode
    except Exception:  # noqa: BLE001 - annotations are expressions, and types have hooks: anything comes out
        return msgspec.json.decode

    def decode(raw: bytes) -> Any:
        try:
            return typed(raw)
        except Exception:  # noqa: BLE001 - the annotation is not true; a replay finds the same
            return msgspec.json.decode(raw)

    return decode


_targets: WeakKeyDictionary[Any, Target] = WeakKeyDictionary()


def target_of(function: Any) -> Target:
    """What is known of a function. Raises HotpathError for what is none."""
    if not callable(function):
        raise HotpathError(
            f"hotpath.step takes a function, or the name of a script, and not {type(function).__name__}; "
            f"write `step(function, x)` and not `step(function(x))`"
        )
    try:
        found = _targets.get(function)
        if found is None:
            found = _targets[function] = Target(function)
    except TypeError:  # cannot be referred to weakly, or has no hash
        return Target(function)
    return found


def encode_args(key: str, args: Mapping[str, Any]) -> bytes:
    """JSON of a step's args. Raises HotpathError that names the arg which has none."""
    try:
        raw = _encode_args(args)
    except Exception as error:  # noqa: BLE001 - the args' own code runs in there
        reason = str(error)
        for name, value in args.items():
            if fault := find_fault(value):
                reason = f"`{name}{fault.path}` {fault.reason}"
                break
        raise HotpathError(f"step {key}: its args cannot be written as JSON: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise HotpathError(
            f"step {key}: its args are {len(raw):,} bytes of JSON; at most {MAX_BYTES:,} are stored"
        )
    if NUL in raw and not payload.is_storable(raw):
        raise HotpathError(f"step {key}: its args hold a NUL, which cannot be stored")
    return raw


class StepJob:
    """One run of a step, as the batch that its code sees: `hotpath.Batch`, with one job."""

    of_steps = True
    """As `StepBatch`'s."""

    def __init__(self, run: CodeRun, key: str, id_: bytes, args: bytes, attempt: int) -> None:
        batch, index = run.batch, run.index
        self.run = run
        self.key = key
        self.args = b"[" + args + b"]"
        self.ids: Sequence[UUID] = (UUID(bytes=id_),)
        self.attempts: Sequence[int] = (attempt,)
        self.tag = batch.tag
        self.timeouts: Sequence[float | None] | None = None
        self.number = batch.tokens[index]
        self.tokens: Sequence[int] = (self.number,)
        self.mark: MutableSequence[int] = [0, 0]
        self.begun = 0
        self.canceling: Container[int] = (0,) if index in batch.canceling else ()

    def __len__(self) -> int:
        return 1

    @property
    def traces(self) -> Mapping[int, str] | None:
        """The run's span, as `traceparent`."""
        spans = self.run.job.of.spans
        trace = None if spans is None else spans.traceparent(self.run.index)
        return None if trace is None else {0: trace}

    def key_of(self, _index: int) -> str:
        """Which step of its run it is."""
        return self.key

    @property
    def until(self) -> int:
        """The run's."""
        return self.run.batch.until

    @property
    def stopped(self) -> bool:
        """The run's."""
        return self.run.batch.stopped

    def now_us(self) -> int:
        """The database's clock."""
        return self.run.batch.now_us()

    def report(self, outcome: Outcome) -> None:
        """Raises HotpathError, as all that follows: it is the call that tells how it ended."""
        raise HotpathError(NESTED)

    def retry(self, outcome: Outcome, delay: float) -> None:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    def note(self, index: int, note: Any, on_written: Callable[[], object] | None = None) -> None:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    def park(self, index: int, parking: Any, log: str | None = None) -> None:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    async def recall(self, indexes: Sequence[int]) -> Mapping[int, Any]:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    async def cached(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Raises HotpathError."""
        raise HotpathError(NESTED)

    async def admit(self, script: int, most: int) -> Container[int]:
        """Raises HotpathError."""
        raise HotpathError(NESTED)


@attrs.frozen(eq=False)
class Ended:
    """How one run of a step ended."""

    state: int
    outcome: bytes
    error: BaseException | None
    delay: float | None
    """Seconds until it is to run again; None: it is not."""
    started_us: int
    duration_us: int
    log: str | None


class Execute:
    """That a step's function is run, once."""

    __slots__ = ("_before", "_context", "_job", "args", "function", "kwargs", "step", "target")

    def __init__(
        self,
        step: StepJob,
        target: Target,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.step = step
        self.target = target
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self._before: RunningJob | None = None

    async def grant(self, run: CodeRun) -> Ended:
        """On Trio; a sync function in a thread."""
        context = self._begin(run)
        timeout = self.target.options.timeout
        try:
            with trio.CancelScope() as scope:
                if timeout is not None:
                    scope.deadline = trio.current_time() + timeout
                if self.target.is_async:
                    coroutine = context.run(self.function, *self.args, **self.kwargs)
                    result = await _run_in(context, coroutine)
                else:
                    result = await trio.to_thread.run_sync(
                        self._call,
                        context,
                        abandon_on_cancel=timeout is not None,
                    )
        except BaseException as error:  # noqa: BLE001 - sys.exit() ends the step, not the run
            return self._raised(run, error)
        if scope.cancelled_caught:
            late = TimeoutError(f"the step ran longer than its timeout of {timeout:g} s")
            return self._raised(run, late, ErrorKind.TIMEOUT)
        return self._returned(result)

    def grant_sync(self, run: CodeRun) -> Ended:
        """In this thread."""
        if self.target.options.timeout is not None:
            raise HotpathError(
                f"step {self.step.key}: the timeout of a step needs an async main: make `main` async, or say "
                "`hotpath.settings(timeout=...)`"
            )
        context = self._begin(run)
        if self.target.is_async:
            raise HotpathError(
                f"step {self.step.key}: {self.target.what} is async, which needs an async main: make `main` "
                "async"
            )
        try:
            self._before = step_begins(self._job)
            result = self._call(context)
        except BaseException as error:  # noqa: BLE001 - as above
            return self._raised(run, error)
        return self._returned(result)

    def _call(self, context: Context) -> Any:
        return context.run(self.function, *self.args, **self.kwargs)

    def _begin(self, run: CodeRun) -> Context:
        hand = BatchInHand(self.step, run.job.of.script)
        hand.timeout, hand.retry = self.target.options.timeout, self.target.options.retry
        masking = run.job.of.masking
        if masking is not None:
            hand.mask(Masking(hand, None, [masking.masker(run.index)]))
        self._job = RunningJob(hand, 0)
        context = copy_context()  # what the step sets in its context ends with it
        context.run(current.set, self._job)
        context.run(current_run.set, self.step.key)
        if hand.spans is not None:
            context.run(hand.spans.begin, self._job)
        self._job.started = time.perf_counter_ns()
        return context

    def _returned(self, result: Any) -> Ended:
        ended = time.perf_counter_ns()
        try:
            state, body = SUCCESS, payload.encode(result)
            if (NUL in body or len(body) > MAX_BYTES) and not payload.is_storable(body):
                state, body = FAILURE, payload.bad_result(result, body, None)
        except BaseException as error:  # noqa: BLE001 - the result's own code runs in there
            state, body = FAILURE, payload.bad_result(result, None, error)
        return self._ended(state, body, None, None, ended)

    def _raised(self, run: CodeRun, error: BaseException, kind: ErrorKind | None = None) -> Ended:
        ended = time.perf_counter_ns()
        if not isinstance(error, Exception | SystemExit):
            # The run itself is to end, or waits no longer for it: no end of the step's own.
            self._leave_log(run)
            raise error
        if kind is None:
            body = payload.failure(error)
        else:
            body = payload.error_object("TimeoutError", str(error), kind)
        masking = self._job.of.masking
        if masking is not None:
            _, body = mask_outcome(masking.masker(0), FAILURE, body)
        delay = delay_of(self._job.of, 0, error, kind)
        return self._ended(FAILURE, body, error, delay, ended)

    def _leave_log(self, run: CodeRun) -> None:
        """What the step has printed so far is the run's."""
        if self._job.of.spans is not None:
            self._job.of.spans.end(0, "parked")
        text = self._text()
        log = log_of(run.job)
        if text and log is not None:
            log.write(text)

    def _text(self) -> str | None:
        step_ends(self._before)
        self._before = None
        log, self._job.log = self._job.log, CLOSED
        return log.text() if isinstance(log, JobLog) else None

    def _ended(
        self, state: int, outcome: bytes, error: BaseException | None, delay: float | None, ended: int
    ) -> Ended:
        started = self._job.started
        spans = self._job.of.spans
        if spans is not None:
            spans.end(0, "success" if state == SUCCESS else "failure", outcome)
        return Ended(state, outcome, error, delay, started // 1000, (ended - started) // 1000, self._text())


async def _run_in(context: Context, coroutine: Any) -> Any:
    """Await it in a context of its own."""
    if not inspect.iscoroutine(coroutine):
        return await coroutine
    try:
        trap = context.run(coroutine.send, None)
    except StopIteration as stop:
        return stop.value
    result, error = await resume(coroutine, context, trap, [0, 0], 0, 0)
    if error is not None:
        raise error
    return result


def is_step(batch: object) -> bool:
    """Whether this is a run of a step, of a flow that is code."""
    return isinstance(batch, StepJob)


def make_options(
    retry: Retry | int | None, timeout: float | None, durable: str, cache_ttl: float | None
) -> Options:
    """Options of a step, checked. Raises `ScriptError` that names the one that makes no sense."""
    from hotpath.scripts.settings import make_settings

    given = {"retry": retry, "timeout": timeout}
    said = make_settings(
        {name: value for name, value in given.items() if value is not None}, "hotpath.task()"
    )
    if durable not in {"relaxed", "strict"}:
        raise ScriptError(f"hotpath.task(): `durable` is 'relaxed' or 'strict', not {durable!r}")
    ttl: object = cache_ttl  # whatever the caller's types promise
    number = isinstance(ttl, int | float) and not isinstance(ttl, bool) and 0 < ttl < sys.maxsize
    if ttl is not None and not number:
        raise ScriptError(f"hotpath.task(): `cache_ttl` is a number of seconds above 0, not {cache_ttl!r}")
    return Options(said.retry, said.timeout, durable == "strict", cache_ttl)
