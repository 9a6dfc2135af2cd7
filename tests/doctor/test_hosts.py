"""What the doctor says of other hosts: their clocks, and servers that others reach."""

from __future__ import annotations

import re
import time

import pytest
from store_stage import Stage

from hotpath.doctor import hosts
from hotpath.doctor.patient import Patient
from hotpath.store.clocks import HostClock
from hotpath.store.servers import Standing
from hotpath.store.workers import heartbeat


def standing(**given) -> Standing:
    """A server's row: by default one of this machine alone."""
    made = {"address": "http://127.0.0.1:8765", "is_loopback": True, "is_open": True, "is_secure": False}
    return Standing(**made | given)


async def test_clocks_of_other_hosts(stage: Stage, patient: Patient, monkeypatch):
    """What a worker's heartbeat sees of its host's clock is told where it differs, less what the way may have
    taken; this host's own is not this check's.
    """
    session = await stage.worker()
    clock = HostClock()

    async def beats() -> None:
        for _ in range(2):  # the second says what the first one's reply has shown
            await heartbeat(stage.connection, {session.worker: 0}, 15, clock=clock)

    await beats()
    assert await hosts.clocks(patient) == []
    assert abs(clock.apart.seconds) <= clock.apart.unsure + 0.1
    await stage.connection.execute("update hotpath.worker set host = 'elsewhere', name = 'w'")

    class Fast:
        time = staticmethod(lambda: time.time() + 100)

    monkeypatch.setattr("hotpath.store.workers.time", Fast)
    await beats()
    (found,) = await hosts.clocks(patient)
    assert (found.code, found.severity, found.evidence["host"]) == ("clock", "error", "elsewhere")
    behind = re.search(r"([\d.]+) s behind that of elsewhere, as worker w sees it", found.text)
    assert 0 < found.evidence["uncertainty"] < 10
    assert float(behind[1]) == pytest.approx(100, abs=found.evidence["uncertainty"] + 0.1)
    await stage.connection.execute("update hotpath.worker set clock_unsure = 0.0004")
    (found,) = await hosts.clocks(patient)
    assert found.evidence["uncertainty"] == 0.001  # not none at all
    await stage.connection.execute("update hotpath.worker set clock_unsure = 99.5")
    assert await hosts.clocks(patient) == []


def test_a_clock_that_jumps_meanwhile_shows_nothing():
    """Half the round trip is what may be wrong; a clock that was set back in between is no measure."""
    clock = HostClock()
    clock.observe(12_000_000, 10.0, 11.0)
    assert (clock.apart.seconds, clock.apart.unsure) == (1.5, 0.5)
    clock.observe(99_000_000, 11.0, 10.9)
    assert clock.apart.seconds == 1.5


async def test_a_server_that_others_reach(stage: Stage, patient: Patient):
    """One that listens beyond its machine without TLS is told while it is up; others are not."""
    secure = standing(address="https://0.0.0.0:1", is_loopback=False, is_open=False, is_secure=True)
    for each in (standing(), secure):
        await each.say(stage.connection)
    assert await hosts.servers(patient) == []
    bare = standing(address="http://0.0.0.0:1", is_loopback=False, is_open=False)
    await bare.say(stage.connection)
    (found,) = await hosts.servers(patient)
    assert (found.code, found.severity, found.evidence["address"]) == ("serve", "warning", "http://0.0.0.0:1")
    assert "--certfile" in found.mend
    await stage.connection.execute("update hotpath.server set said_at = now() - interval '2 minutes'")
    assert await hosts.servers(patient) == []
    await bare.say(stage.connection)
    await bare.gone(stage.connection)
    assert await hosts.servers(patient) == []


@pytest.mark.parametrize("ago", ["1 hour", "3 days"])
async def test_servers_that_were_killed_are_forgotten(stage: Stage, ago):
    """After days; others may come back."""
    await standing().say(stage.connection)
    await stage.connection.execute("update hotpath.server set said_at = now() - $1::text::interval", ago)
    await standing().say(stage.connection)
    assert await stage.count("server") == (1 if ago == "3 days" else 2)


async def test_a_server_of_another_version(stage: Stage, patient: Patient):
    """It is told, as a worker's is; and its host's clock counts, too."""
    await standing().say(stage.connection)
    await stage.connection.execute(
        "update hotpath.server set program = '0.0.1', host = 'there', clock_apart = -7, clock_unsure = 0.1"
    )
    (found,) = await hosts.servers(patient)
    assert (found.code, found.evidence["program"]) == ("versions", "0.0.1")
    (clock,) = await hosts.clocks(patient)
    assert "hotpath serve" in clock.text
