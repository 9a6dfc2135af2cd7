"""Values go to the server and come back as asyncpg maps them."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import json
import uuid

import asyncpg
import pytest
from asyncpg import Box, Point, Range

from hotpath.asyncpg_trio._arrays import known_arrays
from hotpath.asyncpg_trio._session import Session

UTC = dt.UTC

VALUES = [
    ("bool", True),
    ("int2", -32768),
    ("int4", 2**31 - 1),
    ("int8", -(2**63)),
    ("float4", 0.5),
    ("float8", 1e300),
    ("numeric", decimal.Decimal("-12345678901234567890.0987654321")),
    ("numeric", decimal.Decimal("1E+20")),
    ("text", "é, 漢字, 🐘, 'quoted' and \\ and \n"),
    ("varchar", ""),
    ("bytea", bytes(range(256))),
    ("uuid", uuid.UUID("018f3b5e-0000-7000-8000-000000000001")),
    ("date", dt.date(2024, 2, 29)),
    ("time", dt.time(23, 59, 59, 999999)),
    ("timetz", dt.time(1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    ("timestamp", dt.datetime(2024, 2, 29, 12, 30, 15, 123456)),  # noqa: DTZ001 - that type has none
    ("timestamptz", dt.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)),
    ("interval", dt.timedelta(days=3, hours=4, microseconds=5)),
    ("json", '{"a": [1, 2.5, null]}'),
    ("jsonb", '{"a": [1, 2.5, null]}'),
    ("inet", ipaddress.ip_interface("10.1.2.3/8")),
    ("cidr", ipaddress.ip_network("10.0.0.0/8")),
    ("point", Point(1.5, -2.0)),
    ("box", Box((3.0, 4.0), (1.0, 2.0))),
    ("int4[]", [1, None, 3]),
    ("text[]", ["a", "", None, '"{}"']),
    ("int4[]", [[1, 2], [3, 4]]),
    ("uuid[]", []),
    ("timestamptz[]", [dt.datetime(2000, 1, 1, tzinfo=UTC)]),
    ("int4range", Range(1, 10)),
    ("int4range", Range(empty=True)),
    ("tstzrange", Range(dt.datetime(2024, 1, 1, tzinfo=UTC), None)),
    ("int4multirange", [Range(1, 3), Range(5, 7)]),
    ("bit(4)", asyncpg.BitString("1010")),
    ("oid", 4_000_000_000),
]


@pytest.mark.parametrize(("type_name", "value"), VALUES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(VALUES)])
async def test_round_trip(connect, type_name, value):
    """A value comes back equal and of the same type; a NULL comes back as None."""
    connection = await connect()
    row = await connection.fetchrow(f"select $1::{type_name} as value, null::{type_name} as nothing", value)
    assert row["value"] == value
    assert isinstance(row["value"], type(value))
    assert row["nothing"] is None


async def test_record(connect):
    """A row is a Record: by name, by position, as a mapping."""
    row = await (await connect()).fetchrow("select 1 as a, 'x' as b")
    assert (row["a"], row[1], dict(row), tuple(row), list(row.keys())) == (
        1,
        "x",
        {"a": 1, "b": "x"},
        (1, "x"),
        ["a", "b"],
    )


async def test_record_class(connect):
    """Rows are of the class that was asked for."""

    class Dotted(asyncpg.Record):
        def __getattr__(self, name):
            return self[name]

    connection = await connect(record_class=Dotted)
    assert (await connection.fetchrow("select 7 as seven")).seven == 7
    plain = await connection.fetchrow("select 7 as seven", record_class=asyncpg.Record)
    assert type(plain) is asyncpg.Record


async def test_composite_enum_and_domain(connect):
    """A database's own types are looked up when first seen: composites, enums, domains, arrays of them."""
    connection = await connect()
    await connection.execute("create type pg_temp.mood as enum ('sad', 'ok')")
    await connection.execute("create type pg_temp.pair as (n int, label text)")
    await connection.execute("create domain pg_temp.positive as int check (value > 0)")
    row = await connection.fetchrow(
        "select $1::pg_temp.mood as m, $2::pg_temp.pair as p,"
        " $3::pg_temp.positive as d, $4::pg_temp.pair[] as ps",
        "ok",
        (1, "one"),
        5,
        [(2, None), None],
    )
    assert row["m"] == "ok"
    assert (row["p"]["n"], row["p"]["label"]) == (1, "one")
    assert row["d"] == 5
    assert row["ps"][0]["n"] == 2
    assert row["ps"][1] is None


async def test_composite_without_statement_cache(connect):
    """The same with the statement cache off, where the look-up itself uses the unnamed statement."""
    connection = await connect(statement_cache_size=0)
    await connection.execute("create type pg_temp.pair as (n int, label text)")
    assert (await connection.fetchval("select $1::pg_temp.pair", (1, "x")))["label"] == "x"
    assert await connection.fetchval("select $1::int + 1", 1) == 2


