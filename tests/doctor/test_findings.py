"""Trouble with Hotpath's tables, jobs and workers, made for real, is found, shown, and can be mended."""

from __future__ import annotations

import re
import secrets
import shlex
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import attrs
import pytest
import trio
from retention_stage import add_days, age_scripts, name, today
from store_stage import ANYTHING, NAME, Stage

from hotpath.doctor import configured, links, queue, schema, server
from hotpath.doctor import examine as examining
from hotpath.doctor.examine import Examination, examine, examine_database
from hotpath.doctor.finding import CODES, Finding, Severity, finding_document
from hotpath.doctor.patient import Patient, shape_of
from hotpath.groups import replacing
from hotpath.model import Description, Settings
from hotpath.store import scripts
from hotpath.store.alerts import get_alert
from hotpath.store.groups import put_groups
from hotpath.store.prune import prune
from hotpath.store.retention import set_rule
from hotpath.store.tokens import create_token

DOCS = Path(__file__).parents[2] / "docs" / "doctor.md"
OLD = "(lpad(to_hex((extract(epoch from now() - interval '30 days') * 1000)::int8), 12, '0') || "
OLD_ID = OLD + "'70008000000000000000')::uuid"


def only(findings: list[Finding], code: str) -> Finding:
    """The one finding there is."""
    assert [finding.code for finding in findings] == [code], findings
    return findings[0]


def test_each_finding_has_a_section_and_the_other_way_round():
    """docs/doctor.md has every code that there is, in the order of the code, and none that there is not; no
    check knows of another, and none is forgotten.
    """
    assert re.findall(r"^## `(.+)`$", DOCS.read_text(), re.MULTILINE) == list(CODES)
    folder = Path(examining.__file__).parent
    source = "".join(file.read_text() for file in folder.glob("*.py") if file.name != "finding.py")
    assert set(re.findall(r'[a-z]*\(\s*"([a-z]+(?:-[a-z]+)*)",', source)) >= set(CODES)
    with pytest.raises(ValueError, match="code"):
        Finding(code="nonsense", severity=Severity.NOTE, text="", mend="")


def test_statements_are_shown_without_their_values():
    """What a statement is about may be a secret."""
    shown = shape_of("select f('it''s', $1, $x$sec\nret$x$, 12.5) from t2 where a = 'b'")
    assert shown == "select f('?', $?, '?', ?) from t2 where a = '?'"
    assert len(shape_of("x" * 1000)) == 120
    for hidden in (
        r"select E'it\'s secret', 'secret'",
        "select 'sec''ret",
        "select $$ secret",
        "select $a$ sec $$ ret $a$ -- secret",
        "select 1 /* secret */ /* secret",
        "select 'a' || like'secret'",
    ):
        assert "secret" not in shape_of(hidden), hidden
        assert "ret" not in shape_of(hidden), hidden
    assert shape_of(None) is None


async def test_nothing_is_wrong(stage: Stage, patient: Patient):
    """Of a database that is well, only how this test's own server is set is said."""
    done = await examine_database(patient.config, patient.database)
    of_the_server = {"not-durable", "autovacuum-off", "end-of-life", "frequent-checkpoints"}
    assert {finding.code for finding in done.findings} <= of_the_server
    assert done.checks > 15


async def test_no_schema_and_an_old_one(empty_database_url, stage: Stage, patient: Patient, tmp_path):
    """What is there of the schema decides what can be looked at; an empty database is left empty."""
    config = attrs.evolve(patient.config, database_url=empty_database_url)
    done = await examine(config)
    assert only(
        [each for each in done.findings if each.severity == "error" and each.code == "schema"], "schema"
    )
    assert (await examine(config)).exit_code == 1
    await stage.connection.execute("update hotpath.meta set version = 3")
    done = await examine_database(patient.config, patient.database)
    found = next(finding for finding in done.findings if finding.code == "schema")
    assert found.mend == "hotpath migrate"
    assert found.evidence["version"] == 3


