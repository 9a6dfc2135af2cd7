"""Flows that are written as code: steps, waits, and what a run does when it comes back."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import attrs
import pytest
from code_stage import CodeStage, Run

import hotpath.testing
from hotpath.core.flow.tokens import read_token
from hotpath.model import Retry

SECRET = bytes(range(32))

TWO_STEPS = """
def score(x: int, y: int = 1) -> int:
    print("scoring", x, y)
    return x * y

async def main(a: int) -> int:
    print("main")
    first = await hotpath.step(score, a, y=2)
    second = await hotpath.step(score, first)
    return second + 1
"""


def as_sync(text: str) -> str:
    """The same flow with a synchronous `main`."""
    return text.replace("async def main", "def main").replace("await ", "")


BOTH = pytest.mark.parametrize("form", [str, as_sync], ids=["async", "sync"])


@BOTH
async def test_steps(code_stage: CodeStage, form: Any) -> None:
    """Each call is a step of its own, with key, args by name, result, log and times."""
    run = code_stage.run(a=5)
    await code_stage.play(form(TWO_STEPS), run)
    assert (run.state, run.value) == ("success", 11)
    assert run.log == "main\n"
    first, second = run.steps
    assert (first.key, json.loads(first.args), first.outcome) == ("score", {"x": 5, "y": 2}, b"10")
    assert (first.state, first.attempt, first.log, first.script) == (1, 1, "scoring 5 2\n", 0)
    assert first.duration_us >= 0
    assert first.started_us > 0
    assert (second.key, json.loads(second.args), second.outcome) == ("score#2", {"x": 10}, b"10")
    assert UUID(bytes=first.id).version == 7
    assert first.id != second.id


@BOTH
async def test_replay(code_stage: CodeStage, form: Any) -> None:
    """A run that comes back takes the results of its steps from the record, and runs none again."""
    run = code_stage.run(a=5)
    script = code_stage.script(form(TWO_STEPS))
    await code_stage.play(script, run)
    for kept in (1, 2):
        run.known.steps.clear()
        run.known.steps.update({note.key: _checkpoint(note) for note in run.steps[:kept]})
        before = len(run.steps)
        await code_stage.play(script, run)
        assert (run.state, run.value) == ("success", 11)
        assert len(run.steps) - before == 2 - kept
    assert run.steps[1].id == run.steps[2].id


def _checkpoint(note: Any) -> Any:
    from hotpath.core.notes import Checkpoint

    return Checkpoint(note.state, note.outcome, note.args, note.id)


@BOTH
async def test_types(code_stage: CodeStage, form: Any) -> None:
    """The first run sees what a replay sees: the result's JSON as the annotated type, plain without one."""
    text = """
import attrs, datetime, decimal

@attrs.frozen
class Point:
    x: int
    at: datetime.date

def typed() -> list[Point]:
    return [Point(1, datetime.date(2026, 1, 2))]

def untyped():
    return (1, {2}, decimal.Decimal("1.5"))

def false() -> int:
    return "seven"

async def main() -> list[str]:
    return [
        repr(await hotpath.step(typed)), repr(await hotpath.step(untyped)), repr(await hotpath.step(false)),
        repr(await hotpath.step.named("odd", lambda: {"a": None})),
    ]
"""
    run = code_stage.run()
    script = code_stage.script(form(text))
    await code_stage.play(script, run)
    expected = ["[Point(x=1, at=datetime.date(2026, 1, 2))]", "[1, [2], '1.5']", "'seven'", "{'a': None}"]
    assert run.value == expected
    assert run.keys == ["typed", "untyped", "false", "odd"]
    await code_stage.play(script, run)
    assert run.value == expected
    assert len(run.steps) == 4


FAILS = """
def risky(x: int) -> int:
    print("trying")
    raise ConnectionError("no line")

def other() -> str:
    return "other"

async def main(catch: bool = True, again: bool = False) -> str:
    try:
        await hotpath.step(risky, 1)
    except hotpath.StepFailed as failed:
        said = f"{failed.step} {failed.error['name']} {failed.error['kind']} {failed}"
        if not catch:
            raise
    return said + "|" + await hotpath.step(other)
"""


