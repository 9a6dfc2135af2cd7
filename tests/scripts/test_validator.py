"""What is refused at the door, and how it is said: in one line that names the field."""

from __future__ import annotations

import json
import math

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st
from thoroughness import examples

from hotpath.core.schema import ArgsValidator
from hotpath.core.storable import MAX_BYTES
from hotpath.errors import BadArgsError
from hotpath.scripts.args_schema import args_schema
from hotpath.scripts.signature import read_signature


def validator_of(main):
    """The validator of the args of this function, as it is after a trip through the database."""
    return ArgsValidator(json.loads(json.dumps(args_schema(read_signature(main)))))


def job(user_id: int, path: str = "", tags: list[dict[str, int]] | None = None, anything=None): ...  # noqa: D103


def open_job(user_id: int, **rest): ...  # noqa: D103


def typed_job(user_id: int, **rest: int): ...  # noqa: D103


JOB = validator_of(job)
OPEN = validator_of(open_job)
TYPED = validator_of(typed_job)

DOCUMENTS = [
    (b'{"user_id": "7"}', "`user_id`", "expected int, got str"),
    (b"{}", "`user_id`", ""),
    (b'{"userid": 7}', "`userid`", "`user_id`"),
    (b'{"user_id": 7, "tags": [{"a": 1}, {"b": "x"}]}', "`tags[1]", "expected int, got str"),
    (b"[1]", "object", "array"),
    (b"null", "object", "null"),
    (b'"x"', "object", "str"),
    (b"", "not JSON", ""),
    (b'{"user_id": 7', "not JSON", ""),
    (b'{"user_id": 7} x', "not JSON", ""),
    (b"{'user_id': 7}", "not JSON", ""),
    (b'{"user_id": 7, "path": "a\\u0000b"}', "`path`", "NUL"),
    (b'{"user_id": 7, "anything": {"a": ["\\u0000"]}}', "`anything.a[0]`", "NUL"),
    (b'{"user_id": 7, "anything": {"\\u0000": 1}}', "`anything`", "key"),
    (b'{"user_id": 7, "path": "\\ud800"}', "`path`", "surrogate"),
    (b'{"user_id": 7, "anything": NaN}', "`anything`", "nan"),
    (b'{"user_id": 7, "anything": Infinity}', "`anything`", "inf"),
    (b'{"user_id": 7, "path": "\xff"}', "not UTF-8", "0xff"),
    (b'{"user_id": 7, "anything": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested", ""),
]


@pytest.mark.parametrize(
    ("raw", "field", "reason"), DOCUMENTS, ids=[str(raw[:40]) for raw, _, _ in DOCUMENTS]
)
def test_documents_refused(raw, field, reason):
    """A document that cannot be the args of a job is refused with the field and the reason."""
    with pytest.raises(BadArgsError) as refused:
        JOB.check_json(raw)
    assert field in str(refused.value)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


class Odd:
    """A value with no JSON form."""


LOOP: list = []
LOOP.append(LOOP)
DEEP: list = []
for _ in range(5000):
    DEEP = [DEEP]

VALUES = [
    ({"user_id": "7"}, "`user_id`", "expected int, got str"),
    ({"user_id": 7, "more": 1}, "`more`", ""),
    ({"user_id": 7, "path": "a\0b"}, "`path`", "NUL"),
    ({"user_id": 7, "anything": {"k": ["\udc80"]}}, "`anything.k[0]`", "surrogate"),
    ({"user_id": 7, "anything": math.nan}, "`anything`", "nan"),
    ({"user_id": 7, "anything": [1, -math.inf]}, "`anything[1]`", "-inf"),
    ({"user_id": 7, "anything": Odd()}, "`anything`", "Odd"),
    ({"user_id": 7, "anything": LOOP}, "`anything", "contains itself"),
    ({"user_id": 7, "anything": {(1, 2): 3}}, "`anything`", "key of type tuple"),
    ({"user_id": 7, "anything": DEEP}, "`anything[0]", "nested too deeply"),
    ([1], "object", "array"),
    ("x", "object", "text"),
    (None, "object", "null"),
]


@pytest.mark.parametrize(("args", "field", "reason"), VALUES, ids=range(len(VALUES)))
def test_values_refused(args, field, reason):
    """A Python value that cannot be the args of a job is refused with the field and the reason."""
    with pytest.raises(BadArgsError) as refused:
        JOB.encode(args)
    assert field in str(refused.value)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("validator", [JOB, OPEN], ids=["closed", "open"])
def test_size(validator):
    """16 MiB of JSON are accepted, a byte more is not, from values and from documents."""
    name = "path" if validator is JOB else "more"
    room = MAX_BYTES - len(json.dumps({"user_id": 1, name: ""}, separators=(",", ":")))
    raw = validator.encode({"user_id": 1, name: "x" * room})
    assert len(raw) == MAX_BYTES
    assert validator.check_json(raw) == raw
    with pytest.raises(BadArgsError, match="at most 16,777,216"):
        validator.encode({"user_id": 1, name: "x" * (room + 1)})
    with pytest.raises(BadArgsError, match="at most 16,777,216"):
        validator.check_json(raw.replace(b"xx", b"xxx", 1))


def test_compact():
    """What is stored has no insignificant white space, keeps numbers as written, and is one line."""
    raw = b' {\n "user_id" : 12345678901234567890123 ,\t"anything": [1.10, "a\\nb", 1e5] } '
    assert JOB.check_json(raw) == b'{"user_id":12345678901234567890123,"anything":[1.10,"a\\nb",1e5]}'


def test_text_that_looks_like_nul():
    """An escaped backslash before `u0000` is no NUL."""
    assert JOB.check_json(rb'{"user_id":1,"path":"\\u0000"}') == rb'{"user_id":1,"path":"\\u0000"}'
    assert JOB.encode({"user_id": 1, "path": r"\u0000"}) == rb'{"user_id":1,"path":"\\u0000"}'


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.sampled_from("aé\n\0\ud800\\u0"), max_size=6)
    | st.sampled_from([msgspec.Raw(b"1\n"), msgspec.Raw(b"{"), Odd(), (1, 2)]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "\0", "null"]), inner, max_size=2)
    ),
    max_leaves=4,
)
ARGS = st.fixed_dictionaries(
    {"user_id": st.integers() | st.sampled_from(["1", 1.0, None])},
    optional={"path": st.text(max_size=3) | VALUE, "anything": VALUE, "other": VALUE},
)


