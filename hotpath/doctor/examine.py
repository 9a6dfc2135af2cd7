"""Making all checks, a few at a time, each within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from hotpath.config import Config
from hotpath.doctor import configured, hosts, links, queue, schedules, schema, server
from hotpath.doctor.finding import Finding, Severity, error, warning
from hotpath.doctor.patient import SECONDS, Patient
from hotpath.errors import DatabaseUnavailableError, SchemaError
from hotpath.store.database import Database, open_database
from hotpath.store.migrate import installed_version, migrations
from hotpath.store.trouble import ANY_TROUBLE

TOGETHER = 3
"""Checks at a time."""
MOST = 20
"""Findings of one code that are told; there may be thousands of tags with the same fault."""

Check = Callable[[Patient], Awaitable[list[Finding]]]

OF_THE_SERVER: Sequence[Check] = (
    server.transactions, server.settings, server.limits, links.listening, links.clocks, links.disk,
)  # fmt: skip
OF_THE_SCHEMA: Sequence[Check] = (
    server.tables, schema.partitions, schema.rights, schema.retention, queue.workers, queue.versions,
    queue.waiting, queue.suspects, queue.parked, configured.groups, configured.alerts, schedules.schedules,
    hosts.clocks, hosts.servers, links.log_store, links.tokens, links.workspace,
)  # fmt: skip
"""Those that need Hotpath's tables as this program knows them."""
_ORDER = list(Severity)


@attrs.frozen
class Examination:
    """What was found, the worst first."""

    findings: list[Finding]
    checks: int
    """How many checks were made."""
    reached: bool = True
    """Whether there was a database."""

    @property
    def exit_code(self) -> int:
        """0: fine, warnings included; 1: something is wrong; 3: no database."""
        if not self.reached:
            return 3
        return int(any(finding.severity is Severity.ERROR for finding in self.findings))


async def examine(config: Config) -> Examination:
    """Examine the installation that `config` means. Changes nothing, save that the embedded server is
    started.
    """
    try:
        async with open_database(config, application_name="hotpath doctor", schema=False) as database:
            return await examine_database(config, database)
    except SchemaError as problem:
        return Examination([error("schema", str(problem), "upgrade hotpath-runtime")], 1)
    except DatabaseUnavailableError as problem:
        mend = "start the server, or mend HOTPATH_DATABASE_URL (`embedded` is Hotpath's own)"
        advice = str(problem).rpartition("; ")[2]
        if "hotpath_worker" in advice:  # it is up, and has not the rights for this user
            mend = 'hotpath db psql -c "grant hotpath_worker to USER", as the owner of the schema'
        elif advice.startswith(("raise ", "check ", "try ")):  # it is up, and says what it is
            mend = advice
        return Examination([error("no-database", str(problem), mend)], 1, reached=False)


async def examine_database(config: Config, database: Database) -> Examination:
    """The same with a database that is open. Raises `DatabaseUnavailableError` when it goes away."""
    patient = Patient(config, database)
    found = await _schema(patient)
    checks = [*OF_THE_SERVER, *(() if found else OF_THE_SCHEMA)]
    limiter = trio.CapacityLimiter(TOGETHER)

    async def make(check: Check) -> None:
        async with limiter:
            found.extend(await _make(check, patient))

    async with trio.open_nursery() as nursery:
        for check in checks:
            nursery.start_soon(make, check)
    found.sort(key=lambda finding: (_ORDER.index(finding.severity), finding.code, finding.text))
    return Examination(_few(found), len(checks) + 1)


def _few(findings: list[Finding]) -> list[Finding]:
    """These, in their order, with the number of those of a code that are too many in their place."""
    few: list[Finding] = []
    for code in dict.fromkeys(finding.code for finding in findings):
        same = [finding for finding in findings if finding.code == code]
        few += same[:MOST]
        if left := same[MOST:]:
            worst = left[0].severity
            text = f"and {len(left):,} more like these"
            mend = "mend these first, and run `hotpath doctor` again"
            few.append(Finding(code=code, severity=worst, text=text, mend=mend, evidence={"more": len(left)}))
    few.sort(key=lambda finding: _ORDER.index(finding.severity))
    return few


async def _make(check: Check, patient: Patient) -> list[Finding]:
    """The check's findings; that it hangs, or may not look, is one."""
    name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
    mend = "run `hotpath doctor --debug` again; as the owner of the schema, if rights are missing"
    try:
        with trio.move_on_after(SECONDS):
            return await check(patient)
    except ANY_TROUBLE as problem:
        why = (str(problem).splitlines() or [type(problem).__name__])[0]
        return [warning("check-failed", f"the check {name} could not be made: {why}", mend, check=name)]
    text = f"the check {name} was not done after {SECONDS:g} s"
    return [warning("check-failed", text, mend, check=name)]


async def _schema(patient: Patient) -> list[Finding]:
    """Whether the schema is there, and new enough."""
    async with patient.database.connection(within=SECONDS) as connection:
        version = await installed_version(connection)
    newest = migrations()[-1][0]
    if version is None:
        return [error("schema", "the database has no Hotpath schema", "hotpath migrate")]
    if version < newest:
        text = f"the schema is version {version}, this program needs {newest}"
        return [error("schema", text, "hotpath migrate", version=version, needed=newest)]
    return []