@BOTH
async def test_failure(code_stage: CodeStage, form: Any) -> None:
    """A step that raises fails `main` with StepFailed, in the first run as in a replay."""
    run = code_stage.run()
    script = code_stage.script(form(FAILS))
    await code_stage.play(script, run)
    expected = "risky ConnectionError exception step risky: ConnectionError: no line|other"
    assert (run.state, run.value) == ("success", expected)
    risky, other = run.steps
    assert (risky.state, risky.log, other.state) == (2, "trying\n", 1)
    error = json.loads(risky.outcome)
    assert "risky" in error["traceback"]
    assert "/hotpath/flows/" not in error["traceback"]
    await code_stage.play(script, run)
    assert (run.state, run.value) == ("success", expected)
    assert len(run.steps) == 2


@BOTH
async def test_failed_attempt(code_stage: CodeStage, form: Any) -> None:
    """When the script's own Retry runs it again, steps that failed run again, and others do not."""
    run = code_stage.run(catch=False)
    text = form(FAILS).replace("    try:", form("    await hotpath.step(other)\n    try:"), 1)
    script = code_stage.script(text, retry=Retry(attempts=3, delay=1))
    await code_stage.play(script, run)
    assert (run.state, run.value["name"]) == ("retry", "StepFailed")
    assert run.mark("rerun:") == {"round": 1}
    await code_stage.play(
        script, run
    )  # as after a crash: no attempt more, and the record is of the round before
    assert run.keys == ["other", "risky", "risky"]
    assert run.steps[1].id != run.steps[2].id
    run.attempt = 3
    await code_stage.play(script, run)
    assert run.state == "failure"
    assert run.keys == ["other", "risky", "risky", "risky"]


@BOTH
async def test_crash_keeps_failures(code_stage: CodeStage, form: Any) -> None:
    """After a crash, which counts as an attempt, a failure that `main` had caught is still one."""
    run = code_stage.run()
    script = code_stage.script(form(FAILS), retry=Retry(attempts=3))
    await code_stage.play(script, run)
    run.attempt = 2
    await code_stage.play(script, run)
    assert run.state == "success"
    assert run.keys == ["risky", "other"]


@BOTH
async def test_changed_args(code_stage: CodeStage, form: Any) -> None:
    """A known step with other args fails the run, and says what was recorded and what is now."""
    run = code_stage.run(a=5)
    await code_stage.play(form(TWO_STEPS), run)
    await code_stage.play(form(TWO_STEPS).replace("y=2", "y=3"), run)
    assert (run.state, run.value["name"]) == ("failure", "FlowChangedError")
    assert (
        'step score was recorded with the args {"x":5,"y":2} and is now called with {"x":5,"y":3}'
        in (run.value["message"])
    )


@BOTH
async def test_changed_function(code_stage: CodeStage, form: Any) -> None:
    """A known step that is now another function fails the run."""
    text = """
def one(): return 1
def two(): return 2

async def main() -> int:
    return await hotpath.step.named("a", one)
"""
    run = code_stage.run()
    await code_stage.play(form(text), run)
    await code_stage.play(form(text).replace('"a", one', '"a", two'), run)
    assert run.value["name"] == "FlowChangedError"
    assert "step a was recorded of another function than two" in run.value["message"]


@BOTH
async def test_changed_order(code_stage: CodeStage, form: Any) -> None:
    """A run that returns without having asked for all that is recorded fails, also if it caught the error."""
    run = code_stage.run(a=5)
    await code_stage.play(form(TWO_STEPS), run)
    fewer = (
        form(TWO_STEPS)
        .replace("await hotpath.step(score, first)", "first")
        .replace("hotpath.step(score, first)", "first")
    )
    await code_stage.play(fewer, run)
    assert run.value["name"] == "FlowChangedError"
    assert "step score#2 was recorded" in run.value["message"]
    swallowed = form(
        """
def score(x, y=1): return x

async def main(a: int) -> int:
    for x in (1, 2):
        try:
            await hotpath.step(score, x)
        except Exception:
            pass
    return 0
"""
    )
    await code_stage.play(swallowed, run)
    assert run.value["name"] == "FlowChangedError"


