"""Jobs with secret args leave no secret behind: what their logs, results and errors lose.

A script without such args never comes here: that is decided once, when it is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from hotpath.core.secrets import MaskedStream, Masker, masker_of
from hotpath.model import OutcomeState
from hotpath.runtime import joblog, payload
from hotpath.runtime.joblog import JobLog, Tee

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hotpath.core.secrets import Places
    from hotpath.runtime.context import BatchInHand, RunningJob
    from hotpath.runtime.protocol import Outcome

SUCCESS, FAILURE = int(OutcomeState.SUCCESS), int(OutcomeState.FAILURE)


class Masking:
    """The secrets of the jobs of one batch."""

    __slots__ = ("_again", "_given", "_hand", "_keeps_results", "_known", "_places", "_report")

    def __init__(
        self, hand: BatchInHand, places: Places | None, given: Sequence[Masker | None] | None
    ) -> None:
        """`given`: what is masked besides for each job, of steps of a flow."""
        self._hand = hand
        self._report, self._again = hand.report, hand.again
        self._places = places
        self._given = given
        self._known: dict[int, Masker] = {}
        self._keeps_results = bool(getattr(hand.batch, "of_steps", False))

    def masker(self, index: int) -> Masker:
        """What takes the secrets of this job out of a text."""
        masker = self._known.get(index)
        if masker is None:
            texts: list[str] = [] if self._places is None else self._places.texts(self._hand.args(index))
            given = None if self._given is None else self._given[index]
            if given is not None:
                texts += given.secrets
            masker = self._known[index] = masker_of(tuple(sorted(set(texts))))
        return masker

    def masked(self, outcome: Outcome) -> Outcome:
        """An outcome that may be seen. The result of a step stays as it is: later steps are to have it."""
        index, state, started, duration, body, log = outcome
        if state == SUCCESS and self._keeps_results:
            return outcome
        try:
            masker = self.masker(index)
        except RecursionError:  # nobody can read its args, and so `main` has not; nothing of it is shown
            said = "the args are nested too deeply to be read"
            return index, FAILURE, started, duration, payload.bad_args(said), None
        state, body = mask_outcome(masker, state, body)
        return index, state, started, duration, body, log

    def report(self, outcome: Outcome) -> object:
        """What the hand did before."""
        return self._report(self.masked(outcome))

    def retry(self, outcome: Outcome, delay: float) -> object:
        """Likewise."""
        return self._again(self.masked(outcome), delay)


def mask_outcome(masker: Masker, state: int, body: bytes) -> tuple[int, bytes]:
    """State and payload of an outcome, without these secrets."""
    if not masker:
        return state, body
    if state == SUCCESS:
        body = masker.json(body)
        if len(body) > payload.MAX_BYTES:  # the mask may be longer than what it stands for
            return FAILURE, payload.bad_result(None, body, None)
        return state, body
    return state, msgspec.json.encode(masker.error(msgspec.json.decode(body)))


class MaskedLog(JobLog):
    """A log that secrets do not get into, in one piece or in several."""

    __slots__ = ("_stream",)

    def __init__(self, masker: Masker, started: int = 0, tee: Tee | None = None, token: int = 0) -> None:
        super().__init__(started, tee, token)
        self._stream = MaskedStream(masker)

    def write(self, text: str) -> None:
        """Add to the log. What may be the beginning of a secret waits for what comes next."""
        with joblog.lock:
            if shown := self._stream.feed(text):
                super().write(shown)

    def text(self) -> str | None:
        """As that of any log, with what has been waiting."""
        with joblog.lock:
            if self.decoder is not None:
                self.write(self.decoder.decode(b"", final=True))
            super().write(self._stream.rest())
            return super().text()


def log_for(job: RunningJob, tee: Tee | None = None) -> JobLog:
    """A log for this job, of which the tee is told, with the job's token."""
    masking = job.of.masking
    token = 0 if tee is None else job.of.batch.number + job.index
    if masking is None:
        return JobLog(job.started, tee, token)
    return MaskedLog(masking.masker(job.index), job.started, tee, token)


def late(job: RunningJob, text: str) -> str:
    """What a job says when it has ended, to whoever has the worker's own output."""
    masking = job.of.masking
    return text if masking is None else masking.masker(job.index).text(text)
