"""One question, three answers that must agree: may a job of this script be enqueued with these args?

Python's validator answers from the schema, SQL's `hotpath.check_args` too, and the decoder answers from the
very types when the job is run.
"""
# ruff: noqa: D103 - the functions whose signatures are tried are `main`s; tests have their sentence

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Required, TypedDict
from uuid import UUID

import attrs
import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st
from thoroughness import examples

import hotpath.store
from hotpath import asyncpg_trio
from hotpath.core.schema import ArgsValidator
from hotpath.errors import BadArgsError
from hotpath.model import Secret
from hotpath.scripts.args_schema import args_schema
from hotpath.scripts.signature import ArgsDecoder, read_signature


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Tree:
    value: int
    children: list[Tree] = dataclasses.field(default_factory=list)


@attrs.define
class Node:
    name: str
    next: Node | None = None


class Options(TypedDict, total=False):
    size: Required[int]
    label: str


class Point(NamedTuple):
    x: int
    y: int = 0


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog", forbid_unknown_fields=True):
    name: str = "Rex"


class Row(msgspec.Struct, array_like=True):
    key: int
    text: str = ""


def flat(user_id: int, path: str, flag: bool = False, ratio: float = 0.5, note: str | None = None): ...


def untyped(x, y=None): ...


def empty(): ...


def anything(**fields): ...


def numbers(n: int = 0, **others: int): ...


def nested(tree: Tree | None = None, node: Node | None = None, options: Options | None = None): ...


def rows(point: Point | None = None, pair: tuple[int, str] | None = None, row: Row | None = None): ...


def choices(color: Color = Color.RED, level: Level = Level.LOW, word: Literal["a", 1, None] = "a"): ...  # noqa: PYI061


def animals(one: Cat | Dog | None = None, many: list[Cat | Dog] = []): ...  # noqa: B006


def alone(cat: Cat | None = None): ...


def many(ids: list[int] = [], words: set[str] = set(), grid: list[list[float]] = []): ...  # noqa: B006


def maps(
    plain: dict | None = None,
    counts: dict[str, int] | None = None,
    by_id: dict[int, str] | None = None,
    by_word: dict[Literal["a", "b"], int] | None = None,
): ...


def formats(
    when: dt.datetime | None = None,
    day: dt.date | None = None,
    at: dt.time | None = None,
    key: UUID | None = None,
    data: bytes | None = None,
    file: Path | None = None,
): ...


def zones(
    aware: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None,
    naive: Annotated[dt.datetime, msgspec.Meta(tz=False)] | None = None,
): ...


def bounded(
    n: Annotated[int, msgspec.Meta(ge=1, lt=10, multiple_of=3)] = 3,
    x: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1,
    s: Annotated[str, msgspec.Meta(min_length=2, max_length=4, pattern="^[a-z]+$")] = "ab",
    items: Annotated[list[int], msgspec.Meta(min_length=1, max_length=2)] = [1],  # noqa: B006
    fields: Annotated[dict[str, int], msgspec.Meta(max_length=1)] = {},  # noqa: B006
): ...


def keyword_only(*, b: int, c: str = "c"): ...


class Login(TypedDict, total=False):
    user: Required[str]
    password: Secret


def secrets(
    key: Secret,
    maybe: Secret | None = None,
    login: Login | None = None,
    keys: list[Secret] = [],  # noqa: B006
    by_name: dict[str, Secret] | None = None,
): ...


def amount(price: Decimal | None = None): ...


DAY = "2024-02-29"
KEY = "0190a6f0-1234-7abc-8def-0123456789ab"