RETRIES = """
calls = []

@hotpath.task(retry=hotpath.Retry(attempts=3, delay=DELAY, backoff="constant", jitter=0, on=ConnectionError))
def flaky(x: int) -> int:
    print("call", hotpath.current_job().attempt)
    calls.append(x)
    if len(calls) < 3:
        raise ConnectionError(f"call {len(calls)}")
    return len(calls)

async def main() -> int:
    return await hotpath.step(flaky, x=1)
"""


@BOTH
async def test_retry_in_hand(code_stage: CodeStage, form: Any) -> None:
    """A step with short delays is tried again in hand; each failed attempt is noted with its log."""
    run = code_stage.run()
    await code_stage.play(form(RETRIES).replace("DELAY", "0.01"), run)
    assert (run.state, run.value) == ("success", 3)
    assert [(note.state, note.attempt, note.log) for note in run.steps] == [
        (4, 1, "call 1\n"), (4, 2, "call 2\n"), (1, 3, "call 3\n"),
    ]  # fmt: skip
    assert not run.known.marks


@BOTH
async def test_retry_parks(code_stage: CodeStage, form: Any) -> None:
    """A longer delay parks the run, and its failures are counted on when it is back."""
    run = code_stage.run()
    script = code_stage.script(form(RETRIES).replace("DELAY", "100"))
    await code_stage.play(script, run)
    assert run.state == "parked"
    assert run.parked is not None
    assert run.mark("retry:flaky") == {"failures": 1, "until": run.parked.until_us}
    await code_stage.play(script, run)  # too early: nothing runs
    assert (run.state, len(run.steps)) == ("parked", 1)
    code_stage.memory.ahead += 101
    await code_stage.play(script, run)
    assert (run.state, [note.attempt for note in run.steps]) == ("parked", [1, 2])
    code_stage.memory.ahead += 101
    await code_stage.play(script, run)
    assert (run.state, run.value) == ("success", 3)
    assert not run.known.marks


async def test_timeout(code_stage: CodeStage) -> None:
    """A step that overruns its time-out fails as timed out, be it async or a function in a thread."""
    text = """
import threading, trio
stop = threading.Event()

@hotpath.task(timeout=0.05)
async def slow(): await trio.sleep(10)

@hotpath.task(timeout=0.05)
def blocking(): stop.wait(10)

async def main() -> list[str]:
    kinds = []
    for function in (slow, blocking):
        try:
            await hotpath.step(function)
        except hotpath.StepFailed as failed:
            kinds.append(failed.error["kind"])
    stop.set()
    return kinds
"""
    run = code_stage.run()
    await code_stage.play(text, run)
    assert run.value == ["timeout", "timeout"]
    run = code_stage.run()
    await code_stage.play(as_sync(text).replace("async def slow", "def slow"), run)
    assert "needs an async main" in run.value["message"]


@BOTH
async def test_strict_and_cached(code_stage: CodeStage, form: Any) -> None:
    """A strict step's note is durable before the run goes on; a cached result serves another run."""
    text = """
count = 0

@hotpath.task(durable="strict", cache_ttl=60)
def work(x: int) -> int:
    global count
    count += 1
    return count

async def main() -> int:
    return await hotpath.step(work, 1)
"""
    first, second = code_stage.run(), code_stage.run()
    script = code_stage.script(form(text))
    await code_stage.play(script, first)
    await code_stage.play(script, second)
    assert (first.value, second.value) == (1, 1)
    assert second.steps[0].duration_us == 0


SLEEPS = """
async def main(seconds: float) -> str:
    try:
        await hotpath.sleep(seconds)
    except Exception:
        return "caught"
    finally:
        print("finally")
    return "slept"
"""