@hypothesis.given(st.lists(ARGS, min_size=1, max_size=4), st.sampled_from([JOB, OPEN, TYPED]))
@hypothesis.settings(deadline=None, max_examples=examples(100, 300))
def test_many_as_one_by_one(many, validator):
    """Args encoded together are what they are one by one, and none is accepted that would not be alone."""
    together = validator.encode_many(many)
    if together is not None:
        assert together == [validator.encode(args) for args in many]


def test_many_together():
    """The fast way is taken for plain args, and left for large ones."""
    assert JOB.encode_many([{"user_id": 1}, {"user_id": 2}]) == [b'{"user_id":1}', b'{"user_id":2}']
    assert JOB.encode_many([]) is None
    assert JOB.encode_many([{"user_id": 1}, {"user_id": "2"}]) is None
    assert JOB.encode_many([{"user_id": 1, "path": "x" * MAX_BYTES}]) is None
    assert JOB.encode_many([{"user_id": 1, "anything": msgspec.Raw(b"1\n")}]) is None
    assert JOB.encode_many([{"user_id": 1, "anything": math.nan}]) is None
    assert TYPED.encode_many([{"user_id": 1, "more": "x"}]) is None


@hypothesis.given(VALUE)
@hypothesis.settings(deadline=None, max_examples=examples(100, 300))
def test_what_is_encoded_is_accepted(value):
    """What `encode` accepts, `check_json` accepts as it is, and it comes back equal from JSON."""
    args = {"user_id": 1, "anything": value}
    try:
        raw = JOB.encode(args)
    except BadArgsError as refused:
        assert "\n" not in str(refused)
        return
    assert b"\\u0000" not in raw.replace(rb"\\", b"")
    assert json.loads(JOB.check_json(raw)) == json.loads(raw)