CASES = [
    (flat, {"user_id": 1, "path": "x"}, True),
    (flat, {"user_id": 1, "path": "x", "flag": True, "ratio": 1, "note": None}, True),
    (flat, {"user_id": 1, "path": "x", "ratio": 1.5, "note": "n"}, True),
    (flat, {}, False),
    (flat, {"user_id": 1}, False),
    (flat, {"user_id": "1", "path": "x"}, False),
    (flat, {"user_id": 1.5, "path": "x"}, False),
    (flat, {"user_id": 1.0, "path": "x"}, False),
    (flat, {"user_id": True, "path": "x"}, False),
    (flat, {"user_id": None, "path": "x"}, False),
    (flat, {"user_id": 1, "path": 2}, False),
    (flat, {"user_id": 1, "path": "x", "flag": 1}, False),
    (flat, {"user_id": 1, "path": "x", "ratio": "1"}, False),
    (flat, {"user_id": 1, "path": "x", "note": 1}, False),
    (flat, {"user_id": 1, "path": "x", "extra": 1}, False),
    (flat, {"user_id": 2**70, "path": ""}, True),
    (flat, {"user_id": -(2**63), "path": "é\U0001f600"}, True),
    (flat, [1], False),
    (flat, "x", False),
    (flat, None, False),
    (untyped, {"x": [1, {"a": None}]}, True),
    (untyped, {"y": 1}, False),
    (empty, {}, True),
    (empty, {"a": 1}, False),
    (anything, {"a": 1, "b": [None]}, True),
    (anything, {}, True),
    (numbers, {"n": 1, "m": 2}, True),
    (numbers, {"n": 1, "m": "2"}, False),
    (numbers, {"n": "1"}, False),
    (nested, {"tree": {"value": 1, "children": [{"value": 2}]}}, True),
    (nested, {"tree": {"value": 1, "children": [{"value": "2"}]}}, False),
    (nested, {"tree": {"value": 1, "unknown": 2}}, True),
    (nested, {"tree": {"children": []}}, False),
    (nested, {"tree": 3}, False),
    (nested, {"node": {"name": "a", "next": {"name": "b", "next": None}}}, True),
    (nested, {"node": {"name": "a", "next": {"next": None}}}, False),
    (nested, {"options": {"size": 1}}, True),
    (nested, {"options": {"size": 1, "label": 2}}, False),
    (nested, {"options": {"label": "x"}}, False),
    (rows, {"point": [1]}, True),
    (rows, {"point": [1, 2]}, True),
    (rows, {"point": []}, False),
    (rows, {"point": [1, 2, 3]}, False),
    (rows, {"point": ["1"]}, False),
    (rows, {"pair": [1, "a"]}, True),
    (rows, {"pair": [1]}, False),
    (rows, {"pair": ["a", 1]}, False),
    (rows, {"row": [1, "a", "more"]}, True),
    (rows, {"row": ["a"]}, False),
    (choices, {"color": "blue", "level": 2, "word": None}, True),
    (choices, {"word": 1}, True),
    (choices, {"word": 2}, False),
    (choices, {"word": True}, False),
    (choices, {"color": "green"}, False),
    (choices, {"color": 1}, False),
    (choices, {"level": 3}, False),
    (choices, {"level": "1"}, False),
    (choices, {"color": ["red"]}, False),
    (animals, {"one": {"type": "cat", "lives": 9}}, True),
    (animals, {"one": {"type": "dog"}}, True),
    (animals, {"one": {"lives": 9}}, False),
    (animals, {"one": {"type": "cow", "lives": 9}}, False),
    (animals, {"one": {"type": "cat", "lives": "9"}}, False),
    (animals, {"one": {"type": "cat", "lives": 9, "more": 1}}, True),
    (animals, {"one": {"type": "dog", "more": 1}}, False),
    (animals, {"many": [{"type": "dog"}, {"type": "cat", "lives": 1}]}, True),
    (animals, {"many": [{"type": "dog"}, {"type": "cat"}]}, False),
    (alone, {"cat": {"lives": 9}}, True),
    (alone, {"cat": {"type": "dog", "lives": 9}}, False),
    (many, {"ids": [1, 2], "words": ["a"], "grid": [[1, 2.5], []]}, True),
    (many, {"ids": [1, "2"]}, False),
    (many, {"ids": [1, 2.5]}, False),
    (many, {"ids": {"0": 1}}, False),
    (many, {"grid": [[1], ["x"]]}, False),
    (maps, {"plain": {"a": 1}, "counts": {"a": 1}, "by_id": {"-7": "x"}, "by_word": {"b": 1}}, True),
    (maps, {"counts": {"a": "1"}}, False),
    (maps, {"by_id": {"x": "x"}}, False),
    (maps, {"by_id": {"1": 1}}, False),
    (maps, {"by_word": {"c": 1}}, False),
    (maps, {"plain": []}, False),
    (
        formats,
        {"when": f"{DAY}T12:30:00Z", "day": DAY, "at": "12:30:00", "key": KEY, "data": "eA==", "file": "/x"},
        True,
    ),
    (formats, {"when": f"{DAY} 12:30:00.123456+02:00", "key": KEY.replace("-", "")}, True),
    (formats, {"when": "2023-02-29T00:00:00"}, False),
    (formats, {"when": "2024-13-01T00:00:00"}, False),
    (formats, {"when": "2024-01-01T24:00:00"}, False),
    (formats, {"when": "2024-01-01"}, False),
    (formats, {"when": "soon"}, False),
    (formats, {"when": 1700000000}, False),
    (formats, {"day": "2023-02-29"}, False),
    (formats, {"day": f"{DAY}T00:00:00"}, False),
    (formats, {"at": "25:00:00"}, False),
    (formats, {"key": "not-a-uuid"}, False),
    (formats, {"key": 5}, False),
    (formats, {"data": "eA"}, False),
    (formats, {"data": "e A="}, False),
    (formats, {"file": 3}, False),
    (zones, {"aware": f"{DAY}T00:00:00Z", "naive": f"{DAY}T00:00:00"}, True),
    (zones, {"aware": f"{DAY}T00:00:00"}, False),
    (zones, {"naive": f"{DAY}T00:00:00Z"}, False),
    (bounded, {"n": 9, "x": 0.5, "s": "abcd", "items": [1, 2], "fields": {"a": 1}}, True),
    (bounded, {"n": 0}, False),
    (bounded, {"n": 10}, False),
    (bounded, {"n": 4}, False),
    (bounded, {"x": 0}, False),
    (bounded, {"x": 1.5}, False),
    (bounded, {"s": "a"}, False),
    (bounded, {"s": "abcde"}, False),
    (bounded, {"s": "AB"}, False),
    (bounded, {"items": []}, False),
    (bounded, {"items": [1, 2, 3]}, False),
    (bounded, {"fields": {"a": 1, "b": 2}}, False),
    (keyword_only, {"b": 1}, True),
    (keyword_only, {"c": "x"}, False),
    (secrets, {"key": "k"}, True),
    (secrets, {"key": "", "maybe": None, "login": {"user": "u"}, "keys": [], "by_name": {}}, True),
    (
        secrets,
        {"key": "k", "login": {"user": "u", "password": "p"}, "keys": ["a"], "by_name": {"b": "c"}},
        True,
    ),
    (secrets, {}, False),
    (secrets, {"key": None}, False),
    (secrets, {"key": 3}, False),
    (secrets, {"key": ["k"]}, False),
    (secrets, {"key": "k", "maybe": 1}, False),
    (secrets, {"key": "k", "login": {"user": "u", "password": 1}}, False),
    (secrets, {"key": "k", "keys": ["a", 1]}, False),
    (secrets, {"key": "k", "by_name": {"b": 1}}, False),
    (amount, {"price": "1.50"}, True),
    (amount, {"price": 1.5}, True),
    (amount, {"price": True}, False),
]


