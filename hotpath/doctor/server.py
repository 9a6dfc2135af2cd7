"""The server: what holds back vacuum, settings that cost durability or speed, what runs out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from hotpath.core.retention import format_size
from hotpath.doctor.finding import Finding, error, note, warning
from hotpath.doctor.patient import Patient, quoted, shape_of
from hotpath.words import span

HELD_LONG, HELD_TOO_LONG = 300.0, 3600.0
"""Seconds for which a transaction is open, until that is a warning, and an error."""
OLD_XMIN = 1_000_000
"""Transactions ago; a slot that is as far behind is an error."""
SLOT_WAL = 1 << 30
"""Bytes of WAL that a slot nobody reads may keep."""
DEAD_ROWS = 100_000
"""Dead rows from which on a table is looked at; they have to be many beside the live ones."""
BLOATED, ROW = 256 << 20, 20_000
"""Bytes from which on a table is looked at, and bytes for each live row that are too many."""
SMALL_BUFFERS, LARGE_DATABASE = 128 << 20, 4 << 30
"""Bytes: PostgreSQL's own default, and what is large beside it."""
MANY_CONNECTIONS, TOO_MANY_CONNECTIONS = 0.85, 0.97
FEW_CHECKPOINTS = 50
"""Checkpoints that were asked for, below which there is nothing to say."""
OLD_AGE, TOO_OLD = 1_000_000_000, 1_700_000_000
"""Age of the oldest transaction number; at 2 billion the server stops."""
END_OF_LIFE = {
    14: date(2026, 11, 12),
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
}
"""As postgresql.org announces it."""
SOON = timedelta(days=180)


async def transactions(patient: Patient) -> list[Finding]:
    """Who holds back vacuum, or locks."""
    found = []
    for row in await patient.rows("doctor_holders", HELD_LONG):
        since = row["since"]
        open_for = None if since is None else (datetime.now(UTC) - since).total_seconds()
        evidence: dict[str, Any] = {
            "kind": row["kind"], "who": row["who"], "role": row["role"], "application": row["name"],
            "host": row["host"], "state": row["state"], "since": since, "transactions": row["age"],
            "statement": shape_of(row["statement"]),
        }  # fmt: skip
        name = f" ({row['name']})" if row["name"] else ""
        what = {
            "session": f"session {row['who']} of {row['role']}{name}",
            "prepared": f"prepared transaction {row['who']}",
            "slot": f"replication slot {row['who']}",
            "standby": f"standby {row['name'] or row['who']}",
        }[row["kind"]]
        mend = {
            "session": f'hotpath db psql -c "select pg_terminate_backend({row["who"]})"',
            "prepared": f'hotpath db psql -c "rollback prepared {quoted(row["who"])}"',
            "slot": f'hotpath db psql -c "select pg_drop_replication_slot({quoted(row["who"])})"',
            "standby": "set hot_standby_feedback = off on the standby, or end the long query there",
        }[row["kind"]]
        if row["age"] is None and row["kind"] == "session":
            text = (
                f"{what} has been idle in a transaction for {span((open_for or 0) * 1000)}, and holds locks"
            )
            found.append(warning("idle-transaction", text, mend, **evidence))
            continue
        how_long = (
            f"for {span(open_for * 1000)}" if open_for is not None else f"for {row['age']:,} transactions"
        )
        bad = (open_for or 0) >= HELD_TOO_LONG or (row["age"] or 0) >= OLD_XMIN
        found.append(
            (error if bad else warning)(
                "held-vacuum", f"{what} has held back vacuum {how_long}", mend, **evidence
            )
        )
    for row in await patient.rows("doctor_slots"):
        if (row["bytes"] or 0) >= SLOT_WAL or row["wal_status"] == "lost":
            size = format_size(row["bytes"])
            text = f"replication slot {row['name']}, which nobody reads, keeps {size} of WAL"
            mend = f'hotpath db psql -c "select pg_drop_replication_slot({quoted(row["name"])})"'
            found.append(warning("slot-keeps-wal", text, mend, **dict(row)))
    return found


async def tables(patient: Patient) -> list[Finding]:
    """Dead rows, and tables that have grown beyond what is in them."""
    found = []
    for row in await patient.rows("doctor_tables"):
        name, live, dead = row["name"], row["live"], row["dead"]
        evidence = dict(row) | {"off": None}
        del evidence["off"]
        if row["off"]:
            mend = f'hotpath db psql -c "alter table hotpath.{name} reset (autovacuum_enabled)"'
            found.append(error("autovacuum-off", f"autovacuum is off for hotpath.{name}", mend, **evidence))
        if dead >= DEAD_ROWS and dead > 2 * live:
            text = f"hotpath.{name} has {dead:,} dead rows beside {live:,} live ones"
            mend = f'hotpath db psql -c "vacuum hotpath.{name}", once nothing holds it back'
            found.append(warning("dead-rows", text, mend, **evidence))
        elif row["bytes"] >= BLOATED and row["bytes"] > ROW * max(live, 1):
            text = f"hotpath.{name} takes {format_size(row['bytes'])} for {live:,} rows"
            mend = (
                f'hotpath db psql -c "vacuum full hotpath.{name}", while no worker runs: it locks the table'
            )
            found.append(warning("bloat", text, mend, **evidence))
    return found