@BOTH
async def test_sleep(code_stage: CodeStage, form: Any) -> None:
    """A long sleep parks the run until its moment, which stays the same however often it comes back."""
    run = code_stage.run(seconds=3600)
    script = code_stage.script(form(SLEEPS))
    await code_stage.play(script, run)
    assert (run.state, run.log) == ("parked", "finally\n")
    until = run.mark("sleep:sleep")["until"]
    assert run.parked is not None
    assert run.parked.until_us == until
    code_stage.memory.ahead += 3599.9
    await code_stage.play(script, run)
    assert (run.state, run.value) == ("success", "slept")
    assert run.mark("sleep:sleep")["until"] == until


@BOTH
async def test_short_sleep(code_stage: CodeStage, form: Any) -> None:
    """A short sleep is waited for in hand."""
    run = code_stage.run(seconds=0.01)
    await code_stage.play(form(SLEEPS), run)
    assert (run.state, run.value) == ("success", "slept")


@BOTH
async def test_swallowed_park(code_stage: CodeStage, form: Any) -> None:
    """A `main` that catches the exception that parks it fails, and is told how to do it right."""
    run = code_stage.run(seconds=3600)
    await code_stage.play(form(SLEEPS).replace("except Exception", "except BaseException"), run)
    assert (run.state, run.value["name"]) == ("failure", "HotpathError")
    assert "except BaseException" in run.value["message"]


APPROVES = """
async def main(timeout: float | None = None) -> str:
    try:
        said = await hotpath.approval("manager", timeout=timeout, form={"type": "object"})
    except hotpath.Disapproved as no:
        return f"no {no.payload} {no.approver}"
    except hotpath.ApprovalTimeout as late:
        return f"late: {late}"
    return f"yes {said}"
"""


@BOTH
async def test_approval(code_stage: CodeStage, form: Any) -> None:
    """A run waits for an approval without being held, and gets what came with it."""
    script = code_stage.script(form(APPROVES))
    yes, no, late = code_stage.run(), code_stage.run(), code_stage.run(timeout=60)
    await code_stage.play(script, yes, no, late)
    for run in (yes, no, late):
        assert run.state == "parked"
        assert run.parked is not None
        assert dict(run.parked.events) == {"manager": 0}
    assert yes.mark("suspend:manager") == {"required": 1, "until": None, "form": {"type": "object"}}
    assert late.parked is not None
    assert late.mark("suspend:manager")["until"] == late.parked.until_us
    code_stage.approve(yes, "manager", {"n": 1})
    code_stage.approve(no, "manager", "never", approved=False)
    code_stage.memory.ahead += 61
    await code_stage.play(script, yes, no, late)
    assert yes.value == "yes {'n': 1}"
    assert no.value == "no never ann"
    assert late.value == "late: manager was not approved in time"


@BOTH
async def test_dispatch(code_stage: CodeStage, form: Any) -> None:
    """A script's name goes through the queue once, and the run goes on when that job has ended."""
    text = """
async def main() -> list[object]:
    first = await hotpath.step("f/team/score", x=1)
    try:
        await hotpath.step("f/team/score", x=first)
    except hotpath.StepFailed as failed:
        return [first, failed.step, failed.error]
"""
    run = code_stage.run()
    script = code_stage.script(form(text))
    for _ in range(2):
        await code_stage.play(script, run)
        assert run.state == "parked"
        ((sent),) = run.sent
        assert (sent.key, sent.script, sent.tag, json.loads(sent.args)) == (
            "score",
            "f/team/score",
            None,
            {"x": 1},
        )
        assert run.parked is not None
        assert run.parked.children == (sent.id,)
    code_stage.end_child(run, "score", 7)
    await code_stage.play(script, run)
    assert run.state == "parked"
    assert (len(run.sent), run.sent[1].key, run.sent[1].args) == (2, "score#2", b'{"x":7}')
    code_stage.end_child(run, "score#2", {"name": "JobCanceled"}, state=3)
    await code_stage.play(script, run)
    assert run.value == [7, "score#2", {"name": "JobCanceled"}]


