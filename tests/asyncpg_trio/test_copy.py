"""COPY both ways."""

from __future__ import annotations

import io

import asyncpg
import pytest
import trio


async def chunks(*parts):
    """Byte strings, with a wait before each."""
    for part in parts:
        await trio.lowlevel.checkpoint()
        yield part


async def test_records(connection):
    """A hundred thousand records go into a table, NULLs and arrays too, from sync and async iterables."""
    await connection.execute("create temp table t(a int, b text, c int[])")
    rows = ((i, None if i % 2 else f"row {i}", [i, None]) for i in range(100_000))
    assert await connection.copy_records_to_table("t", records=rows) == "COPY 100000"
    assert await connection.copy_records_to_table("t", records=chunks((1, "x", None))) == "COPY 1"
    assert await connection.copy_records_to_table("t", records=[(7,)], columns=["a"]) == "COPY 1"
    assert await connection.copy_records_to_table("t", records=[]) == "COPY 0"
    row = await connection.fetchrow("select count(*), count(b), sum(c[1]) from t")
    assert tuple(row) == (100_002, 50_001, sum(range(100_000)))


async def test_records_where_and_names(connection):
    """COPY takes a condition, a schema and names that need quotes."""
    await connection.execute('create temp table "T a""ble"("Col 1" int)')
    status = await connection.copy_records_to_table(
        'T a"ble',
        schema_name="pg_temp",
        columns=["Col 1"],
        records=[(i,) for i in range(10)],
        where='"Col 1" < 3',
    )
    assert status == "COPY 3"


async def test_records_wait_for_the_server(connect):
    """What a big COPY has not been able to send yet stays small."""
    connection = await connect()
    await connection.execute("create temp table t(a text)")
    wire = connection._session.wire
    most = 0

    def rows():
        nonlocal most
        for _ in range(30_000):
            most = max(most, len(wire.unsent))
            yield ("x" * 1000,)

    await connection.copy_records_to_table("t", records=rows())
    assert 0 < most < 2_000_000


@pytest.mark.parametrize("where", ["sync", "async", "encode", "server early", "server late"])
async def test_records_that_fail(connection, where):
    """Whatever ends a COPY, its error comes up, nothing is stored, and the connection goes on."""
    await connection.execute("create temp table t(a int check (a <> 70000 and a <> 1000000))")

    def sync_rows():
        for i in range(100_000):
            if i == 90_000:
                raise LookupError("mine")
            yield (i + 100_000,)

    async def async_rows():
        for i in range(10):
            await trio.lowlevel.checkpoint()
            yield (i,)
        raise LookupError("mine")

    records, expected = {
        "sync": (sync_rows(), LookupError),
        "async": (async_rows(), LookupError),
        "encode": ([(1,), ("one",)], TypeError | asyncpg.DataError),
        "server early": (((i,) for i in range(600_000)), asyncpg.CheckViolationError),
        "server late": ([(1_000_000,)], asyncpg.CheckViolationError),
    }[where]
    with pytest.raises(expected if isinstance(expected, type) else (TypeError, asyncpg.DataError)):
        await connection.copy_records_to_table("t", records=records)
    assert await connection.fetchval("select count(*) from t") == 0


async def test_server_error_stops_the_sending(connect):
    """Once the server has refused a COPY, the rest of a long input is not read."""
    connection = await connect()
    await connection.execute("create temp table t(a int check (a <> 5), b text)")
    seen = 0

    def rows():
        nonlocal seen
        for seen in range(1_000_000):
            yield (seen, "x" * 200)

    with pytest.raises(asyncpg.CheckViolationError):
        await connection.copy_records_to_table("t", records=rows())
    assert seen < 500_000
    assert await connection.fetchval("select 1") == 1


