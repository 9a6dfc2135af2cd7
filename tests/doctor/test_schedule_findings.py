"""What the doctor says of schedules."""

from __future__ import annotations

from datetime import timedelta

from store_stage import NAME, Stage

from hotpath.doctor.patient import Patient
from hotpath.doctor.schedules import schedules
from hotpath.store.schedules import set_schedule
from hotpath.store.ticks import set_back, tick


async def test_schedules_that_nobody_has_tick(stage: Stage, patient: Patient):
    """One that is overdue is an error, until somebody has it tick; one that is paused is none."""
    schedule = await set_schedule(stage.connection, "s", {"script": NAME, "every": "1h"})
    assert await schedules(patient) == []
    await stage.connection.execute("update hotpath.schedule set next_at = now() - interval '5 minutes'")
    (found,) = await schedules(patient)
    assert (found.code, found.severity, found.evidence["schedules"]) == (
        "schedules",
        "error",
        [schedule.name],
    )
    assert "serve" in found.mend
    await tick(stage.connection)
    assert await schedules(patient) == []


async def test_ticks_that_are_refused(stage: Stage, patient: Patient):
    """A script that is gone, or takes other args, is told with the command that says why."""
    await set_schedule(stage.connection, "s", {"script": NAME, "every": "1h"})
    await stage.connection.execute("update hotpath.schedule set script = 'gone', next_at = now()")
    await tick(stage.connection)
    (found,) = await schedules(patient)
    assert (found.severity, found.evidence["schedules"]) == ("warning", ["s"])
    assert "hotpath schedule show s" in found.mend


async def test_a_clock_that_was_ahead(stage: Stage, patient: Patient):
    """Schedules that wait for its time are an error; what they made ahead is told until then."""
    schedule = await set_schedule(stage.connection, "s", {"script": NAME, "every": "1h"})
    await tick(stage.connection, now=schedule.next_at + timedelta(seconds=1))
    waits, early = await schedules(patient)
    assert (waits.code, waits.severity, waits.evidence["schedules"]) == ("clock", "error", ["s"])
    assert "hotpath serve" in waits.mend
    await set_back(stage.connection)
    assert await schedules(patient) == [early]
    assert (early.code, early.severity, early.evidence["until"]) == ("clock", "warning", schedule.next_at)
    await stage.connection.execute("update hotpath.schedule_tick set at = now()")
    assert await schedules(patient) == []