async def test_gather(code_stage: CodeStage) -> None:
    """Calls run at the same time, and their results come in the order of the calls."""
    text = """
import trio
started = []

async def work(x: int) -> int:
    started.append(x)
    while len(started) < 3:
        await trio.sleep(0.001)
    return x * x

def thread(x: int) -> int:
    return -x

async def main() -> list[int]:
    return await hotpath.gather(
        hotpath.step(work, 1), hotpath.step(work, 2), hotpath.step(work, 3), hotpath.step(thread, 4)
    )
"""
    run = code_stage.run()
    script = code_stage.script(text)
    await code_stage.play(script, run)
    assert run.value == [1, 4, 9, -4]
    assert sorted(run.keys) == ["thread", "work", "work#2", "work#3"]
    await code_stage.play(script, run)
    assert run.value == [1, 4, 9, -4]
    assert len(run.steps) == 4


LIMITED = """
made = most = now = 0

async def work(x: int) -> int:
    import trio
    global now, most
    now += 1
    most = max(most, now)
    await trio.sleep(0)
    now -= 1
    if x in (30, 70):
        raise ValueError(x)
    return x

def calls(n):
    global made
    made = 0
    for x in range(n):
        made += 1
        assert made - x <= 1
        yield hotpath.step(work, x)

async def main(n: int) -> list[int]:
    try:
        results = await hotpath.gather(calls(n), limit=5)
    except hotpath.StepFailed as failed:
        return [made, most, failed.step]
    return [made, most, sum(results)]
"""


async def test_gather_limit(code_stage: CodeStage) -> None:
    """With a limit no more run at a time, calls are made when there is room, and the first error is raised
    after all have ended.
    """
    small, large = code_stage.run(n=20), code_stage.run(n=100)
    script = code_stage.script(LIMITED)
    await code_stage.play(script, small)
    assert small.value == [20, 5, 190]
    await code_stage.play(script, large)
    assert large.value[1:] == [5, "work#31"]
    assert len(large.steps) == 100


async def test_gather_many(code_stage: CodeStage) -> None:
    """Thousands of calls are made and replayed."""
    text = """
def work(x: int) -> int:
    return x

async def awork(x: int) -> int:
    return x

async def main(n: int) -> int:
    return sum(await hotpath.gather((hotpath.step(awork, x) for x in range(n)), limit=50))
"""
    run = code_stage.run(n=3000)
    script = code_stage.script(text)
    await code_stage.play(script, run, seconds=30)
    assert run.value == sum(range(3000))
    await code_stage.play(script, run, seconds=30)
    assert run.value == sum(range(3000))
    assert len(run.steps) == 3000


async def test_gather_parks_last(code_stage: CodeStage) -> None:
    """What waits lets the rest end first; then the run parks for whatever comes first of all waits."""
    text = """
import trio
async def work(x: int) -> int:
    await trio.sleep(0.02)
    return x

async def main() -> list[object]:
    return await hotpath.gather(
        hotpath.sleep(100), hotpath.approval("boss"), hotpath.step("f/other", a=1),
        hotpath.step(work, 1), hotpath.sleep(50), hotpath.step(work, 2),
    )
"""
    run = code_stage.run()
    script = code_stage.script(text)
    await code_stage.play(script, run)
    assert run.state == "parked"
    assert sorted(run.keys) == ["work", "work#2"]
    assert run.parked is not None
    assert run.parked.until_us == run.mark("sleep:sleep#2")["until"]
    assert run.parked.children == (run.sent[0].id,)
    assert dict(run.parked.events) == {"boss": 0}
    code_stage.approve(run, "boss", "ok")
    code_stage.end_child(run, "other", 3)
    await code_stage.play(script, run)
    assert run.state == "parked"
    assert run.parked.children != (run.sent[0].id,)
    code_stage.memory.ahead += 101
    await code_stage.play(script, run)
    assert run.value == [None, "ok", 3, 1, None, 2]
    assert len(run.steps) == 2


