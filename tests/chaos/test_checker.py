"""The checker of `hotpath chaos` finds what is wrong: a good run is doctored, in database or ledger."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

from store_stage import Stage, open_stage, outcomes

from hotpath.chaos.check import check
from hotpath.chaos.commands import Ending
from hotpath.chaos.evidence import Evidence, read_ledger, read_list
from hotpath.chaos.inject import Done
from hotpath.chaos.kinds import Mix
from hotpath.chaos.ledger import ENDED, RAISED, RECORD, RETURNED, STARTED
from hotpath.chaos.plan import Fault
from hotpath.chaos.produce import ENTRY, LOOSE, ROLLED_BACK
from hotpath.chaos.report import Report
from hotpath.chaos.run import read_recorded
from hotpath.config import Config
from hotpath.store.database import open_database

SECOND = 1_000_000_000


@attrs.define
class Scene:
    """Six jobs that ran well, with their ledger and their list, and what a test does to them."""

    stage: Stage
    directory: Path
    ids: list = attrs.field(factory=list)
    faults: list = attrs.field(factory=list)
    endings: list = attrs.field(factory=list)
    records: list = attrs.field(factory=list)
    entries: list = attrs.field(factory=list)
    mix: Mix | None = None

    async def play(self) -> None:
        """Put six jobs in, run them in order; write down what a job and a producer would."""
        self.ids = await self.stage.loose(6)
        worker = await self.stage.worker()
        hand = await self.stage.claim(worker)
        await self.stage.flush(worker, outcomes(hand, payload=b"7"))
        now = time.perf_counter_ns()
        self.entries = [[job.bytes, n, now, 0, LOOSE, 0] for n, job in enumerate(self.ids)]
        for n, job in enumerate(self.ids):
            start = now + n * 1000
            self.records.append([STARTED, 0, 1, 1, job.bytes, start, 0])
            self.records.append([ENDED, RETURNED, 1, 1, job.bytes, start + 500, 0x78D2_4A10])

    async def report(self) -> Report:
        """What the checker makes of it."""
        import zlib

        for record in self.records:
            if record[0] == ENDED and record[6] == 0x78D2_4A10:
                record[6] = zlib.crc32(b"7")
        ledger = self.directory / "ledger"
        ledger.mkdir()
        (ledger / "0-1-1.ledger").write_bytes(b"".join(RECORD.pack(*record) for record in self.records))
        (self.directory / "list").write_bytes(b"".join(ENTRY.pack(*entry) for entry in self.entries))
        listed = read_list(self.directory / "list")
        config = Config(workspace=self.directory, database_url=self.stage.url)
        since = datetime.now(UTC) - timedelta(hours=1)
        async with open_database(config) as database:
            recorded = await read_recorded(database, [self.stage.tag], since, set(listed.acknowledged))
        evidence = Evidence(
            listed,
            read_ledger(ledger),
            recorded,
            faults=self.faults,
            endings=self.endings,
            lease=1.0,
            wall_minus_monotonic=time.time_ns() - time.perf_counter_ns(),
            stopped=time.perf_counter_ns(),
        )
        return check(evidence, self.mix, Report())

    async def sql(self, statement: str, *args) -> None:
        """Doctor the database."""
        await self.stage.connection.execute(statement, *args)


@pytest.fixture
async def scene(database_url: str, tmp_path: Path):
    """Six jobs that ran well."""
    async with open_stage(database_url) as stage:
        scene = Scene(stage, tmp_path)
        await scene.play()
        yield scene


async def test_a_good_run_is_found_good(scene: Scene):
    """Nothing is counted as wrong, and the exit code is 0."""
    report = await scene.report()
    assert not report.counts, report.examples
    assert report.exit_code == 0
    assert (report.jobs, report.runs, report.states) == (6, 6, {"success": 6})


async def lose(scene: Scene) -> None:
    """Its row is gone."""
    await scene.sql("delete from hotpath.job_done where id = $1", scene.ids[2])


async def double(scene: Scene) -> None:
    """Its row is there twice."""
    columns = (
        "id, started_at, duration_us, scheduled_for, tag, script, priority, attempt, state, args, result"
    )
    await scene.sql(
        f"insert into hotpath.job_done ({columns}) select {columns} from hotpath.job_done where id = $1",
        scene.ids[2],
    )


async def strand(scene: Scene) -> None:
    """It still waits."""
    await scene.sql("delete from hotpath.job_done where id = $1", scene.ids[1])
    await scene.sql(
        "insert into hotpath.job_queue (id, scheduled_for, tag, script, priority)"
        " values ($1, now(), $2, 1, 0)",
        scene.ids[1],
        scene.stage.tag,
    )


async def leave_running(scene: Scene) -> None:
    """A dead worker holds it."""
    await scene.stage.loose(1)
    worker = await scene.stage.worker()
    await scene.stage.claim(worker)
    await scene.sql("update hotpath.worker set lease_until = now()")


async def invent(scene: Scene) -> None:
    """Nobody put that one in."""
    await scene.sql("update hotpath.job_done set id = hotpath.uuid7() where id = $1", scene.ids[3])


async def roll_back(scene: Scene) -> None:
    """Its transaction was rolled back."""
    scene.entries[4][4] = ROLLED_BACK


async def alter(scene: Scene) -> None:
    """The result is another one."""
    await scene.sql("update hotpath.job_done set result = '8' where id = $1", scene.ids[0])


async def fail(scene: Scene) -> None:
    """It is said to have failed."""
    await scene.sql(
        'update hotpath.job_done set state = 2, result = null, error = \'{"kind": "exception"}\''
        " where id = $1",
        scene.ids[0],
    )


async def swap(scene: Scene) -> None:
    """The second ran after the fourth."""
    scene.records[2:4], scene.records[6:8] = scene.records[6:8], scene.records[2:4]


async def hurry(scene: Scene) -> None:
    """It began half a minute too soon; a machine that has just booted has no hour to go back."""
    for record in scene.records[:2]:
        record[5] -= 30 * SECOND


async def run_again(scene: Scene) -> None:
    """It ran once more."""
    again = [list(record) for record in scene.records[:2]]
    for record in again:
        record[5] += SECOND
        record[3] = 2
    scene.records += again


async def run_on(scene: Scene) -> None:
    """It ran an attempt that is not recorded."""
    scene.records.append([STARTED, 0, 2, 2, scene.ids[5].bytes, time.perf_counter_ns(), 0])


async def charge(scene: Scene) -> None:
    """It was charged for an attempt that ended well."""
    later = [list(record) for record in scene.records[:2]]
    for record in later:
        record[2], record[3], record[5] = 2, 2, record[5] + SECOND
    scene.records += later
    other = [STARTED, 0, 1, 3, b"x" * 16, time.perf_counter_ns(), 0]
    scene.records.append(other)
    await scene.sql("update hotpath.job_done set attempt = 2 where id = $1", scene.ids[0])


async def die(scene: Scene) -> None:
    """A command ended by itself."""
    scene.endings.append(Ending(0, 1, 70, was_ready=True, said="no more"))


WRONGS = {
    "lost": lose,
    "double": double,
    "stuck": strand,
    "left_running": leave_running,
    "ghosts": invent,
    "wrong_order": swap,
    "early": hurry,
    "unexplained": run_again,
    "wrong_attempt": run_on,
    "charged_wrongly": charge,
    "ended_by_itself": die,
}


@pytest.mark.parametrize("name", WRONGS)
async def test_what_is_wrong_is_found(scene: Scene, name: str):
    """Each kind of wrong is counted under its name, with an example, and the exit code is 1."""
    doctor: Callable[[Scene], Awaitable[None]] = WRONGS[name]
    await doctor(scene)
    report = await scene.report()
    assert report.counts[name] >= 1
    assert report.examples[name]
    assert report.exit_code == 1


@pytest.mark.parametrize("doctor", [alter, fail])
async def test_an_outcome_that_no_run_had_is_found(scene: Scene, doctor):
    """A result that `main` never returned, or a failure where nothing was raised, is a wrong outcome."""
    await doctor(scene)
    report = await scene.report()
    assert report.counts["wrong_outcome"] == 1
    assert report.exit_code == 1


async def test_a_rolled_back_job_must_not_be_there(scene: Scene):
    """A job whose transaction was rolled back is a ghost if it is recorded."""
    await roll_back(scene)
    report = await scene.report()
    assert report.counts["ghosts"] == 1
    assert "rolled back" in report.examples["ghosts"][0]


async def test_a_job_of_the_wrong_temper_is_found(scene: Scene):
    """A built-in job ends as its kind says: here one that always fails has succeeded."""
    scene.mix = Mix(seed=1, poison_every=1000)
    number = next(n for n in range(10_000) if scene.mix.kind(n).name == "fail")
    quick = next(n for n in range(10_000) if scene.mix.kind(n).name == "quick")
    for entry in scene.entries:
        entry[1] = quick
    scene.entries[2][1] = number
    report = await scene.report()
    assert report.counts["wrong_outcome"] == 1
    assert "a fail job" in report.examples["wrong_outcome"][0]


async def test_a_second_run_has_its_reason(scene: Scene):
    """A job that ran again because its worker was killed is explained by that kill."""
    await run_again(scene)
    at = scene.records[-1][5] - SECOND // 2
    fault = Fault(1, 1.0, "kill-worker", "", 0, 0.0)
    scene.faults.append(Done(fault, at, at, command=0, killed=[(1, 1)]))
    report = await scene.report()
    assert report.exit_code == 0, report.examples
    assert report.run_twice == {"its worker was killed": 1}


async def test_a_failure_needs_a_run_that_raised(scene: Scene):
    """With such a run in the ledger the same failure is right."""
    await fail(scene)
    scene.records[1][1], scene.records[1][6] = RAISED, 0
    report = await scene.report()
    assert report.exit_code == 0, report.examples