async def test_no_database(patient: Patient):
    """Without a database that is what is said; the exit code is 3."""
    done = await examine(attrs.evolve(patient.config, database_url="postgresql://x:secret@127.0.0.1:1/y"))
    assert only(done.findings, "no-database")
    assert "secret" not in str(done.findings)
    assert done.exit_code == 3


async def test_a_check_that_hangs_is_a_finding(stage: Stage, patient: Patient, monkeypatch):
    """The others are made; a check that fails is one too."""

    async def hangs(patient: Patient) -> list[Finding]:
        async with patient.database.connection() as connection:
            await connection.execute("select pg_sleep(60)")
        return []

    async def may_not(patient: Patient) -> list[Finding]:
        async with patient.database.connection() as connection, connection.transaction():
            await connection.execute("set local role hotpath_read")
            await connection.execute("select * from hotpath.secret")
        return []

    monkeypatch.setattr(examining, "OF_THE_SERVER", (hangs, may_not))
    monkeypatch.setattr(examining, "OF_THE_SCHEMA", (queue.waiting,))
    for seconds in (0.5, 2.5, 12.5):  # the others have to be done in it, on a busy machine too
        monkeypatch.setattr(examining, "SECONDS", seconds)
        with trio.fail_after(40):
            done = await examine_database(patient.config, patient.database)
        if sum("not done after" in finding.text for finding in done.findings) == 1:
            break
    assert [finding.code for finding in done.findings] == ["check-failed", "check-failed"]
    texts = " ".join(finding.text for finding in done.findings)
    assert f"not done after {seconds:g} s" in texts
    assert "permission denied for table secret" in texts
    assert done.exit_code == 0


# ---------------------------------------------------------------- tables


async def test_partitions_that_end(stage: Stage, patient: Patient):
    """A missing partition of today or tomorrow is an error, one of later days a warning; migrate makes it."""
    assert await schema.partitions(patient) == []
    await stage.connection.execute(f"drop table hotpath.{name('job_log', -3)}")
    assert only(await schema.partitions(patient), "partitions").severity == "warning"
    await stage.connection.execute(f"drop table hotpath.{name('job_done', 0)}")
    found = only(await schema.partitions(patient), "partitions")
    assert found.severity == "error"
    assert "today" in found.text
    assert found.evidence["missing"] == [name("job_done", 0), name("job_log", -3)]
    assert found.mend == "hotpath migrate"
    await stage.connection.execute("select hotpath.make_partitions(7)")
    assert await schema.partitions(patient) == []


@pytest.mark.parametrize("half", [False, True])
async def test_days_that_stand_beside_their_table(stage: Stage, patient: Patient, half: bool):
    """Somebody detached a day that is to come, or began to: it is attached again by what the finding says."""
    part = name("job_log", -1)
    if half:
        await stage.connection.execute(
            "update pg_catalog.pg_inherits set inhdetachpending = true where inhrelid = $1::text::regclass",
            f"hotpath.{part}",
        )
    else:
        await stage.connection.execute(f"alter table hotpath.job_log detach partition hotpath.{part}")
    await stage.connection.execute("select hotpath.make_partitions(7)")
    found = only(await schema.partitions(patient), "partitions")
    assert (found.severity, found.evidence) == ("error", {"detached": [part]})
    statements = re.findall('-c "(.*?)"', found.mend)
    assert len(statements) == (2 if half else 1)
    for statement in statements:
        await stage.connection.execute(statement)
    assert await schema.partitions(patient) == []
    done = stage.connection.fetchval(
        "select count(*) from pg_inherits where inhparent = 'hotpath.job_log'::regclass"
    )
    assert await done == 8


async def test_detached_days(stage: Stage, patient: Patient):
    """Days that were detached and not dropped are named; prune drops them."""
    await add_days(stage, 3)
    await stage.connection.execute(
        f"alter table hotpath.job_log detach partition hotpath.{name('job_log', 3)}"
    )
    found = only(await schema.retention(patient), "old-partitions")
    assert found.evidence["partitions"] == [name("job_log", 3)]
    await prune(stage.connection, "test", gently=False)
    assert await schema.retention(patient) == []