def validator_says(main: Any, raw: bytes) -> str | None:
    """What Python's validator has against the args."""
    try:
        ArgsValidator(args_schema(read_signature(main))).check_json(raw)
    except BadArgsError as error:
        return str(error)
    return None


def decoder_says(main: Any, raw: bytes) -> str | None:
    """What the runtime has against the args."""
    _, faults = ArgsDecoder(read_signature(main)).calls(b"[" + raw + b"]")
    return faults.get(0)


@pytest.fixture
async def connection(empty_database_url):
    """A connection to a database that has `check_args` and nothing else of Hotpath."""
    folder = Path(hotpath.store.__file__).parent / "migrations"
    connection = await asyncpg_trio.connect(empty_database_url)
    await connection.execute("create schema hotpath")
    await connection.execute((folder / "0002_check_args.sql").read_text())
    yield connection
    await connection.close()


@pytest.mark.parametrize(("main", "args", "fine"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_validator_and_decoder_agree(main, args, fine):
    """What is accepted at the door is what the job accepts."""
    raw = json.dumps(args).encode()
    at_door, in_job = validator_says(main, raw), decoder_says(main, raw)
    assert (at_door is None) is fine, at_door
    assert (in_job is None) is fine, in_job


async def test_sql_agrees(connection):
    """`hotpath.check_args` gives the verdict of the Python validator, and names the same field."""
    different = []
    for main, args, fine in CASES:
        schema = json.dumps(args_schema(read_signature(main)))
        raw = json.dumps(args)
        said = await connection.fetchval("select hotpath.check_args($1::jsonb, $2::jsonb)", schema, raw)
        here = validator_says(main, raw.encode())
        if (said is None) is not fine or (said and here and _field(said) != _field(here)):
            different.append((main.__name__, raw, said, here))
    assert different == []


def _field(line: str) -> str:
    """The path that an error names, as far as both sides know it."""
    return line.split("`")[1].partition("[")[0] if "`" in line else ""


KEYS = st.sampled_from(["a", "value", "name", "type", "x", "1"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.sampled_from([0.5, 1.0, -2.25, "", "a", "red", DAY]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)
MAINS = sorted({main for main, _, _ in CASES}, key=lambda main: main.__name__)


@hypothesis.given(data=st.data())
@hypothesis.settings(deadline=None, max_examples=examples(60, 150))
def test_validator_and_decoder_agree_on_anything(data):
    """Whatever the args, the door and the job give the same verdict."""
    main = data.draw(st.sampled_from(MAINS))
    names = list(args_schema(read_signature(main))["properties"]) or ["a"]
    raw = json.dumps(
        data.draw(st.dictionaries(st.sampled_from([*names, "other"]), JSON, max_size=4))
    ).encode()
    at_door, in_job = validator_says(main, raw), decoder_says(main, raw)
    assert (at_door is None) is (in_job is None), (main.__name__, raw, at_door, in_job)
