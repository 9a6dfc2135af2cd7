"""I11: whatever a database answers, outcomes are kept; each answer is met as its kind asks."""

from __future__ import annotations

import asyncpg
import pytest
import trio
from trouble_tools import check_once, enqueue_marks
from worker_stage import Stage

from hotpath import asyncpg_trio
from hotpath.errors import DatabaseUnavailableError, SchemaError
from hotpath.store.trouble import CONNECTION_ERRORS, Trouble, is_weather, trouble_of

WEATHER = "08000 08006 08P01 53000 53100 53200 53300 57P01 57P02 57P03 57P05 58030 25006 25P03 26000 42P05"
COLLISIONS = "40001 40P01 55P03 55006 57014"
DATA = "22000 22P05 22001 54000 54001"
BUGS = "42P01 42501 42601 42883 23505 23514 P0001 XX000 XX001 28P01 0A000 21000"


@pytest.mark.parametrize(
    ("states", "kind"),
    [(WEATHER, Trouble.WEATHER), (COLLISIONS, Trouble.COLLISION), (DATA, Trouble.DATA), (BUGS, Trouble.BUG)],
    ids=lambda value: value.value if isinstance(value, Trouble) else "",
)
def test_kind_of_each_state(states: str, kind: Trouble):
    """Each SQLSTATE is of one kind, and weather and collisions are what the tuple for `except` names."""
    for state in states.split():
        error = asyncpg.PostgresError.new({"C": state, "M": "words"})
        assert trouble_of(error) is kind, state
        if kind is not Trouble.DATA:
            assert isinstance(error, CONNECTION_ERRORS) is (kind in (Trouble.WEATHER, Trouble.COLLISION)), (
                state
            )


def test_kind_of_other_errors():
    """What the system and the driver say of the way to the server is weather; a driver used wrongly is a bug;
    what has nothing to do with a database is none of it.
    """
    for error in (OSError(), trio.TooSlowError(), asyncpg.InterfaceError("connection is closed")):
        assert trouble_of(error) is Trouble.WEATHER
    assert trouble_of(asyncpg_trio.TargetServerAttributeNotMatched("x")) is Trouble.WEATHER
    assert trouble_of(asyncpg.InterfaceError("the server expects 3 arguments")) is Trouble.BUG
    assert trouble_of(ValueError("embedded NUL")) is Trouble.DATA
    assert trouble_of(KeyError("x")) is None


REFUSE = """
create sequence public.refusals minvalue 0 start 0;
create function public.refuse() returns trigger language plpgsql as $$
declare
    states constant text[] := '{%s}';
    n constant bigint := nextval('public.refusals');
begin
    if n < array_length(states, 1) then
        raise exception using errcode = states[n + 1], message = 'refused on purpose';
    end if;
    return new;
end $$;
create trigger refuse before insert on hotpath.job_done for each row execute function public.refuse();
"""


@pytest.mark.slow
async def test_refused_flushes_are_sent_again(stage: Stage):
    """A flush that is refused for any reason but its data is sent until it is accepted: each job runs
    once.
    """
    states = "40P01 40001 55P03 57014 53300 53100 57P03 25006 P0001 42501 XX000 23505"
    await stage.connection.execute(REFUSE % ",".join(states.split()))
    marks = await enqueue_marks(stage, 40, 0.0)
    command = await stage.dedicate("mark")
    await stage.until_done(40)
    await check_once(stage, marks, 40)
    assert await stage.connection.fetchval("select last_value from public.refusals") > len(states.split())

    async def is_said() -> bool:  # a bug is, each time
        return all(f" {state})" in command.stderr for state in ("P0001", "42501", "XX000", "23505"))

    await stage.until(is_said)
    assert len(await stage.worker_pids()) == 1
    assert command.process.returncode is None


@pytest.mark.slow
async def test_revoked_rights(stage: Stage):
    """A statement that is refused for ever is tried for ever, ever more slowly, with loud words; nothing is
    lost once it is allowed again.
    """
    marks = await enqueue_marks(stage, 300, 0.002)
    command = await stage.dedicate("mark")
    await stage.until_done(20)
    await stage.connection.execute(
        "create function public.refuse() returns trigger language plpgsql as"
        " $$ begin raise insufficient_privilege using message = 'revoked'; end $$;"
        "create trigger refuse before insert on hotpath.job_done for each row"
        " execute function public.refuse()"
    )
    for x in range(300, 310):  # a busy machine may be through with the others
        await stage.client.enqueue("mark", {"x": x, "file": str(marks)})

    async def is_said() -> bool:
        return command.stderr.count("revoked (InsufficientPrivilegeError 42501)") >= 3

    await stage.until(is_said)
    await stage.connection.execute("drop trigger refuse on hotpath.job_done")
    await stage.until_done(310)
    await check_once(stage, marks, 310)
    assert command.stderr.count("revoked") < 10


def test_weather_in_words_is_weather():
    """And a table that is not there is none, however it is put."""

    def put(said: Exception, cause: Exception) -> Exception:
        said.__cause__ = cause
        return said

    gone = put(DatabaseUnavailableError("gone"), asyncpg.exceptions.AdminShutdownError("x"))
    assert is_weather(gone)
    assert is_weather(DatabaseUnavailableError("gone"))
    assert not is_weather(put(SchemaError("none"), asyncpg.exceptions.UndefinedTableError("x")))
    assert not is_weather(asyncpg.exceptions.QueryCanceledError("statement timeout"))
