"""Hotpath: a for-loop with a queue around it.

Public names only. They are loaded when first used (PEP 562), because every script imports this package and a
script should not pay for a database driver that it does not use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hotpath.version import __version__

if TYPE_CHECKING:
    from hotpath.client import open_client as open_client
    from hotpath.client import tail as tail
    from hotpath.core.flow.tokens import TokenError as TokenError
    from hotpath.errors import ApprovalError as ApprovalError
    from hotpath.errors import ApprovalTimeout as ApprovalTimeout
    from hotpath.errors import BadArgsError as BadArgsError
    from hotpath.errors import BadResultError as BadResultError
    from hotpath.errors import DatabaseUnavailableError as DatabaseUnavailableError
    from hotpath.errors import Disapproved as Disapproved
    from hotpath.errors import Discard as Discard
    from hotpath.errors import FlowChangedError as FlowChangedError
    from hotpath.errors import HotpathError as HotpathError
    from hotpath.errors import JobCanceled as JobCanceled
    from hotpath.errors import JobError as JobError
    from hotpath.errors import JobFailed as JobFailed
    from hotpath.errors import JobInterrupted as JobInterrupted
    from hotpath.errors import LeaseLost as LeaseLost
    from hotpath.errors import NotKeptError as NotKeptError
    from hotpath.errors import NotSuspendedError as NotSuspendedError
    from hotpath.errors import NotUniqueError as NotUniqueError
    from hotpath.errors import RetryLater as RetryLater
    from hotpath.errors import SchemaError as SchemaError
    from hotpath.errors import ScriptError as ScriptError
    from hotpath.errors import ScriptImportError as ScriptImportError
    from hotpath.errors import StepFailed as StepFailed
    from hotpath.errors import UnknownJobError as UnknownJobError
    from hotpath.errors import UnknownScriptError as UnknownScriptError
    from hotpath.errors import UsageError as UsageError
    from hotpath.flows.code import approval as approval
    from hotpath.flows.code import gather as gather
    from hotpath.flows.code import resume_token as resume_token
    from hotpath.flows.code import sleep as sleep
    from hotpath.flows.code import step as step
    from hotpath.flows.code import task as task
    from hotpath.model import Attempt as Attempt
    from hotpath.model import Debounce as Debounce
    from hotpath.model import Job as Job
    from hotpath.model import JobContext as JobContext
    from hotpath.model import Limit as Limit
    from hotpath.model import Retention as Retention
    from hotpath.model import Retry as Retry
    from hotpath.model import Secret as Secret
    from hotpath.model import State as State
    from hotpath.model import Unique as Unique
    from hotpath.runtime.context import current_job as current_job
    from hotpath.runtime.context import progress as progress
    from hotpath.runtime.protocol import Batch as Batch
    from hotpath.runtime.protocol import Interruptible as Interruptible
    from hotpath.runtime.protocol import Outcome as Outcome
    from hotpath.runtime.protocol import Runtime as Runtime
    from hotpath.runtime.protocol import Script as Script
    from hotpath.runtime.sync import SyncRuntime as SyncRuntime
    from hotpath.runtime.trio_runtime import AsyncRuntime as AsyncRuntime
    from hotpath.scripts.settings import settings as settings
    from hotpath.store.logs import LogChunk as LogChunk
    from hotpath.worker import dedicated as dedicated
    from hotpath.worker import serve_worker as serve_worker
    from hotpath.worker.completion import completion as completion

_HOME = {
    "hotpath.client": ("open_client", "tail"),
    "hotpath.core.flow.tokens": ("TokenError",),
    "hotpath.errors": (
        "ApprovalError",
        "ApprovalTimeout",
        "BadArgsError",
        "BadResultError",
        "DatabaseUnavailableError",
        "Disapproved",
        "Discard",
        "FlowChangedError",
        "HotpathError",
        "JobCanceled",
        "JobError",
        "JobFailed",
        "JobInterrupted",
        "LeaseLost",
        "NotKeptError",
        "NotSuspendedError",
        "NotUniqueError",
        "RetryLater",
        "SchemaError",
        "ScriptError",
        "ScriptImportError",
        "StepFailed",
        "UnknownJobError",
        "UnknownScriptError",
        "UsageError",
    ),
    "hotpath.flows.code": ("approval", "gather", "resume_token", "sleep", "step", "task"),
    "hotpath.model": (
        "Attempt",
        "Debounce",
        "Job",
        "JobContext",
        "Limit",
        "Retention",
        "Retry",
        "Secret",
        "State",
        "Unique",
    ),
    "hotpath.runtime.context": ("current_job", "progress"),
    "hotpath.runtime.protocol": ("Batch", "Interruptible", "Outcome", "Runtime", "Script"),
    "hotpath.runtime.sync": ("SyncRuntime",),
    "hotpath.runtime.trio_runtime": ("AsyncRuntime",),
    "hotpath.scripts.settings": ("settings",),
    "hotpath.store.logs": ("LogChunk",),
    "hotpath.worker": ("dedicated", "serve_worker"),
    "hotpath.worker.completion": ("completion",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604 - all are strings


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        message = f"module 'hotpath' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