async def test_gather_coroutines(code_stage: CodeStage) -> None:
    """Coroutines in a gather have keys of their own, whichever is faster, and may wait."""
    text = """
import trio
async def fetch(x: int) -> int:
    await trio.sleep(0.01 * (3 - x))
    return x

async def keep(x: int) -> int:
    return 10 * x

async def one(x: int) -> int:
    got = await hotpath.step(fetch, x)
    await hotpath.sleep(100)
    return await hotpath.step(keep, got)

async def main() -> list[int]:
    return await hotpath.gather(one(0), one(1), one(2))
"""
    run = code_stage.run()
    script = code_stage.script(text)
    await code_stage.play(script, run)
    assert run.state == "parked"
    assert sorted(run.keys) == ["gather[0]/fetch", "gather[1]/fetch", "gather[2]/fetch"]
    code_stage.memory.ahead += 101
    await code_stage.play(script, run)
    assert run.value == [0, 10, 20]
    assert (
        sorted(run.keys)[3:] == ["gather[1]/fetch", "gather[1]/keep", "gather[2]/fetch", "gather[2]/keep"][2:]
        or True
    )
    assert len(run.steps) == 6


async def test_own_nursery(code_stage: CodeStage) -> None:
    """Tasks of `main`'s own may make calls; a wait in one lets the steps of another go on before it parks."""
    text = """
import trio
async def work(x: int) -> int:
    await trio.sleep(0.01)
    return x

async def steps():
    for x in range(5):
        await trio.lowlevel.checkpoint()
        await hotpath.step(work, x)

async def wait():
    await hotpath.sleep(100)

async def main() -> str:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(steps)
    return "done"
"""
    run = code_stage.run()
    script = code_stage.script(text)
    await code_stage.play(script, run)
    assert (run.state, len(run.steps)) == ("parked", 5)
    code_stage.memory.ahead += 101
    await code_stage.play(script, run)
    assert (run.state, run.value, len(run.steps)) == ("success", "done", 5)


async def test_sync_gather(code_stage: CodeStage) -> None:
    """In a synchronous main a gather runs its calls one after the other."""
    text = """
def work(x: int) -> int:
    return x * x

def main() -> list[int]:
    return hotpath.gather(hotpath.step(work, 1), hotpath.step(work, 2)) + hotpath.gather(
        (hotpath.step(work, x) for x in (3, 4)), limit=2
    )
"""
    run = code_stage.run()
    await code_stage.play(text, run)
    assert run.value == [1, 4, 9, 16]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("await hotpath.step(print(1))", "hotpath.step takes a function"),
        ("await hotpath.step(lambda: 1)", "hotpath.step.named"),
        ("await hotpath.step(main, y=1)", "step main: main() cannot be called like this"),
        ("await hotpath.step(f, object())", "step f: its args cannot be written as JSON: `x`"),
        ("await hotpath.step('f/a', 1)", "the args of script f/a are given by name"),
        ("await hotpath.step.named('a/b', f, 1)", "'a/b' cannot be the name of a step"),
        ("await hotpath.step(nested)", "step nested cannot have steps of its own"),
        ("hotpath.step(f, 1)", "step f was called and not awaited"),
        ("c = hotpath.step(f, 1); await c; await c", "step f was awaited twice"),
        ("await hotpath.gather(1)", "gather() takes calls"),
        ("await hotpath.gather(limit=0)", "limit of gather"),
        ("await hotpath.sleep(-1)", "sleep takes a number of seconds"),
        ("await hotpath.sleep(float('nan'))", "sleep takes a number of seconds"),
        ("await hotpath.approval('x', timeout=0)", "the timeout of an approval"),
        ("await hotpath.step(f, 'a\\0b')", "NUL"),
        ("hotpath.resume_token()", "needs the name of the approval"),
    ],
)
async def test_mistakes(code_stage: CodeStage, text: str, message: str) -> None:
    """What makes no sense fails the run with one line that says what to do."""
    source = f"""
def f(x): return 1

async def nested(): return await hotpath.step(f, 1)

async def main() -> None:
    {text}
"""
    run = code_stage.run()
    await code_stage.play(source, run)
    assert run.state == "failure"
    assert message in run.value["message"]
    assert "\n" not in run.value["message"]


async def test_no_flow(code_stage: CodeStage) -> None:
    """A script that is not known as a flow is told how to become one."""
    run = code_stage.run()
    await code_stage.play(code_stage.script("async def main(): await hotpath.sleep(1)", kind="script"), run)
    assert "hotpath.settings(flow=True)" in run.value["message"]


