"""Expressions in JavaScript: what they see, what they give, what they cannot do, and what ends them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from hotpath.core.flow.paths import UNDEFINED, ExpressionError
from hotpath.flows import javascript
from hotpath.flows.javascript import JavaScript

ENV = {
    "flow_input": {"x": [1, 2, 3], "s": "é😀", "iter": {"value": "v", "index": 0}},
    "results": {"a": {"y": 2}, "b": None, "c d": 4},
    "previous_result": UNDEFINED,
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e15, 1e15)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii", min_codepoint=1)), inner)
    ),
    max_leaves=20,
)


@pytest.fixture
def js() -> JavaScript:
    """An evaluator with nothing in it yet, and time enough on a busy machine."""
    return JavaScript(seconds=2)


@pytest.fixture
def hasty() -> JavaScript:
    """An evaluator as a worker has it."""
    return JavaScript()


def refusal(js: JavaScript, text: str, env=ENV) -> str:
    """The message with which an expression ends; and the next one is none the worse for it."""
    with pytest.raises(ExpressionError) as caught:
        js.evaluate(text, env)
    message = str(caught.value)
    assert "\n" not in message
    assert js.evaluate("[1].map(x => x + flow_input.x[0])", ENV) == [2]
    return message


# --------------------------------------------------------------------------------------------- what it gives


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("flow_input.x.map(v => v * 2)", [2, 4, 6]),
        ("results.a?.y ?? 5", 2),
        ("results.b?.y", UNDEFINED),
        ("`${results['c d']}-${flow_input.iter.value}`", "4-v"),
        ("{a: 1, ...results.a}", {"a": 1, "y": 2}),
        ("{a: 1};", {"a": 1}),
        ("{}", {}),
        ("let x = 1; return x + results.a.y", 3),
        ("if (flow_input.x.length > 2) { return 'many' }\nreturn 'few'", "many"),
        ("let x = 1; x + 1", 2),
        ("var q = 0; for (const v of flow_input.x) q += v; q", 6),
        ("[1, 2].map(x => { return x })", [1, 2]),
        ("[1].forEach(x => { return x }); 5", 5),
        ("1 // the end", 1),
        ("/* first */ 1;\n", 1),
        ("return", UNDEFINED),
        ("previous_result", UNDEFINED),
        ("previous_result === undefined && results.a.y == 2", True),
        ("[NaN, 1/0, undefined]", [None, None, None]),
        ("({toJSON() {}})", UNDEFINED),
        ("NaN", None),
        ("null", None),
        ("new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("flow_input.s.length", 3),
        ("9007199254740993", 9007199254740992),
        ("typeof Date.now() + typeof Math.random()", "numbernumber"),
        ("[3, 1, 2].sort().concat([4], 5).slice(1).join()", "2,3,4,5"),
        ("Object.entries(results).length", 3),
    ],
)
def test_values(js, text, value):
    """Expressions, object literals and statements have the value that JavaScript gives them."""
    found = js.evaluate(text, ENV)
    assert found is value if value is UNDEFINED else found == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("await Promise.resolve(4)", 4),
        ("Promise.resolve(5)", 5),
        ("(async () => { await 1; return results.a.y })()", 2),
        ("const z = await 7; return z + 1", 8),
        ("Promise.all([1, Promise.resolve(2)])", [1, 2]),
        ("({then(done) { done(3) }})", 3),
    ],
)
def test_promises_are_waited_for(js, text, value):
    """An expression may await, or be a promise; its value is what the promise is kept with."""
    assert js.evaluate(text, ENV) == value


@hypothesis.given(value=JSON)
def test_values_come_back_as_they_went_in(value):
    """Any JSON value goes through JavaScript unchanged."""
    assert _shared.evaluate("(flow_input)", {"flow_input": value}) == value


_shared = JavaScript(seconds=5)


def test_a_lone_surrogate_goes_in_but_not_out(js):
    """Half of a character can be looked at; as a value it is refused, since no text can hold it."""
    assert js.evaluate("flow_input.charCodeAt(0)", {"flow_input": "\ud83d"}) == 0xD83D
    assert "lone surrogate" in refusal(js, "[{a: flow_input.s[1]}]")


def test_it_gets_what_it_uses(js):
    """Only the names that stand in the expression are handed over, and of `results` only the steps."""
    results = {"a": 1, "large": object()}
    assert js.evaluate("results.a + 1", {"results": results, "error": object()}) == 2
    with pytest.raises(ExpressionError, match="object"):
        js.evaluate("Object.keys(results)", {"results": results})


# -------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("results.b.q + 1", "TypeError: cannot read property 'q' of null (line 1)"),
        ("\n\n(results.b.q)", "TypeError: cannot read property 'q' of null (line 3)"),
        ("let a = 1;\nlet b = a.x.y;\nreturn b", "TypeError: cannot read property 'y' of undefined (line 2)"),
        ("let a = 1;\nresults.b.z", "TypeError: cannot read property 'z' of null (line 2)"),
        ("nope + 1", "ReferenceError: nope is not defined (line 1)"),
        ("throw new Error('two\\nlines')", "Error: two lines (line 1)"),
        ("throw 'bad'", "bad was thrown"),
        ("throw '\\0-\\ud83d'", "\\0-\ufffd was thrown"),
        ("throw new Error('x'.repeat(5000))", f"Error: {'x' * 993} (line 1)"),
        ("throw {code: 7}", '{"code":7} was thrown'),
        ("await Promise.reject(new RangeError('no'))", "RangeError: no (line 1)"),
    ],
)
def test_errors_are_javascripts_own(js, text, says):
    """The message is JavaScript's, on one line, with the line of the expression and nothing from inside."""
    assert refusal(js, text) == says


