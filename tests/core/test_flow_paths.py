"""Plain paths, literals and the names an expression uses: the same as JavaScript says, without it."""

from __future__ import annotations

import json
import math
from types import MappingProxyType

import _quickjs
import hypothesis
import pytest
from hypothesis import strategies as st

from hotpath.core.flow.paths import (
    _METHODS,
    _OF_OBJECTS,
    ROOTS,
    UNDEFINED,
    ExpressionError,
    Path,
    parse_literal,
    parse_path,
    resolve,
    roots_used,
    steps_used,
    truthy,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
NAMES = st.sampled_from(["a", "b", "length", "0", "1", "01", "a b", "é", "$x", "name", "size", "-1", ""])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=4),
    max_leaves=12,
)
FUNCTION = """(function (values, text) {
    try {
        const value = new Function("results", "return " + text)(JSON.parse(values));
        return ["undefined", "function"].includes(typeof value) ? typeof value : JSON.stringify(value);
    } catch (error) { return "!" + error.message }
})"""


@pytest.fixture(scope="module")
def engine():
    """A function of QuickJS that evaluates an expression over `results`."""
    return _quickjs.Context().eval(FUNCTION)


def _written(way: list[str | int]) -> str:
    """A path as somebody would write it."""
    text = "results"
    for key in way:
        plain = isinstance(key, str) and key.isascii() and key.isidentifier()
        text += f".{key}" if plain else f"[{json.dumps(key, ensure_ascii=False)}]"
    return text


def _read(text: str):
    """JSON as JavaScript reads it: each number is a double, so that some large ones have several names."""
    return json.loads(text, parse_int=float)


@st.composite
def values_with_ways(draw):
    """A value, and keys of which most lead somewhere in it."""
    value = here = draw(VALUES)
    way = []
    for _ in range(draw(st.integers(0, 4))):
        if isinstance(here, dict) and here:
            there = st.sampled_from(sorted(here))
        elif isinstance(here, list | str) and here:
            there = st.integers(0, len(here)) | st.just("length")
        else:
            there = NAMES
        key = draw(there | there | there | NAMES | st.integers(0, 4) | TEXTS)
        if isinstance(key, str) and key in ("0", "1") and draw(st.booleans()):
            key = int(key)
        way.append(key)
        try:
            here = here[str(key) if isinstance(here, dict) else key]
        except (LookupError, TypeError):
            here = None
    return value, way


@hypothesis.given(case=values_with_ways())
@hypothesis.example(case=({"a": "\U00010000"}, ["a", 0, "length"]))
@hypothesis.example(case=({"a": "\U00010000"}, ["a", 1, 0]))
@hypothesis.settings(deadline=None)
def test_a_path_resolves_to_what_javascript_says(engine, case):
    """Any path over any JSON value gives what QuickJS gives: value, undefined, or the same error."""
    value, way = case
    text = _written(way)
    path = parse_path(text)
    if path is None:
        assert any(isinstance(key, str) and ("\\" in json.dumps(key, ensure_ascii=False)) for key in way)
        return
    said = engine(json.dumps(value), text)
    try:
        found = resolve(path, {"results": value})
    except ExpressionError as error:
        if "lone surrogate" in str(error):
            assert "\\ud" in said
        elif "is a function" in str(error):
            assert said == "function"
        else:
            assert f"!{error}" == said
    else:
        if found is UNDEFINED:
            assert said == "undefined"
        else:
            assert _read(said) == found


@hypothesis.given(
    keys=st.lists(st.sampled_from(["x", "y1"]) | st.integers(0, 20), max_size=4),
    spaces=st.lists(st.sampled_from(["", " ", "\n", "\t"]), min_size=12, max_size=12),
    wrapped=st.sampled_from(["{}", "({})", " ( ({}) ) ", "{};", "({}); ", "{} ;;"]),
    quote=st.sampled_from(["'", '"']),
)
def test_the_ways_to_write_a_path_are_one(keys, spaces, wrapped, quote):
    """White space, quotes, parentheses around the whole and a semicolon behind it change nothing."""
    gaps = iter(spaces)
    text = "results"
    for key in keys:
        written = f"[{key}]" if isinstance(key, int) else f"[{next(gaps)}{quote}{key}{quote}]"
        text += next(gaps) + written
    assert parse_path(wrapped.format(text)) == Path("results", tuple(keys))


@pytest.mark.parametrize("text", ["(" * 50_000 + "results" + ")" * 50_000, "results" + ";" * 50_000 + "a"])
def test_a_path_costs_little_to_look_for(text):
    """A text made to be expensive to look at is left to JavaScript."""
    assert parse_path(text) is None
    assert parse_literal(text) == (False, None)


@pytest.mark.parametrize(
    "text",
    [
        "", "nope", "nope.a", "results.", "results..a", "results?.a", "results.a()", "results.a.map(x => x)",
        "results.a + 1", "results[a]", "results[-1]", "results[01]", "results[1.5]", "results['a",
        "`results.a`", "results.a[0]b", "(results).a", "(results.a)(results.b)", "results.a, results.b",
        "results['\\x61']",
        "results.toString", "results.a.constructor", "results['__proto__']", "results /* c */ .a",
        "results.a; results.b", "{results}", "resultsa.b", "results.é", "results[`a`]",
    ],
)  # fmt: skip
def test_anything_else_is_no_path(text):
    """Calls, operators, templates, unknown roots and what is inherited are left to JavaScript."""
    assert parse_path(text) is None


