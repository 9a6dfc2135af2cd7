"""Keepers go on whatever fails, and say what failed."""

from __future__ import annotations

from itertools import pairwise

import asyncpg
import pytest
import trio

from hotpath import asyncpg_trio
from hotpath.config import Config
from hotpath.worker import beside
from hotpath.worker.beside import keep_up
from hotpath.worker.changes import Changes
from hotpath.worker.house import House
from hotpath.worker.pulse import Pulse, Weather


async def test_a_fault_ends_nothing(caplog, autojump_clock):
    """I11: it is told, with where it was, and what failed begins anew, ever later."""
    begun: list[float] = []

    async def fail(what: str) -> None:
        begun.append(trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise LookupError(what)

    with trio.move_on_after(100) as scope:
        await keep_up("keeping bees", fail, "no hive")
    assert scope.cancelled_caught
    apart = [after - before for before, after in pairwise(begun)]
    assert apart == pytest.approx([1, 2, 4, 8, 16, 32])
    assert caplog.records[0].getMessage().startswith("keeping bees failed")
    assert "no hive" in caplog.text


async def test_who_went_on_for_long_is_not_kept_waiting(autojump_clock):
    """The pause is short again."""
    begun: list[float] = []

    async def fail() -> None:
        begun.append(trio.current_time())
        await trio.sleep(beside.LONGEST_AGAIN + 1)
        raise LookupError

    with trio.move_on_after(300):
        await keep_up("keeping bees", fail)
    assert {round(after - before) for before, after in pairwise(begun)} == {62}


async def test_what_is_refused_keeps_no_other_duty(database_url):
    """The house has tomorrow's partitions, whatever the server makes of the duty before."""
    connection = await asyncpg_trio.connect(database_url)
    days = "select count(*) from pg_inherits where inhparent = 'hotpath.job_done'::regclass"
    try:
        had = await connection.fetchval(days)
        await connection.execute(
            """
            do $$
            declare
                day text := to_char((now() at time zone 'UTC')::date + 5, 'YYYYMMDD');
            begin
                execute 'drop table hotpath.job_done_' || day;
            end $$;
            alter function hotpath.expire_loose rename to expire_gone;
            """
        )
        assert await connection.fetchval(days) == had - 1
        with pytest.raises(asyncpg.UndefinedFunctionError):
            await House(partitions_at=0.0).keep(connection)
        assert await connection.fetchval(days) == had
    finally:
        await connection.close()


def test_what_is_refused_is_told_now_and_then(tmp_path, caplog):
    """Heartbeats that get through do not have the same refusal of a duty told again each second."""
    config = Config(workspace=tmp_path)
    pulse = Pulse(config, None, 15.0, Weather("the heartbeat fails"), dict, list, Changes())  # type: ignore[arg-type] - not used
    for _ in range(3):
        pulse._house_trouble(asyncpg.UndefinedFunctionError("no such function"))
        pulse.weather.good()
    assert caplog.text.count("no such function") == 1
    pulse._house_trouble(OSError("no route"))
    assert "the heartbeat fails: no route" in caplog.text
