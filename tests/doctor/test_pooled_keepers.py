"""What keepers do, they do through a pooler in transaction mode, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Server, open_pgbouncer, open_server
from store_stage import open_stage
from trouble_tools import make_database

from hotpath.core.alert_channels import parse_channel
from hotpath.core.alert_rules import FORMS, parse_rule
from hotpath.core.alerting import Timing
from hotpath.doctor.examine import examine_database
from hotpath.store import alerts, history, prune, scaling, schedules, ticks
from hotpath.worker.house import House

RULES = (
    "workers under 2", "short", "waiting over 5m", "failures over 5%", "failures over 5% in 1h", "stranded",
    "lost", "deaf", "disk",
)  # fmt: skip


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that a pooler may be put before."""
    with open_server("max_connections=40") as own:
        yield own


@pytest.mark.slow
async def test_keepers_behind_a_pooler(own: Server, patient_of):
    """The house, schedules, alerts, retention, scaling, history and the doctor, each more than once."""
    assert {rule.split()[0] for rule in RULES} == {form.split()[0] for form in FORMS}
    name = await make_database(own)
    async with open_stage(own.url(name)) as stage:
        await stage.loose(3)
        with open_pgbouncer(own) as pooler:
            async with patient_of(pooler.url(name), listen_url=own.url(name)) as patient:
                for number in range(2):
                    async with patient.database.connection() as connection:
                        for each, rule in enumerate(RULES):
                            await alerts.set_alert(
                                connection,
                                f"a{each}",
                                parse_rule(rule),
                                [parse_channel("slack:$X")],
                                Timing(),
                            )
                        assert await alerts.look_at_alerts(connection, 0) is not None
                        await alerts.take_words(connection, 5, "me")
                        await schedules.set_schedule(
                            connection, f"s{number}", {"script": "flow_x", "args": {}, "every": 60}
                        )
                        await connection.execute("update hotpath.schedule set next_at = now()")
                        assert (await ticks.tick(connection)).done == number + 1
                        await ticks.until_next(connection)
                        await House(partitions_at=0, counts_at=0, sweep_at=0, live_at=0, look_at=0).keep(
                            connection
                        )
                        await history.read_history(connection)
                        await scaling.read_scaling(connection, "default")
                        assert await prune.prune(connection, "me") is not None
                        await prune.make_plan(connection)
                    done = await examine_database(patient.config, patient.database)
                    assert not [each for each in done.findings if each.code == "check-failed"]
