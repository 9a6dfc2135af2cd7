"""How a job can end, and that whatever it does only that job ends so."""

from __future__ import annotations

import pytest

KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
"""A synchronous and an async `main`: what holds for one runtime holds for the other."""


@KINDS
async def test_results(play, kind):
    """Results come back with their job's index, in the order of the jobs, with times that make sense."""
    batch = await play(f"{kind} main(x: int, y: int = 2): return x * y", *({"x": x} for x in range(50)))
    assert batch.values == [x * 2 for x in range(50)]
    assert [one.index for one in batch.ended] == list(range(50))
    starts = [one.started_us for one in batch.ended]
    assert starts == sorted(starts)
    assert all(0 <= one.duration_us < 60_000_000 for one in batch.ended)


@KINDS
async def test_values_with_a_json_form(play, kind):
    """What msgspec can write is a result: attrs, dataclasses, dates, decimals, sets, paths; NaN is null."""
    text = f"""
        import attrs, dataclasses, datetime, decimal, enum, pathlib, uuid
        @attrs.define
        class A: x: int = 1
        @dataclasses.dataclass
        class D: y: float = float("nan")
        class E(enum.Enum): ONE = "one"
        {kind} main():
            return [A(), D(), E.ONE, datetime.date(2024, 2, 29), decimal.Decimal("1.10"), {{3}}, b"x",
                    pathlib.Path("a/b"), uuid.UUID(int=1), {{1: None}}, 2**70]
        """
    batch = await play(text, {})
    assert batch.values == [
        [{"x": 1}, {"y": None}, "one", "2024-02-29", "1.10", [3], "eA==", "a/b",
         "00000000-0000-0000-0000-000000000001", {"1": None}, 2**70],
    ]  # fmt: skip


@KINDS
async def test_result_is_taken_at_once(play, kind):
    """A result is what it was as `main` returned, whatever a later job does to the object."""
    batch = await play(
        f"seen = []\n{kind} main(x: int):\n    seen.append(x)\n    return seen", *({"x": x} for x in range(3))
    )
    assert batch.values == [[0], [0, 1], [0, 1, 2]]


BAD_RESULTS = {
    "object()": "`result` is of type object",
    "{'a': [1, {'b c': print}]}": "`result.a[1]['b c']` is of type builtin_function_or_method",
    "'a\\0b'": "NUL",
    "[{'k': '\\ud800'}]": "`result[0].k` holds a lone surrogate",
    "{'\\0': 1}": "key",
    "{(1, 2): 1}": "key of type tuple",
    "loop": "`result[0]` contains itself",
    "deep": "is nested too deeply",
    "{'a': float('nan'), 'b': object()}": "`result.b` is of type object",
    "'x' * (16 << 20)": "at most 16,777,216",
    "(n for n in [1])": "generator",
    "coro()": "a coroutine that was not awaited",
    "Evil()": "looking at it raised RuntimeError",
    "{'x': 1 << 20000}": "`result.x`",
}


@KINDS
@pytest.mark.parametrize("value", BAD_RESULTS)
async def test_bad_results(play, kind, value):
    """A result that cannot be stored fails its job alone, and the message names the place and the reason."""
    text = f"""
        async def coro(): ...
        loop = []; loop.append(loop)
        deep = []
        for _ in range(5000): deep = [deep]
        class Evil:
            @property
            def __class__(self): raise RuntimeError("boo")
        {kind} main(x: int):
            return ({value}) if x == 1 else x
        """
    batch = await play(text, *({"x": x} for x in range(3)))
    good, bad, also_good = batch.in_order
    assert (good.value, also_good.value) == (0, 2)
    assert (bad.state, bad.value["kind"], bad.value["name"]) == ("failure", "bad_result", "BadResultError")
    assert BAD_RESULTS[value] in bad.value["message"]
    assert "\n" not in bad.value["message"]


async def test_result_of_the_size_allowed(play):
    """16 MiB of JSON is a result; an escaped backslash before `u0000` is no NUL."""
    batch = await play(
        "def main(x: int): return 'x' * ((16 << 20) - 2) if x else r'\\u0000'", {"x": 1}, {"x": 0}
    )
    assert [one.state for one in batch.ended] == ["success", "success"]
    assert batch.ended[1].value == r"\u0000"