async def test_text_in(connection, tmp_path):
    """copy_to_table takes bytes, a path, a file and an async iterable, and COPY's options."""
    await connection.execute("create temp table t(a int, b text)")
    (tmp_path / "in.csv").write_text("a;b\n4;four\n")
    assert await connection.copy_to_table("t", source=b"1\tone\n2\t\\N\n") == "COPY 2"
    assert await connection.copy_to_table("t", source=io.BytesIO(b"3\tthree\n")) == "COPY 1"
    status = await connection.copy_to_table(
        "t", source=tmp_path / "in.csv", format="csv", header=True, delimiter=";"
    )
    assert status == "COPY 1"
    assert (
        await connection.copy_to_table("t", source=chunks(b"5\tfi", b"ve\n"), columns=["a", "b"]) == "COPY 1"
    )
    rows = await connection.fetch("select a, b from t order by a")
    assert [tuple(row) for row in rows] == [(1, "one"), (2, None), (3, "three"), (4, "four"), (5, "five")]
    with pytest.raises(asyncpg.BadCopyFileFormatError):
        await connection.copy_to_table("t", source=b"1\t2\t3\n")
    with pytest.raises(TypeError, match="no option"):
        await connection.copy_to_table("t", source=b"", formta="csv")
    assert await connection.fetchval("select count(*) from t") == 5


async def test_out(connection, tmp_path):
    """A table and a query go to a path, a file and a function, with arguments quoted by the server."""
    await connection.execute("create temp table t(a int, b text); insert into t values (1, 'one'), (2, null)")
    got = []

    async def sink(data):
        await trio.lowlevel.checkpoint()
        got.append(bytes(data))

    assert await connection.copy_from_table("t", output=sink) == "COPY 2"
    assert b"".join(got) == b"1\tone\n2\t\\N\n"
    file = io.BytesIO()
    status = await connection.copy_from_table("t", columns=["b"], output=file, format="csv", force_quote=True)
    assert (status, file.getvalue()) == ("COPY 2", b'"one"\n\n')
    path = tmp_path / "out"
    query = "select $1::text, $2::int, $3::int[], $4::text"
    await connection.copy_from_query(query, "it's $1", 2, [1, 2], None, output=path, format="csv")
    assert path.read_text() == 'it\'s $1,2,"{1,2}",\n'


async def test_out_big(connection):
    """A big COPY OUT arrives whole through a slow sink."""
    total = 0

    async def sink(data):
        nonlocal total
        total += len(data)
        await trio.lowlevel.checkpoint()

    status = await connection.copy_from_query(
        "select repeat('x', 99) from generate_series(1, 200000)", output=sink
    )
    assert (status, total) == ("COPY 200000", 20_000_000)


async def test_sink_that_fails(connection):
    """A sink's error ends the COPY and comes up; the connection goes on."""

    async def sink(_data):
        raise LookupError("mine")

    with pytest.raises(LookupError):
        await connection.copy_from_query("select generate_series(1, 1000000)", output=sink)
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.copy_from_table("no_such_table", output=sink)
    with pytest.raises(TypeError):
        await connection.copy_from_table("pg_class", output=7)
    assert await connection.fetchval("select 1") == 1


async def test_sink_that_fails_at_the_end(connection):
    """An error in the sink at the last chunk, when the server has nothing left to stop, costs no time."""

    async def sink(data):
        raise LookupError("mine") from KeyError(data)

    with trio.fail_after(20):
        with pytest.raises(LookupError, match="mine") as raised:
            await connection.copy_from_query("select 1", output=sink)
        assert isinstance(raised.value.__cause__, KeyError)
        assert await connection.fetchval("select 1") == 1


async def test_busy_while_copying(connect):
    """Between two chunks of a COPY the connection is still busy."""
    connection = await connect()

    async def sink(_data):
        with pytest.raises(asyncpg.InterfaceError, match="another operation"):
            await connection.fetchval("select 1")

    assert await connection.copy_from_query("select generate_series(1, 1000)", output=sink) == "COPY 1000"
