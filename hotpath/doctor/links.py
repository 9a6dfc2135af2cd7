"""What lies between: LISTEN, poolers, clocks, the log store, tokens, the disk, the workspace."""

from __future__ import annotations

import math
import secrets
import shutil
import time
from datetime import UTC, datetime, timedelta

import trio

from hotpath.config import redact
from hotpath.core.retention import format_size
from hotpath.doctor.finding import Finding, error, note, warning
from hotpath.doctor.patient import SECONDS, Patient
from hotpath.errors import ScriptError
from hotpath.scripts.locate import Located, find_scripts
from hotpath.scripts.source import hash_of, read_if_there
from hotpath.store.database import close, translated
from hotpath.store.embedded import default_home
from hotpath.store.listen import DeafError, PooledError, open_listener
from hotpath.store.log_store import LogStoreError, open_log_store
from hotpath.store.queries import query
from hotpath.store.reach import reach
from hotpath.store.scripts import current_versions
from hotpath.store.tokens import list_tokens
from hotpath.store.trouble import ANY_TROUBLE
from hotpath.words import clock

HEARD = 3.0
"""Seconds within which a notification has to come."""
APART, FAR_APART = 1.0, 30.0
"""Seconds that clocks may differ, until that is a warning, and an error."""
TRIES = 5
"""Looks at the database's clock; the quickest counts."""
EXPIRES = timedelta(days=7)
LITTLE, VERY_LITTLE = 0.10, 0.03
"""Shares of the disk that are free."""
NAMED = 5
_MEND = "set HOTPATH_LISTEN_URL to the server's own address, past any pooler"


async def listening(patient: Patient) -> list[Finding]:
    """Whether what is told by the database URL is heard at the address for LISTEN."""
    database = patient.database
    found = []
    with translated(database.dsn):
        reached = await reach(database.dsn, name="hotpath doctor")
        try:
            (jit,) = await reached.connection.fetch(query("doctor_settings"), ["jit"])
        finally:
            await close(reached.connection)
    if reached.pooled:
        if not database.can_listen:
            text = "a pooler is between, and there is no address for LISTEN: workers find jobs by polling"
            return [error("deaf", text, _MEND, url=redact(patient.config.database_url))]
        text = "a pooler is between; LISTEN goes past it"
        mend = "nothing: expect some 2.5 ms more for each batch"
        if jit["setting"] == "on":
            text += ". Statements are planned anew each time there, and jit makes that slow"
            mend = 'hotpath db psql -c "alter role ROLE set jit = off"'
        evidence = {"url": redact(patient.config.database_url), "jit": jit["setting"]}
        found.append(note("pooler", text, mend, **evidence))
    channel, token = f"hotpath_doctor_{secrets.token_hex(8)}", secrets.token_hex(8)
    where = redact(database.listen_dsn)
    try:
        async with open_listener(database.listen_dsn, channel) as listener:
            async with database.connection(within=SECONDS) as connection:
                await connection.execute(query("prove"), channel, token)
            with trio.move_on_after(HEARD):
                async for notification in listener.notifications:
                    if notification.payload == token:
                        return found
        text = f"what is told by the database URL is not heard within {HEARD:g} s at the address for LISTEN"
        mend = "HOTPATH_LISTEN_URL has to name the same server and database as HOTPATH_DATABASE_URL"
    except PooledError as problem:
        text, mend = str(problem), _MEND
    except DeafError as problem:
        text, mend = str(problem), _MEND
    except ANY_TROUBLE as problem:
        text = f"the address for LISTEN cannot be reached: {_line(problem)}"
        mend = "mend HOTPATH_LISTEN_URL, or the way to it"
    return [*found, error("deaf", text, mend, listen_url=where)]


async def clocks(patient: Patient) -> list[Finding]:
    """Whether this host's clock is that of the database, as far as the way there lets one see."""
    best = float("inf")
    apart = 0.0
    async with patient.database.connection(within=SECONDS) as connection:
        for _ in range(TRIES):
            began = time.time()
            there = await connection.fetchval(query("clock")) / 1e6
            took = time.time() - began
            if 0 <= took < best:
                best, apart = took, there - (began + took / 2)
    sure = abs(apart) - best / 2
    if sure < APART:
        return []
    text = f"the database's clock is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} this host's"
    mend = "timedatectl set-ntp true, on both hosts"
    make = error if sure >= FAR_APART else warning
    return [make("clock", text, mend, **apart_by(apart, best / 2))]