async def test_custom_codecs(connect):
    """A codec set for a type is used until it is reset."""
    connection = await connect()
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads, format="text"
    )
    assert await connection.fetchval("select $1::json", {"a": [1]}) == {"a": [1]}
    await connection.reset_type_codec("json", schema="pg_catalog")
    assert await connection.fetchval("select $1::json", '{"a": [1]}') == '{"a": [1]}'
    await connection.set_type_codec(
        "interval",
        schema="pg_catalog",
        encoder=lambda seconds: (0, 0, seconds * 1_000_000),
        decoder=lambda parts: parts[2] // 1_000_000,
        format="tuple",
    )
    assert await connection.fetchval("select $1::interval", 90) == 90


async def test_codec_of_a_composite(connect):
    """A composite can have a tuple codec, and no other."""
    connection = await connect()
    await connection.execute("create type pg_temp.pair as (n int, label text)")
    schema = await connection.fetchval("select nspname from pg_namespace where oid = pg_my_temp_schema()")
    with pytest.raises(asyncpg.UnsupportedClientFeatureError):
        await connection.set_type_codec("pair", schema=schema, encoder=str, decoder=str)
    await connection.set_type_codec(
        "pair", schema=schema, encoder=lambda d: (d["n"], d["l"]), decoder=lambda t: t[0], format="tuple"
    )
    assert await connection.fetchval("select $1::pg_temp.pair", {"n": 5, "l": "x"}) == 5


async def test_builtin_codec(connect):
    """A type of one's own can be treated as a built-in one."""
    connection = await connect()
    with pytest.raises(ValueError, match="unknown type"):
        await connection.set_builtin_type_codec("no_such_type", codec_name="int")
    await connection.execute("create domain pg_temp.whole as int4")
    schema = await connection.fetchval("select nspname from pg_namespace where oid = pg_my_temp_schema()")
    await connection.set_builtin_type_codec("whole", schema=schema, codec_name="int4")
    assert await connection.fetchval("select 7::pg_temp.whole") == 7


@pytest.mark.parametrize(
    ("query", "argument"),
    [("select $1::int4", "seven"), ("select $1::int2", 40_000), ("select $1::timestamptz", "now")],
)
async def test_wrong_arguments_harm_nothing(connect, query, argument):
    """An argument that does not fit its type is refused before anything is sent."""
    connection = await connect()
    with pytest.raises(asyncpg.DataError):
        await connection.fetchval(query, argument)
    with pytest.raises(asyncpg.InterfaceError):
        await connection.fetchval(query)
    assert await connection.fetchval("select 1") == 1


async def test_error_of_a_codec_goes_up(connection):
    """What a decoder raises reaches the caller, of execute too, and the connection goes on."""

    def refuse(_text):
        raise AttributeError("not today")

    await connection.set_type_codec("text", schema="pg_catalog", encoder=str, decoder=refuse)
    for method in (connection.fetch, connection.execute):
        with pytest.raises(AttributeError, match="not today"):
            await method("select $1::text", "x")
    assert await connection.execute("") == ""
    assert await connection.fetchval("select 1") == 1


async def test_arrays_of_the_servers_own_types_are_not_looked_up(connect, monkeypatch: pytest.MonkeyPatch):
    """They are known by number, just as the catalog has them; another type is still asked for."""
    connection = await connect()
    rows = await connection.fetch(
        "select a.oid::int8 as oid, n.nspname as ns, a.typname as name, a.typtype as kind,"
        " a.typelem::int8 as elemtype, e.typdelim as elemdelim, e.typname as elemtype_name"
        " from pg_type a join pg_type e on e.oid = a.typelem and e.typarray = a.oid"
        " join pg_namespace n on n.oid = a.typnamespace"
    )
    catalog = {row["oid"]: dict(row) for row in rows}
    known = known_arrays(catalog.keys())
    assert len(known) > 20
    assert [{key: each[key] for key in catalog[each["oid"]]} for each in known] == [
        catalog[each["oid"]] for each in known
    ]
    monkeypatch.setattr(Session, "introspect_types", None)
    names = {each["elemtype_name"]: f"null::{each['elemtype_name']}[]" for each in known}
    names["char"] = 'null::"char"[]'
    connection = await connect()
    assert set(await connection.fetchrow(f"select {', '.join(names.values())}")) == {None}
    assert await connection.fetchval("select $1::uuid[] || $2::uuid", [], uuid.UUID(int=1)) == [
        uuid.UUID(int=1)
    ]
    with pytest.raises(TypeError):
        await connection.fetchval("select null::int4range")
