"""What is wrong with this installation, as the server sees it."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hotpath.doctor.examine import examine_database
from hotpath.doctor.finding import Severity, finding_document
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.state import state_of


class FindingDocument(msgspec.Struct):
    """One thing that is wrong."""

    code: str
    """docs/doctor.md has a section for each."""
    severity: Severity
    title: str
    text: str
    """What is wrong, in one line."""
    evidence: dict[str, Any]
    """What shows it."""
    mend: str
    """The command that mends it, or what to do."""


class ExaminationDocument(msgspec.Struct):
    """What was found, the worst first."""

    ok: bool
    """Whether there is no error among it."""
    checks: int
    """How many checks were made."""
    findings: list[FindingDocument]


async def get_doctor(request: Request) -> Response:
    """Examine the database, the workers, and what lies between; say what is wrong and what mends it.

    Changes nothing. Clocks, the log store, the workspace and the way to the database are seen from the
    server's host.
    """
    state = state_of(request)
    done = await examine_database(state.client.config, state.database)
    findings = [FindingDocument(**finding_document(finding)) for finding in done.findings]
    return reply(ExaminationDocument(done.exit_code == 0, done.checks, findings))


TABLE = [
    Endpoint(
        method="GET", path=f"{PREFIX}/doctor", handler=get_doctor, scope="admin", group="server",
        seconds=60.0, answers={200: Answer("What was found.", ExaminationDocument)},
    ),
]  # fmt: skip
