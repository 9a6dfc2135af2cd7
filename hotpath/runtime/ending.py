"""How an attempt without success is reported: as a failure, as canceled, to run again; or it is parked."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hotpath.core.retry import TIMED_OUT, decide, names_of
from hotpath.errors import Discard, RetryLater
from hotpath.model import ErrorKind, OutcomeState
from hotpath.runtime import payload
from hotpath.runtime.context import CLOSED
from hotpath.runtime.parking import parking_of

if TYPE_CHECKING:
    from hotpath.runtime.context import BatchInHand, RunningJob

FAILURE, CANCELED, RETRY = map(int, (OutcomeState.FAILURE, OutcomeState.CANCELED, OutcomeState.RETRY))


def refuse(hand: BatchInHand, index: int) -> None:
    """Report a job that does not begin: its args do not fit, or it was canceled before its turn."""
    why = hand.refused[index]
    now = time.perf_counter_ns() // 1000
    if why is ErrorKind.CANCELED:
        outcome = (index, CANCELED, now, 0, payload.canceled(), None)
    else:
        outcome = (index, FAILURE, now, 0, payload.bad_args(why), None)
    hand.report(outcome)


def fail(
    job: RunningJob, error: BaseException, ended: int, kind: ErrorKind | None = None, hint: str = ""
) -> None:
    """Report a job whose `main` raised; `kind` if it was made to. One that has left to wait is parked;
    nothing is reported of a batch given up.
    """
    hand, index = job.of, job.index
    parking = parking_of(error) if kind is None else None
    if parking is not None:
        text, job.log = _text(job), CLOSED
        if not hand.given_up:
            (hand.batch if hand.spans is None else hand.spans).park(index, parking, text)
        return
    started = job.started
    body = _body(hand, index, error, kind, hint)
    delay = None if kind is ErrorKind.CANCELED else delay_of(hand, index, error, kind)
    text, job.log = _text(job), CLOSED
    if hand.given_up:
        return
    state = CANCELED if kind is ErrorKind.CANCELED else FAILURE if delay is None else RETRY
    outcome = (index, state, started // 1000, (ended - started) // 1000, body, text)
    if delay is None:
        hand.report(outcome)
    else:
        hand.again(outcome, delay)


def _text(job: RunningJob) -> str | None:
    return job.log.text() if job.log else None  # type: ignore[union-attr]


def _body(hand: BatchInHand, index: int, error: BaseException, kind: ErrorKind | None, hint: str) -> bytes:
    try:
        if kind is ErrorKind.CANCELED:
            return payload.canceled(error)
        if kind is ErrorKind.TIMEOUT:
            return payload.timed_out(hand.limit(index), error)
        return payload.failure(error, hint)
    except MemoryError:  # what main held is still alive in the frames of its traceback
        traceback.clear_frames(error.__traceback__)
        return payload.failure(error.with_traceback(None), hint)


def delay_of(
    hand: BatchInHand, index: int, error: BaseException, kind: ErrorKind | None = None
) -> float | None:
    """Seconds until this job runs again, by what it raised and by the script's policy; None: it does not.

    Of an exception group each part must be worth another attempt.
    """
    retry, attempt = hand.retry, hand.batch.attempts[index]
    parts = list(_parts(error))
    if any(isinstance(part, Discard) for part in parts):
        return None
    asked = [part.delay for part in parts if isinstance(part, RetryLater)]
    if asked:
        return max(asked) if retry is None or attempt < retry.attempts else None
    if retry is None:
        return None
    chance = random.random()
    if kind is ErrorKind.TIMEOUT:
        return decide(retry, attempt, TIMED_OUT, chance)
    delays = [decide(retry, attempt, names_of(type(part)), chance) for part in parts]
    return delays[0] if None not in delays else None


def _parts(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _parts(part)
    else:
        yield error
