"""Texts made of args: SQL and Python have the same rules, and refuse the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hotpath import asyncpg_trio
from hotpath.core.placeholders import (
    FillError,
    broken_place,
    decode,
    fill,
    key_hash,
    limit_key,
    needs_args,
    unknown_field,
)

CASES: list[tuple[str, dict[str, Any] | str, str | None]] = [
    ("plain", {}, "plain"),
    ("$args[x]", {"x": "a"}, "a"),
    ("gpu-$args[size]-$args[kind]", {"size": 80, "kind": "h"}, "gpu-80-h"),
    ("$args[a.b.c]", {"a": {"b": {"c": True}}}, "true"),
    ("$args[x]", {"x": False}, "false"),
    ("$args[x]", '{"x": 1.0}', "1.0"),
    ("$args[x]", '{"x": 1e3}', "1000"),
    ("$args[x]", '{"x": -0}', "0"),
    ("$args[x]", '{"x": -0.0}', "0.0"),
    ("$args[x]", '{"x": 1.50E-2}', "0.0150"),
    ("$args[x]", '{"x": 123456789012345678901234567890}', "123456789012345678901234567890"),
    ("$args[x]", {"x": ""}, ""),
    ("$args[x]", {"x": "$args[y] $workspace"}, "$args[y] $workspace"),
    ("$args[x]", {"x": "ü\n\t 🚀"}, "ü\n\t 🚀"),
    ("in $workspace, $args[x]", {"x": "y"}, "in here, y"),
    ("$workspaces", {}, "heres"),
    ("$args[x]", {}, None),
    ("$args[x]", {"x": None}, None),
    ("$args[x.y]", {"x": 1}, None),
    ("$args[x.0]", {"x": ["a"]}, None),
    ("$args[x]", {"x": []}, None),
    ("$args[x]", {"x": {"y": 1}}, None),
    ("$args[x", {"x": 1}, "$args[x"),
    ("$args[]", {"x": 1}, "$args[]"),
    ("$arg[x] $$args[x]", {"x": 1}, "$arg[x] $1"),
    ("$args[ x]", {" x": 1}, "1"),
    ("$args[x..y]", {"x": {"": {"y": 2}}}, "2"),
]


@pytest.fixture
async def connection(database_url):
    """A connection to a database whose workspace is called `here`."""
    connection = await asyncpg_trio.connect(database_url)
    await connection.execute("update hotpath.meta set workspace = 'here'")
    yield connection
    connection.terminate()


async def test_sql_and_python_agree(connection):
    """Each case comes out the same, or is refused with the same words, for a tag and for a limit's key."""
    for template, args, expected in CASES:
        raw = args if isinstance(args, str) else json.dumps(args)
        try:
            made: str | None = fill(template, decode(raw.encode()), "a text", workspace="here")
            said = ""
        except FillError as error:
            made, said = None, str(error)
        assert made == expected, (template, raw)
        try:
            in_sql = await connection.fetchval("select hotpath.fill($1, $2::jsonb, 'a text')", template, raw)
        except asyncpg_trio.PostgresError as error:
            assert error.sqlstate == "HP002"
            assert str(error) == said, (template, raw)
        else:
            assert in_sql == expected, (template, raw)
        try:
            key = limit_key(template, decode(raw.encode()), workspace="here")
        except FillError:
            continue
        assert key == await connection.fetchval("select hotpath.limit_key($1, $2::jsonb)", template, raw)


async def test_a_hash_is_that_of_the_tag(connection):
    """Tags and keys have one hash, with its sign."""
    for name in ("", "a", "ü", "f/team/score", "x" * 300):
        assert key_hash(name) == await connection.fetchval("select hotpath.tag_id($1)", name)


def test_what_is_no_placeholder_is_found():
    """What only looks like one is told from what is one."""
    assert broken_place("a $args[x] b") is None
    assert broken_place("a $args[x b") == "$args[x b"
    assert broken_place("$args.x") == "$args.x"
    assert not needs_args("in $workspace")
    assert needs_args("in $args[x]")


CLOSED: dict[str, Any] = {
    "properties": {
        "customer": {"$ref": "#/$defs/Customer"},
        "count": {"type": "integer"},
        "any": {},
        "some": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "open": {"type": "object", "properties": {"a": {}}},
    },
    "additionalProperties": False,
    "$defs": {"Customer": {"type": "object", "properties": {"id": {}}, "additionalProperties": False}},
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$args[customer.id]-$workspace-$args[count]", None),
        ("$args[any.thing]-$args[some.thing]-$args[open.b]", None),
        ("$args[custmer]", "$args[custmer] is no field of the script's args (did you mean $args[customer]?)"),
        ("$args[count]-$args[customer.ids]", "(did you mean $args[customer.id]?)"),
        ("$args[zzz]", "(there are customer, count, any, some, open)"),
        ("$args[count.x]", "$args[count.x] is no field"),
    ],
)
def test_fields_that_args_cannot_have(text, said):
    """Those of a schema that names all there are, and of values that have none; others may be there."""
    found = unknown_field(text, CLOSED)
    assert found is None if said is None else said in found
    assert unknown_field(text, {"properties": {}}) is None
    assert "none" in unknown_field("$args[x]", {"additionalProperties": False})
