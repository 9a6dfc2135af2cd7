"""A finding: what is wrong, what shows it, and what mends it."""

from __future__ import annotations

import enum
from typing import Any

import attrs


class Severity(enum.StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Jobs do not run, or are in danger: the exit code is 1."""
    WARNING = "warning"
    """It will be bad, or costs something."""
    NOTE = "note"
    """Good to know."""


CODES: dict[str, str] = {
    "no-database": "The database cannot be reached",
    "schema": "The schema and this program do not fit",
    "check-failed": "A check could not be made",
    "held-vacuum": "Something holds back vacuum",
    "idle-transaction": "A transaction is open and idle",
    "slot-keeps-wal": "A replication slot keeps WAL",
    "dead-rows": "Vacuum does not keep up",
    "bloat": "A table is much larger than its rows",
    "autovacuum-off": "Autovacuum is off",
    "not-durable": "What is acknowledged may be lost",
    "small-memory": "The server uses little memory",
    "frequent-checkpoints": "The server makes checkpoints too often",
    "connections": "The server runs out of connections",
    "end-of-life": "This PostgreSQL gets no fixes any more, or soon will not",
    "wraparound": "Transaction numbers run out",
    "rights": "Rights are missing",
    "partitions": "Days have no partition",
    "old-partitions": "Old days are detached and not dropped",
    "retention": "Retention does not do what it should",
    "disk-bound": "The bound of the disk",
    "lost-worker": "A dead worker holds jobs",
    "deaf-worker": "A worker is deaf",
    "versions": "Versions differ",
    "overdue": "Jobs wait long",
    "stranded": "Nobody will run jobs of a tag",
    "paused": "A tag is paused",
    "groups": "A group's configuration is not what runs, or perhaps not what is meant",
    "alerts": "An alert reaches nobody",
    "suspects": "Jobs may kill their workers",
    "parked": "Runs have waited long",
    "schedules": "Schedules do not tick, or not as they should",
    "deaf": "LISTEN does not hear",
    "pooler": "A pooler is between",
    "clock": "Clocks differ",
    "serve": "What a server is told can be listened in on",
    "log-store": "The log store cannot be used",
    "tokens": "Tokens end, or have ended",
    "disk-free": "The disk is almost full",
    "workspace": "The workspace differs from what is deployed",
}
"""Every finding there is, by its code; docs/doctor.md has a section for each."""


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that is wrong."""

    code: str = attrs.field(validator=attrs.validators.in_(CODES))
    severity: Severity
    text: str
    """What is wrong, in one line."""
    evidence: dict[str, Any] = attrs.field(factory=dict)
    """What shows it."""
    mend: str
    """The command that mends it, or what to do."""


def finding_document(finding: Finding) -> dict[str, Any]:
    """A finding as programs see it."""
    return {
        "code": finding.code, "severity": finding.severity.value, "title": CODES[finding.code],
        "text": finding.text, "evidence": finding.evidence, "mend": finding.mend,
    }  # fmt: skip


def error(code: str, text: str, mend: str, **evidence: Any) -> Finding:
    """A finding that is an error."""
    return Finding(code=code, severity=Severity.ERROR, text=text, mend=mend, evidence=evidence)


def warning(code: str, text: str, mend: str, **evidence: Any) -> Finding:
    """One that is a warning."""
    return Finding(code=code, severity=Severity.WARNING, text=text, mend=mend, evidence=evidence)


def note(code: str, text: str, mend: str, **evidence: Any) -> Finding:
    """One that is good to know."""
    return Finding(code=code, severity=Severity.NOTE, text=text, mend=mend, evidence=evidence)