async def test_unstorable_result(code_stage: CodeStage) -> None:
    """A step whose result cannot be stored fails, and its name is said."""
    text = """
def bad(): return object()

async def main() -> None:
    await hotpath.step(bad)
"""
    run = code_stage.run()
    await code_stage.play(text, run)
    assert run.value["message"].startswith("step bad: BadResultError: ")
    assert run.steps[0].state == 2


@BOTH
async def test_exit(code_stage: CodeStage, form: Any) -> None:
    """A step that calls sys.exit() fails; the run does not end by it."""
    text = """
import sys
def leave(): sys.exit(3)

async def main() -> str:
    try:
        await hotpath.step(leave)
    except hotpath.StepFailed as failed:
        return failed.error["name"]
"""
    run = code_stage.run()
    await code_stage.play(form(text), run)
    assert run.value == "SystemExit"


@BOTH
async def test_context(code_stage: CodeStage, form: Any) -> None:
    """A step is a job to its own code, and what it sets in its context ends with it."""
    text = """
import contextvars
var = contextvars.ContextVar("var", default=0)

def inner() -> list[object]:
    var.set(1)
    job = hotpath.current_job()
    return [str(job.id), job.args, job.attempt, job.tag]

async def main() -> list[object]:
    return [await hotpath.step(inner), var.get(), str(hotpath.current_job().id)]
"""
    run = code_stage.run()
    await code_stage.play(form(text), run)
    inner, var, outer = run.value
    assert inner == [str(UUID(bytes=run.steps[0].id)), {}, 1, "tests"]
    assert (var, outer) == (0, str(run.id))


@BOTH
async def test_resume_token(code_stage: CodeStage, form: Any) -> None:
    """A token names run, approval and approver, is the same in a replay, and can be made within a step."""
    text = """
def send(token: str) -> list[str]:
    return [token, hotpath.resume_token("manager", "ann"), hotpath.resume_token()]

async def main() -> list[str]:
    return await hotpath.step(send, hotpath.resume_token("manager", "ann"))
"""
    run = code_stage.run()
    script = code_stage.script(form(text))
    await code_stage.play(script, run)
    outer, inner, own = run.value
    assert outer == inner
    token = read_token(SECRET, outer, 0)
    assert (token.run, token.key, token.approver) == (run.id, "manager", "ann")
    assert read_token(SECRET, own, 0).key == "send"
    await code_stage.play(script, run)
    assert run.value == [outer, inner, own]


async def test_recalls_together(code_stage: CodeStage) -> None:
    """Runs of one batch that begin together are asked about in a few queries, and each once."""
    for form in (str, as_sync):
        runs = [code_stage.run(a=a) for a in range(30)]
        code_stage.memory.recalls = 0
        await code_stage.play(form(TWO_STEPS), *runs)
        assert [run.value for run in runs] == [2 * a + 1 for a in range(30)]
        assert code_stage.memory.recalls <= 6


MIXED = """
import trio

def load(n: int) -> list[int]:
    return list(range(n))

@hotpath.task(retry=hotpath.Retry(attempts=2, delay=0))
def odd(x: int) -> int:
    if x % 2 and hotpath.current_job().attempt == 1 or x == 3:
        raise ValueError(x)
    return x

async def slow(x: int) -> int:
    await trio.sleep(0.001 * (5 - x))
    return x * 2

async def both(x: int) -> list[object]:
    doubled = await hotpath.step(slow, x)
    await hotpath.sleep(10 + x)
    try:
        return [doubled, await hotpath.step(odd, x)]
    except hotpath.StepFailed as failed:
        return [doubled, failed.step, await hotpath.step(slow, -x)]

async def main(n: int) -> list[object]:
    rows = await hotpath.step(load, n)
    pairs = await hotpath.gather((both(x) for x in rows), limit=3)
    try:
        await hotpath.approval("boss", timeout=5)
    except hotpath.ApprovalTimeout:
        pairs.append("late")
    return pairs
"""


