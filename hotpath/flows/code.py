"""Flows that are written as code: the calls of a `main` that are steps.

    async def main(batch: int) -> float:
        rows = await hotpath.step(fetch, batch)
        scores = await hotpath.gather(*(hotpath.step(score, row) for row in rows))
        await hotpath.sleep(3600)
        await hotpath.approval("manager")
        return await hotpath.step(publish, scores)

In a synchronous `main` the same without `await`. docs/flows.md says what that means.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import msgspec

from hotpath.core.flow.tokens import make_token, steady_nonce
from hotpath.core.notes import Cached, Checkpoint, Dispatch, Mark, Parking, StepNote
from hotpath.errors import ApprovalTimeout, Disapproved, HotpathError, StepFailed
from hotpath.flows.calls import (
    OPTIONS,
    SUCCESS,
    Execute,
    StepJob,
    Target,
    check_name,
    encode_args,
    make_options,
    target_of,
)
from hotpath.flows.gather import gather_async
from hotpath.flows.steps import StepBatch
from hotpath.model import OutcomeState, Retry
from hotpath.runtime.code_run import CodeRun, current_scope, run_here
from hotpath.runtime.context import running_job
from hotpath.runtime.wishes import KNOWN, Again, LookUp, Pause, Wait, Walk, Written, drive, drive_sync

P = ParamSpec("P")
T = TypeVar("T")

RETRY = int(OutcomeState.RETRY)
IN_HAND_US = 1_000_000
"""A wait of up to a second is no reason to let the run go."""
MAX_SECONDS = 100 * 366 * 86400
TOKEN_US = 2 * 366 * 86400 * 1_000_000
"""A token is good until two years after the run was enqueued."""


class Call(Awaitable[Any]):
    """A call that was made, of an async `main`: await it once, or give it to `gather`."""

    __slots__ = ("_key", "_run", "_walk", "known")

    def __init__(self, run: CodeRun, key: str, walk: Walk[Any], known: str = "") -> None:
        self._run = run
        self._key = key
        self._walk: Walk[Any] | None = walk
        self.known = known
        """Key of the step, if it is one."""
        run.replay.made[key] = None

    def __await__(self) -> Generator[Any, Any, Any]:
        walk, self._walk = self._walk, None
        if walk is None:
            raise HotpathError(f"step {self._key} was awaited twice: keep its result")
        self._run.replay.made.pop(self._key, None)
        return drive(self._run, walk).__await__()


def _made(run: CodeRun, key: str, walk: Walk[Any], known: str = "") -> Any:
    """What the call is to `main`: something to await, or at once its result."""
    return Call(run, key, walk, known) if run.is_async else drive_sync(run, walk)


class _Step:
    """`hotpath.step`."""

    def __call__(self, target: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Run a function as a step of this run: its result is recorded and, when the run comes back after a
        crash or a wait, taken from there.

        In an async `main`, await what this returns (or give it to `gather`); in a synchronous one it returns
        the result. The result is what comes out of its JSON, as the type that the function's annotation says
        where that can be. Args need a JSON form. `target` may also be the name of a script, such as
        `"f/team/score"`: that job goes through the queue to a worker of that script, and takes its args by
        name.

        Raises `StepFailed` for a step that failed, `FlowChangedError` if this run went another way before,
        `HotpathError` outside a run.
        """
        name = (
            target.rpartition("/")[2].replace(".", "_") if isinstance(target, str) else target_of(target).name
        )
        return _call(name, target, args, kwargs)

    def named(self, name: str, target: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """The same, under a name of your choice: for a lambda, or to tell two uses of a function apart."""
        return _call(name, target, args, kwargs)

    def __repr__(self) -> str:
        return "hotpath.step"


step = _Step()


def task(
    *,
    retry: Retry | int | None = None,
    timeout: float | None = None,
    durable: str = "relaxed",
    cache_ttl: float | None = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Say how a function is run as a step; called plainly it is as before.

    - `retry`: a `hotpath.Retry`, or how many times it may run in all; by default once.
    - `timeout`: seconds that one run may take, in an async `main`. A synchronous function cannot be stopped:
      it is left behind.
    - `durable="strict"`: its result is committed before the run goes on; else within 25 ms.
    - `cache_ttl`: seconds for which its result serves other calls with the same args, of any run.

    Raises `ScriptError` that names the option for a value that makes no sense.
    """
    options = make_options(retry, timeout, durable, cache_ttl)

    def keep(function: Callable[P, T]) -> Callable[P, T]:
        setattr(function, OPTIONS, options)
        return function

    return keep


def _call(name: str, target: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    run = run_here()
    key = current_scope(run).key(check_name(name))
    if isinstance(target, str):
        if args:
            raise HotpathError(f"step {key}: the args of script {target} are given by name")
        return _made(run, key, _dispatched(run, key, target, encode_args(key, kwargs)), key)
    found = target_of(target)
    body = found.bind(key, args, kwargs)
    return _made(run, key, _stepped(run, key, found, target, args, kwargs, body), key)


# ---------------------------------------------------------------- a function


def _stepped(
    run: CodeRun,
    key: str,
    target: Target,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    body: bytes,
) -> Walk[Any]:
    yield KNOWN
    known = run.replay.ask(key, target.what, body)
    if known is not None:
        return _result(key, known, target)
    options, id_ = target.options, run.replay.id_of(key, target.what)
    cache_key = b"" if options.cache_ttl is None else _cache_key(run, target, body)
    if cache_key:
        kept = yield LookUp(cache_key)
        if kept is not None:
            run.note(StepNote(key, id_, 0, run.job.started // 1000, 0, SUCCESS, 1, body, kept, None))
            return target.decode(kept)
    mark = run.replay.mark(f"retry:{key}")
    failures = 0
    if mark is not None:
        failures = mark["failures"]
        yield from _until(run, mark["until"])
    while True:
        while run.batch.stopped:  # as no further job of a worker that is to stop begins, no further step does
            yield Wait(Parking(run.batch.now_us() + IN_HAND_US))
        attempt = failures + 1
        job = StepJob(run, key, id_, body, attempt)
        ended = yield Execute(job, target, function, args, kwargs)
        state = ended.state if ended.delay is None else RETRY
        note = StepNote(
            key, id_, 0, ended.started_us, ended.duration_us, state, attempt, body, ended.outcome, ended.log
        )
        if ended.delay is None:
            break
        run.note(note)
        failures = attempt
        if ended.delay * 1e6 <= IN_HAND_US:
            yield Pause(ended.delay)
        else:
            until = run.batch.now_us() + int(ended.delay * 1e6)
            mark = {"failures": failures, "until": until}
            run.note(Mark(f"retry:{key}", msgspec.json.encode(mark)))
            yield from _until(run, until)
    if mark is not None:
        run.note(Mark(f"retry:{key}", None))
    if options.strict:
        yield Written(note)
    else:
        run.note(note)
    if ended.state != SUCCESS:
        raise StepFailed(key, msgspec.json.decode(ended.outcome)) from ended.error
    if cache_key and options.cache_ttl is not None:
        run.note(Cached(cache_key, options.cache_ttl, ended.outcome))
    return target.decode(ended.outcome)


def _cache_key(run: CodeRun, target: Target, body: bytes) -> bytes:
    version = run.job.of.script.version.description.hash
    return hashlib.sha256(b"\0".join((version.encode(), target.what.encode(), body))).digest()


def _result(key: str, known: Checkpoint, target: Target | None = None) -> Any:
    if known.state != SUCCESS:
        raise StepFailed(key, msgspec.json.decode(known.outcome))
    return msgspec.json.decode(known.outcome) if target is None else target.decode(known.outcome)


def _until(run: CodeRun, until_us: int) -> Walk[None]:
    """Wait until then; the run need not be held for it."""
    while (left := until_us - run.batch.now_us()) > 0:
        if left <= IN_HAND_US:
            yield Pause(left / 1e6)
        else:
            yield Wait(Parking(until_us))


# ---------------------------------------------------------------- a script


def _dispatched(run: CodeRun, key: str, script: str, body: bytes) -> Walk[Any]:
    yield KNOWN
    known = run.replay.ask(key, script, body)
    if known is not None:
        return _result(key, known)
    id_ = run.replay.id_of(key, script)
    if run.replay.sent.get(key) != id_:
        run.note(Dispatch(key, id_, script, None, 0, None, body))
    while True:
        yield Wait(Parking(None, children=(id_,)))


# ---------------------------------------------------------------- waiting


def sleep(seconds: float) -> Any:
    """Wait so long, from the first time the run came here: over more than a second nothing is held for it, no
    worker and no memory, and it goes on when the time has come, wherever that is.

    In an async `main`, await it. Raises ValueError for what is no number of seconds, 0 or more.
    """
    given: object = seconds  # whatever the caller's types promise
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= MAX_SECONDS:
        raise ValueError(f"sleep takes a number of seconds from 0 to {MAX_SECONDS:,}, not {seconds!r}")
    run = run_here()
    key = current_scope(run).key("sleep", "sleep:")
    return _made(run, f"sleep:{key}", _slept(run, key, seconds))


def _slept(run: CodeRun, key: str, seconds: float) -> Walk[None]:
    yield KNOWN
    mark = run.replay.mark(f"sleep:{key}")
    if mark is None:
        mark = {"until": run.batch.now_us() + math.ceil(seconds * 1e6)}
        run.note(Mark(f"sleep:{key}", msgspec.json.encode(mark)))
    yield from _until(run, mark["until"])


def approval(
    name: str,
    *,
    timeout: float | None = None,
    form: Mapping[str, Any] | None = None,
) -> Any:
    """Wait until somebody approves, by a token of `resume_token(name)` or as an operator; nothing is held
    meanwhile. Gives what came with the approval.

    In an async `main`, await it. `timeout`: seconds, from the first time the run came here; `form`: a JSON
    Schema of what is to come with the approval, for whoever asks for it. Raises `Disapproved`,
    `ApprovalTimeout`, and ValueError for a time that makes no sense.
    """
    given: object = timeout
    if given is not None and (
        isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= MAX_SECONDS
    ):
        raise ValueError(f"the timeout of an approval is a number of seconds above 0, not {timeout!r}")
    run = run_here()
    key = current_scope(run).key(check_name(name), "suspend:")
    return _made(run, f"suspend:{key}", _approved(run, key, timeout, form))


def _approved(run: CodeRun, key: str, seconds: float | None, form: Mapping[str, Any] | None) -> Walk[Any]:
    yield KNOWN
    events = run.replay.events.get(key)
    mark = run.replay.mark(f"suspend:{key}")
    if mark is None:
        until = None if seconds is None else run.batch.now_us() + math.ceil(seconds * 1e6)
        mark = {"required": 1, "until": until, "form": form}
        run.note(Mark(f"suspend:{key}", encode_args(key, mark)))
    until = mark["until"]
    while not events:
        if until is not None and run.batch.now_us() >= until:
            # Nothing is taken any more: what is there now stays all there is.
            recalled = yield Again()
            events = recalled.events.get(key) if recalled is not None else None
            if not events:
                raise ApprovalTimeout(f"{key} was not approved in time")
        else:
            yield Wait(Parking(until, events={key: 0}))
    event = events[0]
    answer = msgspec.json.decode(event.payload)
    if not event.approved:
        raise Disapproved(key, answer, event.approver)
    return answer


# ---------------------------------------------------------------- side by side


def gather(*calls: Any, limit: int | None = None) -> Any:
    """Several calls at the same time, at most `limit` of them: their results, in order.

    Takes calls (`gather(step(f, 1), step(f, 2))`) or one iterable of them; with a `limit` that is asked for
    the next call when there is room, so it may be long. Coroutines that make calls themselves will do too.
    All calls run to their ends, then the first one that failed raises. In an async `main`, await it; in a
    synchronous one the calls run one after the other, as they are made.
    """
    given: object = limit
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise ValueError(f"the limit of gather is a whole number of at least 1, not {limit!r}")
    run = run_here()
    items: Iterable[Any] = calls
    if len(calls) == 1 and isinstance(calls[0], Iterable) and not isinstance(calls[0], Awaitable):
        items = calls[0]
    if not run.is_async:
        return list(items)
    scope = current_scope(run)
    return gather_async(run, scope.key("gather", "gather:"), iter(items), limit, _is_known)


def _is_known(run: CodeRun, item: Any) -> bool:
    """Whether this call has its answer, and so needs no task."""
    return isinstance(item, Call) and item.known in run.replay.known


# ---------------------------------------------------------------- tokens


def resume_token(key: str | None = None, approver: str = "") -> str:
    """A token with which whoever has it can approve or disapprove, once, without any other right: to be
    sent to `approver`, each with a name of its own. The same step and approver always get the same.

    `key` is the name of the approval (in a flow file, the id of the step that suspends; by default the step
    that this runs in). Good for two years from the run's beginning. Raises `HotpathError` outside a flow, or
    where no database is.
    """
    job = running_job()
    batch: object = job.of.batch
    if isinstance(batch, StepJob):
        run, own = batch.run.batch.ids[batch.run.index], batch.key
        secret = getattr(batch.run.job.of.script, "secret", None)
    else:
        secret = getattr(job.of.script, "secret", None)
        if isinstance(batch, StepBatch):
            call = batch.calls[job.index]
            run, own = call.run.holder.batch.ids[call.run.holder.index], call.key
        else:
            run, own = run_here().replay.run, None
    key = own if key is None else key
    if not key:
        raise HotpathError("resume_token() in `main` needs the name of the approval: resume_token(NAME)")
    if not secret:
        raise HotpathError("resume_token() needs a worker: this job runs without a database")
    created_us = (run.int >> 80) * 1000
    try:
        nonce = steady_nonce(secret, run, key, approver)
        return make_token(secret, run, key, nonce, created_us + TOKEN_US, approver)
    except ValueError as error:
        raise HotpathError(f"resume_token(): {error}") from None