def test_javascript_has_no_further_methods():
    """The names that are methods in JavaScript are all known, or a path to one would be undefined here."""
    context = _quickjs.Context()
    for kind, of in (
        (list, "Array"),
        (str, "String"),
        (float, "Number"),
        (bool, "Boolean"),
        (dict, "Object"),
    ):
        names = json.loads(context.eval(f"JSON.stringify(Object.getOwnPropertyNames({of}.prototype))"))
        known = _METHODS.get(kind, frozenset()) | _OF_OBJECTS | {"length"}
        assert set(names) <= known, of


def test_a_method_is_not_undefined():
    """A path that ends at a method of an array says so instead of giving null."""
    with pytest.raises(ExpressionError, match="function, `map`"):
        resolve(Path("results", ("map",)), {"results": []})


def test_a_root_that_is_not_there_is_said():
    """A name that this expression has no value for is named, as JavaScript does."""
    with pytest.raises(ExpressionError, match=r"^error is not defined$"):
        resolve(Path("error", ("name",)), {})


def test_other_mappings_and_sequences_are_values_too():
    """What behaves like an object or an array is looked into as one."""
    env = MappingProxyType({"results": MappingProxyType({"a": ({"0": "x"},)})})
    assert resolve(Path("results", ("a", 0, 0)), env) == "x"
    assert resolve(Path("results", ("a", "length")), env) == 1
    assert resolve(Path("results", ("a", 1)), env) is UNDEFINED
    assert resolve(Path("results", ("b",)), env) is UNDEFINED


def test_paths_keep_large_numbers():
    """A whole number beyond 2**53 goes through a path with all its digits."""
    assert resolve(Path("results", ("a",)), {"results": {"a": 2**53 + 1}}) == 2**53 + 1


def test_length_counts_as_javascript_does():
    """A character beyond the first 65,536 counts twice, and half of it is no text."""
    path = Path("results", ("length",))
    assert resolve(path, {"results": "é😀"}) == 3
    with pytest.raises(ExpressionError, match="lone surrogate"):
        resolve(Path("results", (1,)), {"results": "é😀"})


@hypothesis.given(value=VALUES)
def test_truth_is_javascripts(engine, value):
    """A condition holds if and only if JavaScript takes it for true."""
    assert truthy(value) is (engine(json.dumps(value), "!!results") == "true")


def test_nothing_and_nan_are_not_true():
    """`undefined` and NaN, which JSON cannot write, are false."""
    assert not truthy(UNDEFINED)
    assert not truthy(math.nan)


@hypothesis.given(value=VALUES)
def test_json_is_a_literal(engine, value):
    """Whatever JSON can write is a literal with the value that JavaScript gives it."""
    text = json.dumps(value)
    is_literal, found = parse_literal(text)
    if is_literal:
        assert found == value
        assert _read(engine("null", f"({text})")) == value
    else:
        assert "__proto__" in text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a \"b\"'", 'a "b"'),
        (" ( 1 ) ;", 1),
        ("''", ""),
        ("true", True),
        ("null", None),
        ("-1.5e3", -1500.0),
    ],
)
def test_literals(text, value):
    """Single quotes, parentheses and a semicolon are JavaScript's, not JSON's, and are understood."""
    assert parse_literal(text) == (True, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "007",
        "0x10",
        "1e400",
        "[1e400]",
        "'a\\n'",
        "'a' + 'b'",
        "undefined",
        "{a: 1}",
        '{"__proto__": 1}',
        "'",
    ],
)
def test_what_is_no_literal(text):
    """What JavaScript and JSON read differently is not taken for a constant."""
    assert parse_literal(text) == (False, None)


@pytest.mark.parametrize(
    ("text", "roots", "steps"),
    [
        ("results.a + results['b c'].x", {"results"}, {"a", "b c"}),
        ("results?.a?.x + results?.['b']", {"results"}, {"a", "b"}),
        ("`${results.a} results.q ${`${flow_input.x}`}`", {"results", "flow_input"}, {"a"}),
        ("`${ {a: results.a}.a } error`", {"results"}, {"a"}),
        ("'results.a' + \"error\"", set(), set()),
        ("// results.a\nerror /* result */", {"error"}, set()),
        ("x.results.a", set(), set()),
        ("({...results.a, ...resume})", {"results", "resume"}, {"a"}),
        ("/results'/.test(result)", {"result"}, set()),
        ("result.map(x => /['\"`]/.test(x + results.a))", {"result", "results"}, {"a"}),
        ("flow_input.a / results.b / 'x'", {"flow_input", "results"}, {"b"}),
        ("results.in / 2 + results.of", {"results"}, {"in", "of"}),
        ("Object.keys(results)", {"results"}, None),
        ("results[flow_input.k]", {"results", "flow_input"}, None),
        ("results.hasOwnProperty('a')", {"results"}, None),
        ("results.a.b()", {"results"}, {"a"}),
        ("const {a} = results; return a", {"results"}, None),
        ("results['\\x61']", {"results"}, None),
        ("results[`a`]", {"results"}, None),
        ("eval('results.a') + 'error'", {"results", "error"}, None),
        ("(1) /'/.exec(results.a)", {"results"}, None),
        ("a++ / results.b / 2", {"results"}, None),
        ("'it\\'s' + results.a", {"results"}, {"a"}),
        ("'open + results.a", {"results"}, None),
        ("1..toFixed() + 1.5e-3 + results.a", {"results"}, {"a"}),
        ("flow_input.iter.value", {"flow_input"}, set()),
        ("results\n  .a", {"results"}, {"a"}),
    ],
)
def test_names_used(text, roots, steps):
    """The roots and steps are found, not those in texts and comments; where it is not sure, all are."""
    assert roots_used(text) == roots <= ROOTS
    assert steps_used(text) == steps
