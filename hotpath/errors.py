"""Every error Hotpath raises on purpose, in one tree.

Each class says who is at fault through its exit code (CONTRACT): 1 the job or the request, 2 the usage, 3 the
database. The message is one line: what happened, and what to do about it.
"""

from __future__ import annotations

from typing import Any, ClassVar


class HotpathError(Exception):
    """Root of Hotpath's own errors; `str()` of one is fit for a user's eyes."""

    exit_code: ClassVar[int] = 1


class UsageError(HotpathError):
    """A wrong flag, setting or environment value."""

    exit_code = 2


class DatabaseUnavailableError(HotpathError):
    """No database could be reached, or it refused this user."""

    exit_code = 3


class SchemaError(DatabaseUnavailableError):
    """The database's schema is missing, or too new for this program."""


class ServerError(HotpathError):
    """A server of Hotpath (`hotpath serve`) cannot be reached, or refuses what it was asked; `is_final`: it
    will go on doing so.
    """

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class ScriptError(HotpathError):
    """A script is unknown, cannot be found, or cannot be loaded."""


class UnknownScriptError(ScriptError):
    """Nobody has registered a script of this name in this database."""


class ScriptImportError(ScriptError):
    """The module raised while it was imported; `traceback` shows it as its author wrote it."""

    def __init__(self, message: str, *, name: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.traceback = traceback


class BadArgsError(HotpathError):
    """Args that the script's signature does not accept; the message names the field."""


class BadResultError(HotpathError):
    """A result that cannot be stored: not JSON, a NUL in its text, or over 16 MiB."""


class UnknownJobError(HotpathError):
    """No job has this id."""


class UnknownGroupError(HotpathError):
    """No worker group of this name is configured."""


class GroupInUseError(HotpathError):
    """Live workers belong to the group."""


class GroupChangedError(HotpathError):
    """Somebody else has changed the group since it was read."""


class NotKeptError(HotpathError):
    """What was asked for is not kept any more: the args, without which a job cannot be run again, or the
    result.
    """


class NotSuspendedError(HotpathError):
    """A run does not wait for this approval: it waits for none, has ended, or has its answer."""


class NotUniqueError(HotpathError):
    """Another job has the unique key; the message names it."""


class JobError(HotpathError):
    """A job that was waited for did not end in success; `error` is the stored error object."""

    def __init__(self, message: str, error: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.error: dict[str, Any] = error or {}


class JobFailed(JobError):
    """The job ended in `failure`."""


class JobCanceled(JobError):
    """The job was canceled."""


class LeaseLost(HotpathError):
    """The lease of the running job was lost: nothing it still writes may count, it runs again elsewhere."""


MAX_RETRY_LATER = 100 * 366 * 86400
"""Seconds; a date further away than a hundred years is a mistake."""


class RetryLater(HotpathError):
    """For `main` to raise: this attempt failed, run the job again `delay` seconds from now.

    The attempt counts. Where the script has a `Retry`, its `attempts` hold and its delays do not; without one
    there is no end to it. Raises ValueError for a delay that is no finite number of seconds, 0 or more.
    """

    def __init__(self, delay: float, message: str = "") -> None:
        given: object = delay  # whatever the caller's types promise
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= MAX_RETRY_LATER:
            raise ValueError(
                f"RetryLater takes a number of seconds from 0 to {MAX_RETRY_LATER:,}, not {delay!r}"
            )
        super().__init__(message or f"to be run again in {delay:g} s")
        self.delay = float(delay)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.delay, str(self))


class Discard(HotpathError):
    """For `main` to raise: the job failed for good, whatever its `Retry` says."""


class StepFailed(HotpathError):
    """A step of a flow written as code did not end in success; the exception that it raised, if this run saw
    it, is the `__cause__`.
    """

    def __init__(self, step: str, error: dict[str, Any]) -> None:
        super().__init__(f"step {step}: {error.get('name', 'Error')}: {error.get('message', '')}")
        self.step = step
        """Key of the step, such as `score#2`."""
        self.error = error
        """The stored error object: name, message, traceback, kind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step, self.error)


class FlowChangedError(Discard):
    """A run of a flow written as code went another way than before, so what was recorded does not fit."""


class ApprovalError(HotpathError):
    """Nobody approved."""


class Disapproved(ApprovalError):
    """Somebody said no."""

    def __init__(self, step: str, payload: Any = None, approver: str | None = None) -> None:
        who = f" by {approver}" if approver else ""
        super().__init__(f"{step} was disapproved{who}")
        self.step = step
        self.payload = payload
        """What came with the answer."""
        self.approver = approver

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step, self.payload, self.approver)


class ApprovalTimeout(ApprovalError):
    """Nobody answered in time."""


class JobInterrupted(BaseException):
    """Raised inside a synchronous `main` whose time is up or whose job was canceled.

    No `Exception`, so that `except Exception` does not keep the job running. `finally` blocks get a few
    seconds; what they raise instead does not change how the job ends.
    """

    kind: str = "canceled"
    """`timeout` or `canceled`."""

    def __init__(self, message: str = "", *, kind: str = "") -> None:
        self.kind = kind or self.kind
        super().__init__(message or f"the job was interrupted: {self.kind}")