@pytest.mark.parametrize(
    ("text", "line"), [("1 +", 1), ("a) + (b", 1), ("let x = 1;\nlet 2 = x;\nx", 2), ("{a: }", 1), ("'a", 1)]
)
def test_syntax_errors_name_the_line(js, text, line):
    """What is not JavaScript is refused with the line in the expression's own text."""
    message = refusal(js, text)
    assert message.startswith("SyntaxError: ")
    assert message.endswith(f"(line {line})")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1n", "bigint"),
        ("{a: 1n}", "BigInt"),
        ("() => 1", "function"),
        ("{a: {b: x => x}}", "function, `b`"),
        ("Symbol('x')", "symbol"),
        ("let o = {}; o.o = o; o", "circular"),
        ("'\\0'", "NUL"),
        ("{a: ['\\0']}", ".a[0] holds a NUL"),
        ("new Promise(() => {})", "promise that nothing keeps"),
        ("let z = await 7; z", "needs a `return`"),
        ("throw {toString() { throw 1 }, toJSON() { throw 2 }}", "cannot be shown"),
    ],
)
def test_values_without_a_form_are_refused(js, text, says):
    """What JSON or PostgreSQL cannot hold is an error that says what it is, not a silent null."""
    assert says in refusal(js, text)


@pytest.mark.parametrize("text", ["", " ;\n", "1 + '\0'", "'\ud83d'"])
def test_texts_that_are_no_expression_are_refused(js, text):
    """Nothing, a NUL and a lone surrogate never reach the engine."""
    assert refusal(js, text).startswith("the expression ")


def test_too_large_a_value_is_refused():
    """More than 16 MiB of JSON is refused, counted in bytes."""
    roomy = JavaScript(seconds=20, memory=1 << 30)
    with pytest.raises(ExpressionError, match="larger than"):
        roomy.evaluate("'x'.repeat(16 * 1024 * 1024)", {})
    with pytest.raises(ExpressionError, match="larger than"):
        roomy.evaluate("'é'.repeat(9 * 1024 * 1024)", {})
    assert len(roomy.evaluate("'x'.repeat(15 * 1024 * 1024)", {})) == 15 * 1024 * 1024


