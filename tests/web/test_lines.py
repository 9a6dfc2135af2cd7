"""Lines of a body, however the network cuts it."""

import json

import trio
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.schema import ArgsValidator
from hotpath.web.lines import Lines
from hotpath.web.problem import ProblemError

ANYTHING = ArgsValidator({"type": "object", "properties": {}, "required": [], "additionalProperties": True})
DOCUMENTS = st.lists(
    st.one_of(
        st.dictionaries(
            st.text("ab\u00e4\u2028\x85", max_size=3), st.integers() | st.text("x\u00e4\u2029 \r", max_size=9)
        ),
        st.just(None),  # a blank line
    ),
    max_size=12,
)


class Body:
    """A request, as far as its body goes."""

    def __init__(self, chunks):
        self.scope = {}
        self._chunks = list(chunks)

    async def receive(self):
        chunk = self._chunks.pop(0) if self._chunks else b""
        return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks)}


def cut(body, places):
    """The body in parts, empty ones too."""
    ends = sorted({min(place, len(body)) for place in places} | {len(body)})
    return [body[start:end] for start, end in zip([0, *ends], ends, strict=False)] + [b""]


async def read(lines):
    """All of them."""
    found = []
    async for line in lines:
        found.append(json.loads(line))  # noqa: PERF401 - an asynchronous comprehension reads no better
    return found


@given(
    DOCUMENTS, st.lists(st.integers(0, 400), max_size=30), st.sampled_from([b"\n", b"\r\n"]), st.booleans()
)
def test_any_cut(documents, places, ending, ended):
    """Every document comes once and in order, wherever the body is cut, within a character too."""
    rows = [b" " if each is None else json.dumps(each, ensure_ascii=False).encode() for each in documents]
    body = ending.join(rows) + (ending if ended else b"")
    lines = Lines(Body(cut(body, places)), ANYTHING.check_json)
    assert trio.run(read, lines) == [each for each in documents if each is not None]


@given(DOCUMENTS, st.lists(st.integers(0, 400), max_size=30))
def test_the_bad_one(documents, places):
    """A bad line is named by its number, whatever stands before it and wherever the body is cut."""
    rows = [b"" if each is None else json.dumps(each).encode() for each in documents]
    body = b"\n".join([*rows, b"no", b"{}"])
    try:
        trio.run(read, Lines(Body(cut(body, places)), ANYTHING.check_json))
    except ProblemError as error:
        assert (error.status, error.extra["line"]) == (400, len(documents) + 1)
    else:
        raise AssertionError("it was taken")
