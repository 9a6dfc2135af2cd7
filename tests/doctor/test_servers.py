"""Trouble with the server and the way to it, made for real on a server of our own."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import date

import pytest
import trio
from servers import PGBOUNCER, Server, open_pgbouncer, open_server
from trouble_tools import make_database

from hotpath import asyncpg_trio
from hotpath.doctor import links, server
from hotpath.doctor.finding import Finding
from hotpath.doctor.patient import Patient, quoted


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that allows prepared transactions, and few connections."""
    with open_server(
        "max_prepared_transactions=4", "wal_level=replica", "max_connections=40", "autovacuum=off"
    ) as own:
        yield own


@pytest.fixture
async def url(own: Server) -> str:
    """A database in it, with the schema."""
    return own.url(await make_database(own, one_of_many=True))


@pytest.fixture
async def patient(url: str, patient_of) -> AsyncIterator[Patient]:
    """That database as a patient, for whom every transaction is long."""
    async with patient_of(url) as patient:
        yield patient


@pytest.fixture
async def other(url: str) -> AsyncIterator[asyncpg_trio.Connection]:
    """Somebody else's session."""
    connection = await asyncpg_trio.connect(url, server_settings={"application_name": "report"})
    yield connection
    connection.terminate()


def of(findings: list[Finding], code: str) -> list[Finding]:
    """Those with that code."""
    return [finding for finding in findings if finding.code == code]


@pytest.mark.slow
async def test_a_transaction_that_holds_back_vacuum(patient: Patient, other, monkeypatch):
    """Who it is, since when, and what it says, without its values; the command ends it."""
    assert await server.transactions(patient) == []
    monkeypatch.setattr(server, "HELD_LONG", 0.0)
    await other.execute("begin isolation level repeatable read")
    await other.execute("select count(*), 'secret' from hotpath.job_done")
    (found,) = await server.transactions(patient)
    assert (found.code, found.severity) == ("held-vacuum", "warning")
    pid = other.get_server_pid()
    assert found.evidence["who"] == str(pid)
    assert found.evidence["application"] == "report"
    assert found.evidence["statement"] == "select count(*), '?' from hotpath.job_done"
    assert f"pg_terminate_backend({pid})" in found.mend
    monkeypatch.setattr(server, "HELD_TOO_LONG", 0.0)
    assert (await server.transactions(patient))[0].severity == "error"
    async with patient.database.connection() as connection:
        await connection.execute(f"select pg_terminate_backend({pid})")
    with trio.fail_after(40):
        while await server.transactions(patient):  # noqa: ASYNC110 - until the server has ended it
            await trio.sleep(0.01)


async def test_a_transaction_that_holds_locks(patient: Patient, other, monkeypatch):
    """One that is idle and holds back no vacuum, but has read a day's table."""
    monkeypatch.setattr(server, "HELD_LONG", 0.0)
    await other.execute("begin")
    await other.execute("select count(*) from hotpath.job_done")
    (found,) = await server.transactions(patient)
    assert (found.code, found.severity) == ("idle-transaction", "warning")


async def test_a_prepared_transaction(patient: Patient, other, monkeypatch):
    """It survives its session; the command rolls it back."""
    monkeypatch.setattr(server, "HELD_LONG", 0.0)
    await other.execute("begin")
    await other.execute("insert into hotpath.tag_seen values (1, 'x')")
    await other.execute("prepare transaction 'it''s'")
    (found,) = await server.transactions(patient)
    assert found.evidence["kind"] == "prepared"
    statement = found.mend.split('"')[1]
    assert statement == "rollback prepared 'it''s'"
    await other.execute(statement)
    assert await server.transactions(patient) == []


def test_what_somebody_else_named_is_no_command():
    """Of a shell: what stands in the command that mends is pasted."""
    name = """it's "$(touch x)`touch y`\\"""
    said = subprocess.run(
        ["/bin/sh", "-c", f'printf %s "{quoted(name)}"'], capture_output=True, text=True, check=True
    )
    assert said.stdout == "'" + name.replace("'", "''") + "'"


async def test_a_slot_that_nobody_reads(patient: Patient, other, monkeypatch):
    """It keeps WAL; the command drops it."""
    monkeypatch.setattr(server, "SLOT_WAL", 0)
    await other.execute("select pg_create_physical_replication_slot('left', true)")
    (found,) = await server.transactions(patient)
    assert (found.code, found.evidence["name"]) == ("slot-keeps-wal", "left")
    await other.execute(found.mend.split('"')[1])
    assert await server.transactions(patient) == []


async def test_settings_that_cost(patient: Patient, other, monkeypatch):
    """This server is set to be fast and not safe, and that is told; memory and WAL by what there is."""
    found = await server.settings(patient)
    assert {finding.evidence["setting"] for finding in of(found, "not-durable")} == {
        "fsync", "full_page_writes",
    }  # fmt: skip
    assert [finding.evidence["setting"] for finding in of(found, "autovacuum-off")] == ["autovacuum"]
    assert of(found, "small-memory") == []
    monkeypatch.setattr(server, "LARGE_DATABASE", 0)
    assert "32.0 MB" in of(await server.settings(patient), "small-memory")[0].text
    await other.execute("alter system set synchronous_commit = off")
    await other.execute("select pg_reload_conf()")
    try:
        with trio.fail_after(40):
            while len(of(await server.settings(patient), "not-durable")) < 3:  # noqa: ASYNC110 - of the server
                await trio.sleep(0.01)
    finally:
        await other.execute("alter system reset synchronous_commit")
        await other.execute("select pg_reload_conf()")
    monkeypatch.setattr(server, "FEW_CHECKPOINTS", 2)
    for _ in range(3):
        await other.execute("checkpoint")
    with trio.fail_after(40):
        while not of(await server.settings(patient), "frequent-checkpoints"):
            await other.execute("checkpoint")
            await trio.sleep(0.05)


async def test_what_runs_out(patient: Patient, monkeypatch):
    """Connections, transaction numbers, and the time in which the version gets fixes."""
    monkeypatch.setattr(server, "END_OF_LIFE", {})
    assert await server.limits(patient) == []
    major = (await patient.row("doctor_server"))["major"]
    monkeypatch.setattr(server, "END_OF_LIFE", {major: date(2020, 1, 1)})
    monkeypatch.setattr(server, "MANY_CONNECTIONS", 0.0)
    monkeypatch.setattr(server, "OLD_AGE", 0)
    found = {finding.code: finding for finding in await server.limits(patient)}
    assert set(found) == {"connections", "wraparound", "end-of-life"}
    assert "has had no fixes since 2020-01-01" in found["end-of-life"].text
    assert found["connections"].severity == "warning"


@pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"
)
async def test_a_pooler_in_the_way(own: Server, url: str, patient_of):
    """Without an address for LISTEN that is an error; with one that leads past it, good to know; one that
    leads to it, too, is deaf.
    """
    name = url.partition("?")[0].rpartition("/")[2]
    with open_pgbouncer(own) as pooler:
        async with patient_of(pooler.url(name)) as ill:
            (found,) = await links.listening(ill)
            assert (found.code, found.severity) == ("deaf", "error")
            assert "HOTPATH_LISTEN_URL" in found.mend
        async with patient_of(pooler.url(name), listen_url=url) as well:
            assert [finding.code for finding in await links.listening(well)] == ["pooler"]
        async with patient_of(pooler.url(name), listen_url=pooler.url(name)) as still:
            assert [finding.code for finding in await links.listening(still)] == ["pooler", "deaf"]