async def test_retention_that_is_not_said_or_not_kept(stage: Stage, patient: Patient):
    """Nothing is said and old days are there; something is said and nobody, or nobody who may, does it."""
    await stage.connection.execute("delete from hotpath.retention")
    await age_scripts(stage)
    await add_days(stage, 40)
    assert "kept for ever" in only(await schema.retention(patient), "retention").text
    await set_rule(stage.connection, None, {"jobs": "forever"})
    assert await schema.retention(patient) == [], "somebody means it"
    await set_rule(stage.connection, None, {"jobs": "9d"})
    assert "nobody has kept house" in only(await schema.retention(patient), "retention").text
    other = await stage.connect()
    await other.execute("set role hotpath_worker")
    await prune(other, "worker", gently=False)
    assert "does not own the schema" in only(await schema.retention(patient), "retention").text
    await prune(stage.connection, "owner", gently=False)
    assert await schema.retention(patient) == []


async def test_the_disk_bound(stage: Stage, patient: Patient):
    """That days went for the disk's sake is noted; that the bound cannot be held is an error."""
    await add_days(stage, 3)
    await set_rule(stage.connection, None, {}, disk="1K")
    await prune(stage.connection, "test", gently=False)
    assert only(await schema.retention(patient), "disk-bound").severity == "error"
    await set_rule(stage.connection, None, {}, disk="1T")
    found = only(await schema.retention(patient), "disk-bound")
    assert found.severity == "note"
    assert name("job_done", 3) in found.evidence["dropped"]


async def test_rights_that_are_missing(stage: Stage, patient: Patient):
    """A table that workers may not use is named."""
    assert await schema.rights(patient) == []
    await stage.connection.execute("revoke insert on hotpath.lease from hotpath_worker")
    found = only(await schema.rights(patient), "rights")
    assert (found.evidence["role"], found.evidence["tables"]) == ("hotpath_worker", ["lease"])
    await stage.connection.execute("grant insert on hotpath.lease to hotpath_worker")


async def test_rights_that_this_program_lacks(stage: Stage, patient: Patient, patient_of):
    """Without any right, or a connection, that is what is said; with too few rights, the command that grants
    them, whatever the role is called.
    """
    role = f'odd-"role {secrets.token_hex(4)}'
    named = '"' + role.replace('"', '""') + '"'
    url = re.sub("//[^@/]*@", f"//{quote(role)}@", stage.url)
    await stage.connection.execute(f"create role {named} login")
    try:
        done = await examine(attrs.evolve(patient.config, database_url=url))
        assert "grant hotpath_worker to" in only(done.findings, "no-database").mend
        await stage.connection.execute(f"alter role {named} connection limit 0")
        done = await examine(attrs.evolve(patient.config, database_url=url))
        assert only(done.findings, "no-database").mend.startswith("raise max_connections")
        await stage.connection.execute(f"alter role {named} connection limit -1")
        await stage.connection.execute(f"grant hotpath_read to {named}")
        async with patient_of(url) as reader:
            found = only(await schema.rights(reader), "rights")
            assert found.evidence["role"] == role
            statement = shlex.split(found.mend.partition(", as the owner")[0])[-1]
            await stage.connection.execute(statement)
            assert await schema.rights(reader) == []
    finally:
        await stage.connection.execute(f"drop role {named}")