async def settings(patient: Patient) -> list[Finding]:
    """Settings that cost durability or speed, of those that can be told without knowing the machine."""
    names = (
        "fsync", "full_page_writes", "synchronous_commit", "autovacuum", "track_counts", "shared_buffers",
        "max_wal_size",
    )  # fmt: skip
    said = {row["name"]: row for row in await patient.rows("doctor_settings", list(names))}
    found = []
    for name, what in (
        ("fsync", "a crash of the machine may destroy the whole database"),
        ("full_page_writes", "a crash of the machine may destroy pages"),
    ):
        if said[name]["setting"] == "off":
            found.append(error("not-durable", f"{name} is off: {what}", _alter(name, "on"), setting=name))
    if said["synchronous_commit"]["setting"] == "off":
        text = (
            "synchronous_commit is off: jobs and outcomes of the last half second may be lost in a crash of "
            "the server"
        )
        mend = _alter("synchronous_commit", "on")
        source = said["synchronous_commit"]["source"]
        found.append(warning("not-durable", text, mend, setting="synchronous_commit", source=source))
    for name in ("autovacuum", "track_counts"):
        if said[name]["setting"] == "off":
            text = f"{name} is off: dead rows are never cleaned up, and claims become slower and slower"
            found.append(error("autovacuum-off", text, _alter(name, "on"), setting=name))
    server = await patient.row("doctor_server")
    buffers = int(said["shared_buffers"]["setting"]) * 8192
    if buffers <= SMALL_BUFFERS and server["bytes"] >= LARGE_DATABASE and not patient.database.is_embedded:
        text = f"shared_buffers is {format_size(buffers)} for a database of {format_size(server['bytes'])}"
        mend = (
            _alter("shared_buffers", "'1GB'") + ", and restart the server; a quarter of its memory is usual"
        )
        found.append(note("small-memory", text, mend, bytes=buffers, database=server["bytes"]))
    found += await _checkpoints(patient, server["major"], int(said["max_wal_size"]["setting"]))
    return found


async def _checkpoints(patient: Patient, major: int, max_wal: int) -> list[Finding]:
    row = await patient.row("doctor_checkpoints_17" if major >= 17 else "doctor_checkpoints")
    asked, timed = row["requested"], row["timed"]
    if asked < FEW_CHECKPOINTS or asked <= 2 * timed:
        return []
    text = (
        f"{asked:,} checkpoints were made because max_wal_size ({max_wal} MB) was full, {timed:,} on time: "
        "each makes the next writes dearer"
    )
    return [warning("frequent-checkpoints", text, _alter("max_wal_size", "'8GB'"), **dict(row))]


async def limits(patient: Patient) -> list[Finding]:
    """Connections, transaction numbers, and the server's version."""
    row = await patient.row("doctor_server")
    found = []
    share = row["used"] / row["most"]
    if share >= MANY_CONNECTIONS:
        text = f"{row['used']} of {row['most']} connections are in use"
        mend = (
            _alter("max_connections", str(2 * row["most"]))
            + ", and restart the server; or put a pooler before it"
        )
        make = error if share >= TOO_MANY_CONNECTIONS else warning
        found.append(make("connections", text, mend, used=row["used"], most=row["most"]))
    if row["age"] >= OLD_AGE:
        text = f"transaction numbers are {row['age']:,} old; at 2,000,000,000 the server stops"
        make = error if row["age"] >= TOO_OLD else warning
        found.append(make("wraparound", text, 'hotpath db psql -c "vacuum (freeze)"', age=row["age"]))
    end = END_OF_LIFE.get(row["major"])
    if end is not None and end - row["now"].date() <= SOON:
        verb = "has had no fixes since" if end <= row["now"].date() else "gets no fixes from"
        text = f"PostgreSQL {row['major']} {verb} {end.isoformat()}"
        mend = f"upgrade to PostgreSQL {max(END_OF_LIFE)}: dump and restore, or pg_upgrade"
        found.append(warning("end-of-life", text, mend, version=row["version"], ends=end))
    return found


def _alter(name: str, value: str) -> str:
    return f'hotpath db psql -c "alter system set {name} = {value}" -c "select pg_reload_conf()"'