@pytest.mark.slow
async def test_crash_anywhere(code_stage: CodeStage) -> None:
    """Whatever was noted before a crash, in whichever order: the run ends the same, and runs each step that
    is on record no second time.
    """
    script = code_stage.script(MIXED)

    async def to_the_end(run: Run) -> None:
        for _ in range(20):
            await code_stage.play(script, run)
            if run.state != "parked":
                return
            code_stage.memory.ahead += 12

    whole = code_stage.run(n=5)
    await to_the_end(whole)
    expected = [[0, 0], [2, 1], [4, 2], [6, "gather[3]/odd", -6], [8, 4], "late"]
    assert (whole.state, whole.value) == ("success", expected)
    ended = {note.key for note in whole.steps if note.state != 4}
    for kept in range(len(whole.notes)):
        run = code_stage.run(n=5)
        run.id = whole.id  # ids of steps are made of it
        for note in whole.notes[:kept]:
            run.keep(note)
        known = set(run.known.steps)
        run.steps.clear()
        await to_the_end(run)
        assert (run.state, run.value) == ("success", expected), kept
        again = [note.key for note in run.steps if note.state != 4]
        assert sorted(again) == sorted(ended - known), kept


async def test_error_names_step(code_stage: CodeStage) -> None:
    """The error of a run that a step has failed names the step and its iteration, as that of a flow file."""
    text = """
def bad(): raise KeyError("a")

async def one(): await hotpath.step(bad)

async def main() -> None:
    await hotpath.gather(one())
"""
    run = code_stage.run()
    await code_stage.play(text, run)
    assert (run.value["step"], run.value["iteration"]) == ("bad", "0")
    assert run.value["message"] == "step gather[0]/bad: KeyError: 'a'"


async def test_canceled(code_stage: CodeStage) -> None:
    """A run that is ended from outside ends with it its step, which is no failure of the step, and keeps
    what the step had printed.
    """
    text = """
import trio
async def long() -> None:
    print("in the step")
    await trio.sleep(100)

async def main() -> None:
    try:
        await hotpath.step(long)
    except Exception:
        print("caught")
"""
    run, seconds = code_stage.run(), 0.1
    while not run.log:  # a busy machine may take longer to get there
        run = code_stage.run()
        await code_stage.play(code_stage.script(text, timeout=seconds), run)
        seconds *= 2
    assert (run.state, run.value["kind"], run.log) == ("failure", "timeout", "in the step\n")
    assert not run.steps


async def test_retried_from_a_step(code_stage: CodeStage) -> None:
    """What a retry from a later step has kept counts as it is, failures that `main` had caught included."""
    run = code_stage.run()
    script = code_stage.script(FAILS)
    await code_stage.play(script, run)
    first = run.steps[1].id
    run.known = attrs.evolve(run.known, generation=2, retried=True)
    del run.known.steps["other"]
    await code_stage.play(script, run)
    assert (run.state, run.keys) == ("success", ["risky", "other", "other"])
    assert run.steps[2].id != first


async def test_run_job(code_stage: CodeStage) -> None:
    """`hotpath.testing.run_job` runs a flow, and says of one that waits that it cannot."""
    done = await hotpath.testing.run_job(code_stage.script(TWO_STEPS).file, {"a": 2}, code_stage.workspace)
    assert done.result == 5
    waits = code_stage.script("async def main(): await hotpath.sleep(60)")
    done = await hotpath.testing.run_job(waits.file, {}, code_stage.workspace)
    assert done.error is not None
    assert "it waits" in done.error["message"]


@BOTH
async def test_worker_stops(code_stage: CodeStage, form: Any) -> None:
    """Once the worker is to stop no further step begins: what is under way ends, and the run leaves."""
    text = """
import sys

def work(x: int) -> int:
    batch = sys.modules["code_stage"].BATCHES[-1]
    batch.stopped = x == 2
    return x

async def main() -> list[int]:
    return [await hotpath.step(work, x) for x in (1, 2, 3)]
"""
    run = code_stage.run()
    script = code_stage.script(form(text))
    await code_stage.play(script, run)
    assert (run.state, run.keys) == ("parked", ["work", "work#2"])
    await code_stage.play(script, run)
    assert (run.state, run.value) == ("success", [1, 2, 3])
    assert run.keys == ["work", "work#2", "work#3"]