async def test_dead_rows_and_bloat(stage: Stage, patient: Patient, monkeypatch):
    """Dead rows beside few live ones are found, and a table that is too large for its rows; and where vacuum
    may not come.
    """
    monkeypatch.setattr(server, "DEAD_ROWS", 50)
    other = await stage.connect()
    await other.execute("insert into hotpath.tag_seen select k, 'x' from generate_series(1, 100) k")
    await other.execute("delete from hotpath.tag_seen")
    await other.close()  # as it goes, a session tells what it has counted
    with trio.fail_after(40):
        while not (found := await server.tables(patient)):  # noqa: ASYNC110 - the server's statistics come late
            await trio.sleep(0.05)
    found = only(found, "dead-rows")
    assert (found.evidence["name"], found.evidence["dead"]) == ("tag_seen", 100)
    await stage.connection.execute("vacuum hotpath.tag_seen")
    monkeypatch.setattr(server, "DEAD_ROWS", 10**9)
    monkeypatch.setattr(server, "BLOATED", 1)
    monkeypatch.setattr(server, "ROW", 1)
    assert {finding.code for finding in await server.tables(patient)} == {"bloat"}
    monkeypatch.undo()
    for off in ("false", "off", "no", "0", "'False'"):  # PostgreSQL keeps the word that somebody wrote
        await stage.connection.execute(f"alter table hotpath.lease set (autovacuum_enabled = {off})")
        assert "hotpath.lease" in only(await server.tables(patient), "autovacuum-off").text
    await stage.connection.execute("alter table hotpath.lease set (autovacuum_enabled = on)")
    assert await server.tables(patient) == []


# ---------------------------------------------------------------- jobs and workers


async def test_a_dead_worker_that_holds_jobs(stage: Stage, patient: Patient):
    """Jobs of a worker whose lease is over, and that nobody has taken back, are found with it."""
    await stage.loose(2)
    worker = await stage.worker()
    assert await stage.claim(worker)
    assert await queue.workers(patient) == []
    await stage.connection.execute(
        "update hotpath.worker set lease_until = now() - interval '1 minute', "
        "last_ping = now() - interval '1 minute'"
    )
    found = next(each for each in await queue.workers(patient) if each.code == "lost-worker")
    assert found.severity == "error"
    assert found.evidence["leases"] == 1
    await stage.reap()
    assert await queue.workers(patient) == []


async def test_deaf_workers_and_versions_that_differ(stage: Stage, patient: Patient):
    """Workers that say they are deaf, of another program, and behind their script's version."""
    one = await stage.worker()
    await stage.connection.execute("update hotpath.worker set deaf = true, program = '0.0.9'")
    found = {finding.code: finding for finding in await queue.workers(patient)}
    assert set(found) == {"deaf-worker", "versions"}
    assert "0.0.9" in found["versions"].text
    assert await queue.versions(patient) == []
    await scripts.register_version(
        stage.connection,
        Description(path=NAME, hash="9" * 64, is_async=False, schema=ANYTHING, settings=Settings()),
    )
    found = only(await queue.versions(patient), "versions")
    assert found.evidence["deployed"] == "9" * 12
    await stage.kill(one)
    assert await queue.versions(patient) == []


async def test_jobs_that_nobody_runs_and_jobs_that_wait_long(stage: Stage, patient: Patient):
    """Without a worker they are stranded, with one overdue."""
    await stage.connection.execute(
        "insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args) "
        f"select {OLD_ID}, now() - interval '1 hour', $1, $2, 0, '{{}}'",
        stage.tag,
        stage.script,
    )
    found = only(await queue.waiting(patient), "stranded")
    assert (found.severity, found.mend) == ("error", "hotpath dedicate flow_x")
    await stage.worker()
    assert only(await queue.waiting(patient), "overdue").evidence["tag"] == "flow_x"
    await stage.connection.execute(
        "insert into hotpath.tag_pause (tag, reason, paused_by) values ($1, 'maintenance', 'ann')", stage.tag
    )
    found = only(await queue.waiting(patient), "paused")
    assert "by ann (maintenance)" in found.text
    assert found.mend == "hotpath tag resume flow_x"