def test_too_large_an_input_is_refused(js):
    """What would fill JavaScript's memory by itself is refused with its size."""
    assert "bytes of JSON" in refusal(js, "flow_input.length", {"flow_input": "x" * 9_000_000})


# ------------------------------------------------------------------------------------------------- its limits


@pytest.mark.parametrize(
    "text",
    [
        "while(1);",
        "(() => { try { for (;;); } catch { return 1 } finally { return 2 } })()",
        "/^(a+)+$/.test('a'.repeat(40) + 'b')",
        "'x'.repeat(100).replace(/(x+x+)+y/, '')",
        "throw {toString() { while (1); }, toJSON() { while (1); }}",
        "throw Object.assign(new Error('x'), {get stack() { while (1); }}) && {get stack() { while (1); }}",
        "({toJSON() { while (1); }})",
        "({get a() { while (1); }})",
        "(async () => { for (;;) await 0 })()",
        "Promise.resolve().then(() => { for (;;); })",
        "Promise.resolve().then(() => { for (;;); }); 3",
        "[...(function* () { for (;;) yield })()].length; new Proxy({}, {get() { while (1); }}).x",
        "new Array(2 ** 32 - 1).indexOf(1)",
    ],
)
def test_what_runs_for_ever_is_ended(hasty, text):
    """A loop, a regular expression, a getter or a promise without end is an error within a second or so."""
    began = time.process_time()
    with pytest.raises(
        ExpressionError, match=r"^it (runs longer than 0.25 s|needs more than 32 MiB of memory)$"
    ):
        hasty.evaluate(text, ENV)
    assert time.process_time() - began < 2
    assert hasty.evaluate("1 + 1", ENV) == 2


@pytest.mark.parametrize(
    "text",
    [
        "let s = 'x'; for (;;) s = s.repeat(2)",
        "'x'.repeat(2 ** 29)",
        "let a = []; for (;;) a.push('x'.repeat(1000) + a.length)",
        "'a'.repeat(2 ** 24).split('')",
        "new Uint8Array(2 ** 26)",
    ],
)
def test_memory_is_limited(js, text):
    """An expression that wants more than 32 MiB is told so; the process does not grow."""
    assert refusal(js, text) == "it needs more than 32 MiB of memory"


@pytest.mark.parametrize(
    "text",
    [
        "(function f() { f() })()",
        "let a = []; for (let i = 0; i < 100000; i++) a = [a]; a",
        "JSON.parse('['.repeat(100000))",
        "eval('('.repeat(100000))",
    ],
)
def test_the_stack_is_limited(js, text):
    """Recursion without end, in calls or in values, is an error and no crash."""
    assert "nested too deeply" in refusal(js, text)


@pytest.mark.parametrize(
    "text",
    [
        "new Array(2 ** 32 - 1).join()",
        "new Array(2 ** 32 - 1).reverse()",
        "new Array(2 ** 32 - 1).sort()",
        "[].concat(new Array(2 ** 32 - 1))",
        "Array.prototype.splice.call({length: 2 ** 53 - 1}, 0, 1)",
        "Object.freeze(new Array(2 ** 32 - 1))",
        "JSON.stringify(1, new Array(2 ** 32 - 1))",
    ],
)
def test_loops_that_cannot_be_interrupted_do_not_begin(js, text):
    """Built-in functions that would loop over four thousand million holes are refused at once."""
    assert "elements is too long" in refusal(js, text)


def test_time_of_others_is_not_held_against_it():
    """Where other threads used up the CPU time that is allowed, the expression begins anew."""
    js = JavaScript(seconds=10)
    js.evaluate("1", {})
    js._threads.sandbox._context.set_time_limit(0.01)  # as if they had used up all but this
    assert js.evaluate("let n = 0; while (n < 5e6) n++; n", {}) == 5_000_000
    assert js.evaluate("2", {}) == 2