@KINDS
@pytest.mark.parametrize(
    ("raised", "name", "message"),
    [
        ("ValueError('no such thing')", "ValueError", "no such thing"),
        ("KeyError('k')", "KeyError", "'k'"),
        ("SystemExit(3)", "SystemExit", "3"),
        ("KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("GeneratorExit('g')", "GeneratorExit", "g"),
        ("BaseException('base')", "BaseException", "base"),
        ("MemoryError()", "MemoryError", ""),
        ("ExceptionGroup('two', [ValueError(1), TypeError(2)])", "ExceptionGroup", "two (2 sub-exceptions)"),
        ("ValueError('nul \\0 and \\ud800')", "ValueError", "nul \\x00 and \\ud800"),
        ("Own()", "Own", "<Own.__str__ raised ZeroDivisionError>"),
    ],
)  # fmt: skip
async def test_exceptions(play, kind, raised, name, message):
    """Whatever `main` raises ends that job, and no other, as a failure with name and message."""
    text = f"""
        class Own(Exception):
            def __str__(self): return 1 / 0
        {kind} main(x: int):
            if x == 1:
                raise {raised}
            return x
        """
    batch = await play(text, *({"x": x} for x in range(3)))
    good, bad, also_good = batch.in_order
    assert (good.value, also_good.value) == (0, 2)
    assert bad.state == "failure"
    assert (bad.value["kind"], bad.value["name"], bad.value["message"]) == ("exception", name, message)


@KINDS
async def test_stop_iteration(play, kind):
    """A StopIteration that `main` raises is a failure like any other (in a coroutine Python makes it a
    RuntimeError).
    """
    batch = await play(f"{kind} main(x: int): return next(iter([])) if x else x", {"x": 1}, {"x": 0})
    assert [one.state for one in batch.in_order] == ["failure", "success"]


@KINDS
async def test_exit(play, kind):
    """`sys.exit()` ends the job that calls it and not the worker."""
    batch = await play(f"import sys\n{kind} main(x: int): sys.exit('bye') if x else None", {"x": 1}, {"x": 0})
    assert [one.value and one.value["message"] for one in batch.in_order] == ["bye", None]


TRACEBACK = """\
Traceback (most recent call last):
  File "{file}", line 4, in deeper
    raise KeyError(x)
KeyError: 1

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "{file}", line 7, in main
    deeper(x)
  File "{file}", line 6, in deeper
    raise ValueError("wrong") from error
ValueError: wrong
"""


@KINDS
async def test_traceback(play, tmp_path, kind):
    """A traceback is the user's own: their frames only, with the causes."""
    text = f"""def deeper(x):
    if x:
      try:
        raise KeyError(x)
      except KeyError as error:
        raise ValueError("wrong") from error
{kind} main(x: int): deeper(x)"""
    text = text.replace("): deeper(x)", "):\n    deeper(x)").replace(
        "def deeper(x):\n    if x:\n", "def deeper(x):\n    if x:\n"
    )
    batch = await play(text, {"x": 1}, name="traced")
    shown = batch.values[0]["traceback"]
    assert shown == TRACEBACK.replace("line 7, in main", "line 8, in main").format(
        file=tmp_path / "traced.py"
    )


async def test_traceback_after_a_wait(play, tmp_path):
    """A job that raises after it was blocked shows its own frames too, and none of the runtime's."""
    batch = await play(
        "import trio\nasync def main():\n    await trio.sleep(0)\n    raise ValueError('x')\n",
        {},
        name="waited",
    )
    shown = batch.values[0]["traceback"]
    assert f'File "{tmp_path / "waited.py"}", line 4, in main' in shown
    assert "hotpath/runtime" not in shown


@KINDS
async def test_huge_errors(play, kind):
    """Messages and tracebacks are bounded, and a recursion without end is just a failure."""
    text = f"""
        def deep(): deep()
        {kind} main(x: int):
            if x: raise ValueError("m" * 1_000_000)
            deep()
        """
    batch = await play(text, {"x": 1}, {"x": 0})
    long, deep = batch.values
    assert len(long["message"]) < 9_000
    assert len(long["traceback"]) < 66_000
    assert deep["name"] == "RecursionError"
    assert len(deep["traceback"]) < 66_000


@KINDS
async def test_bad_args(play, kind):
    """Args that do not fit fail their job alone with the field named; they never reach `main`."""
    args = [{"x": 1}, {"x": "one"}, {}, {"x": 2, "z": 3}, 5, {"x": 3}]
    batch = await play(f"{kind} main(x: int): return x", *args)
    good = [one.value for one in batch.in_order if one.state == "success"]
    assert good == [1, 3]
    bad = [one.value for one in batch.in_order if one.state == "failure"]
    assert {one["kind"] for one in bad} == {"bad_args"}
    assert [
        word in one["message"] for word, one in zip(["`x`", "`x`", "`z`", "object"], bad, strict=True)
    ] == [True] * 4


@KINDS
async def test_args_that_are_no_json(play, kind):
    """A batch whose args cannot be read at all fails each of its jobs; the runtime goes on."""
    batch = await play(f"{kind} main(): ...", {}, {}, raw=b'[{"x": ')
    assert [one.value["kind"] for one in batch.in_order] == ["bad_args", "bad_args"]


@KINDS
async def test_calls(play, kind):
    """Keyword-only parameters, `**kwargs` and defaults of any kind arrive as Python would pass them."""
    text = f"""
        marker = object()
        {kind} main(a: int, b=marker, *, c: str = "c", **rest: int):
            return [a, b is marker, c, rest]
        """
    batch = await play(text, {"a": 1}, {"a": 2, "b": 1, "c": "d", "e": 5}, {"a": 1, "e": "x"})
    assert batch.values[:2] == [[1, True, "c", {}], [2, False, "d", {"e": 5}]]
    assert batch.values[2]["kind"] == "bad_args"


@KINDS
async def test_empty_batch(play, kind):
    """A batch without jobs is done at once."""
    assert (await play(f"{kind} main(): ...")).ended == []


@KINDS
async def test_context_variables(play, kind):
    """What a job sets in its context is gone with it; what `preload` set is there for each job."""
    text = f"""
        from contextvars import ContextVar
        var, base = ContextVar("var", default="unset"), ContextVar("base", default="unset")
        {kind} preload(): base.set("preloaded")
        {kind} main(x: int):
            seen = [var.get(), base.get()]
            var.set(x)
            base.set(x)
            return seen
        """
    batch = await play(text, {"x": 1}, {"x": 2})
    assert batch.values == [["unset", "preloaded"]] * 2