async def test_jobs_that_kill_their_workers(stage: Stage, patient: Patient):
    """Suspects that wait are noted, those that have failed a warning."""
    assert await queue.suspects(patient) == []
    (job,) = await stage.loose(1)
    await stage.connection.execute("update hotpath.job_queue set suspect = 3, crashes = 1")
    assert only(await queue.suspects(patient), "suspects").severity == "note"
    await stage.cancel(job)
    await stage.connection.execute(
        "update hotpath.job_done set state = 2, error = hotpath.error_object('Crash', 'died', 'crash')"
    )
    found = only(await queue.suspects(patient), "suspects")
    assert (found.severity, found.evidence["jobs"]) == ("warning", [str(job)])


async def test_runs_that_wait_long(stage: Stage, patient: Patient):
    """A run that was put in long ago and waits to be woken is named."""
    await stage.connection.execute(f"insert into hotpath.flow_run (id) select {OLD_ID}")
    assert await queue.parked(patient) == []
    await stage.connection.execute(
        "insert into hotpath.job_queue (id, scheduled_for, tag, script, priority, args) "
        "select id, now() + interval '100 years', $1, $2, 0, '{}' from hotpath.flow_run",
        stage.tag,
        stage.script,
    )
    assert only(await queue.parked(patient), "parked").evidence["oldest"] < today() - timedelta(days=25)


# ---------------------------------------------------------------- what is configured


async def test_alerts_that_reach_nobody(stage: Stage, patient: Patient):
    """Words that were not delivered, with what the channel said; and alerts nobody looks at."""
    await stage.connection.execute(
        "insert into hotpath.alert (name, rule, channels, hold_seconds, clear_seconds, cooldown_seconds, "
        "looked_at) values ('a', 'x', '{y}', 0, 0, 1, now())"
    )
    assert await configured.alerts(patient) == []
    await stage.connection.execute(
        "insert into hotpath.alert_word (alert, channel, word, rule, finding, tries, problem) "
        "values ('a', 'y', 'firing', 'x', 'z', 3, 'refused: 500')"
    )
    assert "refused: 500" in only(await configured.alerts(patient), "alerts").text
    assert (await get_alert(stage.connection, "a")).problem == "refused: 500"
    await stage.connection.execute("update hotpath.alert set channels = '{other}'")
    assert await configured.alerts(patient) == [], "it has that channel no more"
    await stage.connection.execute("update hotpath.alert set channels = '{y}'")
    await stage.connection.execute(
        "insert into hotpath.alert_word (alert, channel, word, rule, finding, tries, ended_at, delivered) "
        "values ('a', 'y', 'test', 'x', 'z', 1, now(), true)"
    )
    assert await configured.alerts(patient) == [], "that channel has taken one since: it is mended"
    assert (await get_alert(stage.connection, "a")).problem is None
    await stage.connection.execute("delete from hotpath.alert_word")
    await stage.connection.execute("update hotpath.alert set looked_at = now() - interval '1 hour'")
    assert "nobody looks" in only(await configured.alerts(patient), "alerts").text


async def test_groups_that_are_not_what_is_meant(stage: Stage, patient: Patient):
    """A tag that fits nothing is noted; a worker that cannot run with the configuration is an error."""
    await put_groups(stage.connection, {"g": replacing({"tags": ["nothing"]})}, "ann")
    found = only(await configured.groups(patient), "groups")
    assert (found.severity, found.evidence["field"]) == ("note", "tags")
    await stage.worker()
    await stage.connection.execute(
        "update hotpath.worker set worker_group = 'g', group_trouble = 'there is no TOKEN on this host'"
    )
    found = (await configured.groups(patient))[0]
    assert found.severity == "error"
    assert "there is no TOKEN" in found.text
    assert found.mend == "hotpath group show g"
    await stage.worker()  # of the same command, and so behind for the same reason
    await stage.connection.execute("update hotpath.worker set worker_group = 'g', group_trouble = 'deleted'")
    await stage.connection.execute("delete from hotpath.worker_group")
    found = only(await configured.groups(patient), "groups")
    assert found.text.startswith("2 workers on ")
    assert found.mend == "hotpath group set g, or stop what runs them", "there is nothing to show"


# ---------------------------------------------------------------- what lies between