def apart_by(seconds: float, unsure: float) -> dict[str, float]:
    """By how much clocks differ, as evidence, to a millisecond; what may be wrong of it is never less."""
    return {"seconds": round(seconds, 3), "uncertainty": math.ceil(unsure * 1000) / 1000}


async def log_store(patient: Patient) -> list[Finding]:
    """Whether objects can be written to the log store, read, and deleted; and those of others read."""
    location = patient.config.log_store
    found = []
    if location is not None:
        name = f"hotpath-doctor-{secrets.token_hex(8)}"
        try:
            store = open_log_store(location)
            with trio.fail_after(SECONDS):
                await store.put(name, b"hotpath doctor")
                await store.read(name, 0, 14)
                await store.delete([name])
        except (LogStoreError, trio.TooSlowError) as problem:
            why = _line(problem) or f"no answer within {SECONDS:g} s"
            mend = "mend HOTPATH_LOG_STORE or its credentials: logs stay in the database meanwhile"
            found.append(error("log-store", why, mend, store=location))
    others = [row for row in await patient.rows("doctor_stores") if row["store"] != location]
    for row in others:
        text = f"{row['objects']:,} objects with logs are in {row['store']}, not in HOTPATH_LOG_STORE"
        mend = "nothing, if this host can reach that store: logs are read from where they are"
        found.append(note("log-store", text, mend, **dict(row)))
    return found


async def tokens(patient: Patient) -> list[Finding]:
    """Tokens that end soon; and whether any is left that opens the server."""
    async with patient.database.connection(within=SECONDS) as connection:
        known = await list_tokens(connection, revoked=False)
    now = datetime.now(UTC)
    found = []
    mend = "hotpath token create NAME --scope {}, and then: hotpath token revoke {}"
    good = [token for token in known if not token.expired]
    for token in good:
        if token.expires_at is not None and token.expires_at - now < EXPIRES:
            text = f"token {token.name} ({', '.join(token.scopes)}) expires at {clock(token.expires_at)}"
            better = mend.format(token.scopes[-1], token.id)
            found.append(warning("tokens", text, better, id=token.id, last_used_at=token.last_used_at))
    if known and not good:
        text = "every token has expired: a server that asks for one lets nobody in"
        better = mend.format(known[0].scopes[-1], known[0].id)
        found.append(warning("tokens", text, better, expired=[token.name for token in known]))
    return found


async def disk(patient: Patient) -> list[Finding]:
    """Whether the embedded server's disk has room; of another server's nobody can know."""
    if not patient.database.is_embedded:
        return []
    home = patient.config.home or default_home()
    usage = await trio.to_thread.run_sync(shutil.disk_usage, home)
    share = usage.free / usage.total
    if share >= LITTLE:
        return []
    text = f"{format_size(usage.free)} of {format_size(usage.total)} are free where {home} is ({share:.0%})"
    mend = "hotpath retention set --disk SIZE, and hotpath prune; or a larger disk"
    make = error if share < VERY_LITTLE else warning
    return [make("disk-free", text, mend, free=usage.free, total=usage.total, home=str(home))]


async def workspace(patient: Patient) -> list[Finding]:
    """Whether scripts of the workspace are as they were deployed. Nothing of them is run."""
    async with patient.database.connection(within=SECONDS) as connection:
        known = {
            each.version.description.path: each.version.description.hash
            for each in await current_versions(connection)
        }
    here = await trio.to_thread.run_sync(_hashes, patient, frozenset(known), abandon_on_cancel=True)
    changed = sorted(name for name, digest in here.items() if known[name] != digest)
    if not changed:
        return []
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    text = f"{', '.join(changed[:NAMED])}{more} in {patient.config.workspace}: not as deployed"
    mend = "hotpath deploy; or take the workspace that was deployed"
    return [warning("workspace", text, mend, scripts=changed, workspace=str(patient.config.workspace))]


def _hashes(patient: Patient, known: frozenset[str]) -> dict[str, str]:
    found = {}
    for each in find_scripts(patient.config.workspace):
        if each.name in known and (digest := _hash(each)) is not None:
            found[each.name] = digest
    return found


def _hash(located: Located) -> str | None:
    """The hash that a version of this would have; None: it cannot be read."""
    if located.is_flow:
        from hotpath.scripts.flow_file import load_flow

        try:
            return load_flow(located).hash
        except ScriptError:
            return None
    try:
        source = located.file.read_bytes()
    except OSError:
        return None
    return hash_of(source, read_if_there(located.settings_file))


def _line(problem: BaseException) -> str:
    return (str(problem).splitlines() or [""])[0]