def test_waste_of_others_is_not_held_against_it():
    """Where earlier expressions left the memory nearly full, one that fits by itself still runs."""
    js = JavaScript(seconds=20, memory=4 << 20)
    for number in range(40):
        text = f"'{number}'.length + '{'x' * 100_000}'.length"
        assert js.evaluate(text, {}) == 100_000 + len(str(number))


# ---------------------------------------------------------------------------------------------- its isolation


@pytest.mark.parametrize(
    ("attempt", "look"),
    [
        ("Array.prototype.map = () => 'mine'", "[1].map(x => x)"),
        ("delete Array.prototype.map", "typeof [].map"),
        ("Object.prototype.x = 1", "typeof ({}).x"),
        ("({}).__proto__.x = 1", "typeof ({}).x"),
        ("Object.defineProperty(Object.prototype, 'x', {value: 1})", "typeof ({}).x"),
        ("Object.prototype.toString = () => 'mine'", "`${{}}`"),
        ("globalThis.x = 1", "typeof x"),
        ("x = 1", "typeof x"),
        ("(0, eval)('var x = 1')", "typeof x"),
        ("(0, eval)('let x = 1')", "typeof x"),
        ("new Function('x = 1')()", "typeof x"),
        ("(function () { return this })().x = 1", "typeof x"),
        ("JSON.parse = () => 1", "JSON.parse('2')"),
        ("Math.random = 1", "typeof Math.random"),
        ("globalThis.Math = 1", "typeof Math"),
        ("Error.prepareStackTrace = () => 'mine'", "typeof Error.prepareStackTrace"),
        ("Error.stackTraceLimit = 0", "typeof Error.stackTraceLimit"),
        ("Promise.prototype.then = () => 1", "typeof Promise.prototype.then === 'function'"),
        ("Promise.mine = 1", "typeof Promise.mine"),
        ("(function* () {})().__proto__.__proto__.next = 1", "[...(function* () { yield 1 })()]"),
        ("(async () => {}).constructor.prototype.x = 1", "typeof (async () => {}).x"),
        ("[][Symbol.iterator]().__proto__.next = 1", "[...[1]]"),
        ("new Map().entries().__proto__.next = 1", "[...new Map([[1, 2]])]"),
        ("''.matchAll(/x/g).__proto__.next = 1", "[...'x'.matchAll(/x/g)].length"),
        ("Object.setPrototypeOf(Array.prototype, null)", "typeof [].hasOwnProperty"),
        ("Object.setPrototypeOf(globalThis, {x: 1})", "typeof x"),
        ("RegExp.prototype.exec = () => null", "/a/.test('a')"),
        ("Date.prototype.toJSON = () => 'mine'", "JSON.stringify(new Date(0))"),
        ("Symbol.prototype.x = 1; Symbol.x = 1", "typeof Symbol.x"),
        ("(s => s)`a`.x = 1", "typeof (s => s)`a`.x"),
        ("flow_input.x.push(4); flow_input.mine = 1", "flow_input.x.length + typeof flow_input.mine"),
        ("let e = new Error('x'); Object.getPrototypeOf(e).message = 'mine'", "new Error().message"),
        ("Promise.resolve().then(() => { globalThis.x = 1 }); 1", "typeof x"),
        ("Iterator.prototype.map = 1", "typeof Iterator.prototype.map"),
        ("Function.prototype.call = 1", "typeof Function.prototype.call"),
    ],
)
def test_nothing_outlives_an_evaluation(js, attempt, look):
    """Whatever one expression changes, or tries to, a later one in the same thread sees nothing of it."""
    untouched = JavaScript(seconds=2).evaluate(look, ENV)
    js.evaluate("1", ENV)
    try:
        js.evaluate(attempt, ENV)
    except ExpressionError as error:
        assert "runs longer" not in str(error)
    assert js.evaluate(look, ENV) == untouched