async def test_listen_that_leads_elsewhere(stage: Stage, patient: Patient, patient_of, cluster, monkeypatch):
    """A notification by the database URL has to come at the address for LISTEN."""
    assert await links.listening(patient) == []
    monkeypatch.setattr(links, "HEARD", 0.3)
    async with patient_of(stage.url, listen_url=cluster) as astray:
        assert "not heard" in only(await links.listening(astray), "deaf").text
    async with patient_of(stage.url, listen_url="postgresql://x:secret@127.0.0.1:1/y") as lost:
        found = only(await links.listening(lost), "deaf")
    assert "cannot be reached" in found.text
    assert "secret" not in str(finding_document(found))


async def test_clocks_that_differ(stage: Stage, patient: Patient, monkeypatch):
    """A clock that is off is told, by how much and whose."""
    assert await links.clocks(patient) == []

    class Fast:
        time = staticmethod(lambda real=links.time.time: real() + 100)

    monkeypatch.setattr(links, "time", Fast)
    found = only(await links.clocks(patient), "clock")
    assert found.severity == "error"
    assert "behind" in found.text
    assert round(found.evidence["seconds"]) == -100


async def test_a_log_store_that_is_away(stage: Stage, patient_of, tmp_path):
    """A store that cannot be written is an error; logs in another one are noted."""
    directory = tmp_path / "store"
    async with patient_of(stage.url, log_store=str(directory)) as well:
        assert await links.log_store(well) == []
    assert not list(directory.glob("hotpath-doctor*"))
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way")
    await stage.connection.execute(
        "insert into hotpath.log_object (store, name, day, stored) "
        "values ('s3://elsewhere', 'x', now(), true)"
    )
    async with patient_of(stage.url, log_store=str(blocked)) as ill:
        found = await links.log_store(ill)
    assert [(finding.code, finding.severity) for finding in found] == [
        ("log-store", "error"), ("log-store", "note"),
    ]  # fmt: skip


async def test_tokens_that_end(stage: Stage, patient: Patient):
    """A token that expires soon is named, and that none is left."""
    assert await links.tokens(patient) == []
    await create_token(stage.connection, "ci", ["read"], 3600)
    await create_token(stage.connection, "grafana", ["read"], None)
    found = only(await links.tokens(patient), "tokens")
    assert "token ci" in found.text
    assert found.mend.endswith(f"hotpath token revoke {found.evidence['id']}")
    await stage.connection.execute("update hotpath.api_token set expires_at = now() - interval '1 day'")
    assert "every token has expired" in only(await links.tokens(patient), "tokens").text


async def test_a_disk_that_is_full(stage: Stage, patient: Patient, monkeypatch, tmp_path):
    """Of the embedded server's disk what is free is told."""
    ill = Patient(
        attrs.evolve(patient.config, home=tmp_path), attrs.evolve(patient.database, is_embedded=True)
    )
    monkeypatch.setattr(links, "LITTLE", 1.1)
    assert only(await links.disk(ill), "disk-free").severity == "warning"
    monkeypatch.setattr(links, "VERY_LITTLE", 1.1)
    assert only(await links.disk(ill), "disk-free").severity == "error"
    assert await links.disk(patient) == []


async def test_a_workspace_that_was_changed(stage: Stage, patient: Patient, tmp_path):
    """A script that is not as it was deployed is named; one that nobody deployed is not."""
    (tmp_path / "mine.py").write_text("def main(): ...")
    assert await links.workspace(patient) == []
    (tmp_path / f"{NAME}.py").write_text("raise SystemExit('nobody runs this')")
    assert only(await links.workspace(patient), "workspace").evidence["scripts"] == [NAME]


def test_the_exit_code_is_that_of_the_worst():
    """Errors alone make it 1."""
    finding = Finding(code="clock", severity=Severity.WARNING, text="", mend="")
    assert Examination([], 1).exit_code == 0
    assert Examination([finding], 1).exit_code == 0
    assert Examination([attrs.evolve(finding, severity=Severity.ERROR)], 1).exit_code == 1