def test_all_that_can_be_reached_is_frozen(js):
    """Everything built in, found by following every property and prototype, is frozen."""
    text = """
        const seen = new Set(), loose = [];
        const visit = (value, path) => {
            if ((typeof value !== "object" && typeof value !== "function") || value === null) return;
            if (seen.has(value)) return;
            seen.add(value);
            if (!Object.isFrozen(value)) loose.push(path);
            visit(Object.getPrototypeOf(value), path + ".__proto__");
            for (const key of Reflect.ownKeys(value)) {
                const found = Object.getOwnPropertyDescriptor(value, key);
                for (const part of ["value", "get", "set"]) visit(found[part], path + "." + String(key));
            }
        };
        visit(globalThis, "globalThis");
        for (const made of [[].keys(), new Map().keys(), new Set().keys(), ""[Symbol.iterator](),
            "".matchAll(/x/g), (function* () {}).prototype, (async function* () {}).prototype,
            async () => 1, [].values().map(x => x), Iterator.from({next() {}}), [].values().take(1),
            Promise.resolve(), new Date(), /x/, new Error("x"), Symbol(), 1n, new Uint8Array(1),
            new DataView(new ArrayBuffer(1)), new WeakMap()]) {
            visit(Object.getPrototypeOf(made), "a prototype");
        }
        return [loose, seen.size > 500];
    """
    assert js.evaluate(text, {}) == [[], True]


def test_there_is_no_way_out(js):
    """No module, file, network, timer, thread or clock that blocks is there."""
    names = """require std os fetch setTimeout process Deno Worker print console scriptArgs Atomics WeakRef
        SharedArrayBuffer FinalizationRegistry queueMicrotask"""
    for name in names.split():
        assert js.evaluate(f"typeof {name}", {}) == "undefined"
    assert "ReferenceError" in refusal(js, "import('os')")


def test_objects_may_have_any_key(js):
    """A frozen prototype does not keep an expression from giving its own objects the same names."""
    text = (
        "let o = {}; for (const k of ['constructor', 'toString', 'a']) o[k] = (o[k] === undefined); return o"
    )
    assert js.evaluate(text, {}) == {"constructor": False, "toString": False, "a": True}
    assert refusal(js, "let e = new Error('x'); e.name = 'Mine'; throw e") == "Mine: x (line 1)"
    assert js.evaluate("flow_input", {"flow_input": {"__proto__": 1, "then": 2}}) == {
        "__proto__": 1,
        "then": 2,
    }


# ---------------------------------------------------------------------------------------------- in a process


def test_each_thread_has_its_own(js):
    """One evaluator serves several threads at once, and those that come after."""
    found = []

    def work(number: int) -> None:
        for step in range(50):
            value = js.evaluate(f"flow_input + {step % 7}", {"flow_input": number})
            found.append(value == number + step % 7)

    for _ in range(2):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [True] * 400


def test_more_expressions_than_are_kept(js, monkeypatch):
    """The compiled expressions are bounded; one that was dropped is compiled anew, with its own value."""
    monkeypatch.setattr(javascript, "COMPILED", 5)
    for _ in range(3):
        for number in range(12):
            assert js.evaluate(f"flow_input * {number}", {"flow_input": 2}) == 2 * number
            assert js.evaluate("flow_input + 1", {"flow_input": 2}) == 3
    assert len(js._threads.sandbox._slots) <= 5


def test_the_engine_is_loaded_when_it_is_needed():
    """To import the evaluator and make one loads no engine and starts no thread; to evaluate loads it."""
    code = (
        "import sys, threading\n"
        "from hotpath.flows.javascript import JavaScript\n"
        "js = JavaScript()\n"
        "assert '_quickjs' not in sys.modules\n"
        "assert js.evaluate('1 + 1', {}) == 2\n"
        "assert '_quickjs' in sys.modules and threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
