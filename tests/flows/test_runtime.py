"""`FlowRuntime`: many runs at a time, sync and async steps, ends from outside, waits, notes; no database."""

from __future__ import annotations

import functools
import json
import random
import threading
from collections import Counter
from typing import Any

import pytest
import trio
from code_stage import Run
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from runtime_stage import FlowBatch, RuntimeStage, branches, loop, step

from hotpath.core.flow.engine import Run as EngineRun
from hotpath.errors import ScriptError
from hotpath.flows import home as homes
from hotpath.flows.home import Home
from hotpath.flows.runtime import FlowRuntime
from hotpath.flows.steps import StepBatch
from hotpath.model import ErrorKind
from hotpath.runtime import context
from hotpath.runtime.tracing import Spans

SYNC = """
    import threading
    def main(x: int) -> dict[str, object]:
        print("sync", x)
        return {"x": x + 1, "thread": threading.get_ident()}
"""
ASYNC = """
    import threading, trio
    async def main(x: int) -> dict[str, object]:
        print("async", x)
        await trio.sleep(0.001)
        return {"x": x + 1, "thread": threading.get_ident()}
"""
FORMS = {"sync": [SYNC] * 3, "async": [ASYNC] * 3, "mixed": [SYNC, ASYNC, SYNC]}
CHAIN = (
    step("a", "a", {"x": "flow_input.x"}),
    step("b", "b", {"x": "results.a.x"}),
    step("c", "c", {"x": "results.b.x"}),
)


def outcomes(run: Run) -> dict[str, Any]:
    """By key, how each step ended at last."""
    return {note.key: (note.state, json.loads(note.outcome)) for note in run.steps}


def errors(run: Run) -> dict[str, Any]:
    """By key, the names and messages of steps' errors."""
    return {
        key: (value["name"], value["message"]) for key, (state, value) in outcomes(run).items() if state > 1
    }


@pytest.mark.parametrize("form", FORMS)
async def test_steps_run_where_they_should(flow_stage: RuntimeStage, form: str) -> None:
    """Sync steps run in the lane's thread, all in one, async ones in Trio's; each step's log, args, result
    and time are noted once, in order, and the run has the last one's result.
    """
    for name, text in zip("abc", FORMS[form], strict=True):
        flow_stage.script(name, text)
    flow_stage.flow(*CHAIN)
    runs = [flow_stage.run(x=x) for x in range(40)]
    async with flow_stage.open():
        await flow_stage.play(*runs)
    here = threading.get_ident()
    lanes = set()
    for x, run in enumerate(runs):
        assert (run.state, run.value["x"]) == ("success", x + 3)
        assert run.keys == ["a", "b", "c"]
        for at, (note, text) in enumerate(zip(run.steps, FORMS[form], strict=True)):
            thread = json.loads(note.outcome)["thread"]
            assert (thread == here) == (text is ASYNC)
            lanes.update({thread} - {here})
            assert note.log == f"{'async' if text is ASYNC else 'sync'} {x + at}\n"
            assert json.loads(note.args) == {"x": x + at}
            assert note.attempt == 1
        starts = [note.started_us for note in run.steps]
        assert starts == sorted(starts)
    assert len({note.script for note in runs[0].steps}) == 3
    assert len({note.id for run in runs for note in run.steps}) == 120
    assert len(lanes) == (0 if form == "async" else 1)


async def test_steps_of_many_runs_go_together(
    flow_stage: RuntimeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of one script, of runs that came in different batches, are one batch for its runtime, once it is
    known that they are short.
    """
    for name in "abc":
        flow_stage.script(name, "def main(x: int) -> dict[str, int]:\n    return {'x': x}\n")
    flow_stage.flow(*CHAIN)
    batches: list[StepBatch] = []
    made = Home._batch

    def make(self: Home, kept: Any) -> StepBatch | None:
        batch = made(self, kept)
        if batch is not None:
            batches.append(batch)
        return batch

    monkeypatch.setattr(Home, "_batch", make)
    async with flow_stage.open():
        await flow_stage.play(*(flow_stage.run(x=x) for x in range(100)))
        batches.clear()
        given = [flow_stage.start(*(flow_stage.run(x=x) for x in range(50))) for _ in range(4)]
        for batch in given:
            await batch.ended.wait()
    assert sum(len(batch) for batch in batches) == 600
    assert len(batches) < 150  # a busy machine makes short steps look longer; one by one it would be 600
    assert max(len({id(call.run.holder.batch) for call in batch.calls}) for batch in batches) > 1
    assert all(run.state == "success" for batch in given for run in batch.runs)


# ---------------------------------------------------------------------------------------------- ends

BLOCKS = {
    "lane": "import time\ndef main(x: int) -> int:\n    if x: return x\n"
    "    for _ in range(3000): time.sleep(0.01)\n",
    "trio": "import trio\nasync def main(x: int) -> int:\n    if x: return x\n    await trio.sleep(30)\n",
}
KINDS = {ErrorKind.CANCELED: "canceled", ErrorKind.TIMEOUT: "failure"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", BLOCKS)
@pytest.mark.parametrize("beside", ["alone", "beside others"])
async def test_end_of_a_run_whose_step_runs(
    flow_stage: RuntimeStage, where: str, kind: ErrorKind, beside: str
) -> None:
    """A run that is to end while a step of it runs, in the lane or on Trio, ends at once, by a cancel or by
    its time-out; its step is canceled, none begins, and runs beside it end right.
    """
    flow_stage.script("a", BLOCKS[where])
    flow_stage.script("b", "def main(x: int) -> int:\n    return x\n")
    flow_stage.flow(step("a", "a", {"x": "flow_input.x"}), step("b", "b", {"x": "results.a"}))
    others = [flow_stage.run(x=x) for x in range(1, 9)] if beside != "alone" else []
    run = flow_stage.run(x=0)
    runs = [*others[:4], run, *others[4:]]
    # Long enough for the step to begin, on a busy machine as well.
    limits = [1.5 if each is run and kind is ErrorKind.TIMEOUT else None for each in runs]
    async with flow_stage.open() as runtime:
        batch = flow_stage.start(*runs, timeouts=limits)
        if kind is ErrorKind.CANCELED:
            home = runtime._home

            def under_way() -> bool:
                return any(
                    call.run.holder.index == len(others[:4]) for each in home.given for call in each.calls
                )

            await flow_stage.until(under_way)
            await trio.sleep(0.05)
            batch.canceling.add(len(others[:4]))
            runtime.interrupt(batch, len(others[:4]), kind)
        with trio.fail_after(20):
            await batch.ended.wait()
        again = flow_stage.run(x=3)
        await flow_stage.play(again)
    assert run.state == KINDS[kind], run.value
    assert run.value["kind"] == str(kind)
    assert [(note.key, note.state) for note in run.steps] == [("a", 3)]
    assert all((each.state, each.value) == ("success", each.args["x"]) for each in others)
    assert again.value == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_end_of_a_run_whose_step_waits_for_the_lane(flow_stage: RuntimeStage, kind: ErrorKind) -> None:
    """A run whose step has not begun, because others have the lane, ends without it."""
    flow_stage.script("a", STOPPED["lane"])
    flow_stage.script("b", "def main(x: int) -> int:\n    return x\n")
    flow_stage.flow(
        step("a", "a", {"x": "flow_input.x", "gate": "flow_input.gate"}), step("b", "b", {"x": "results.a"})
    )
    gate = flow_stage.workspace / "gate"
    runs = [flow_stage.run(x=x, gate=str(gate)) for x in range(2)]
    limits = [None, 0.2 if kind is ErrorKind.TIMEOUT else None]
    async with flow_stage.open() as runtime:
        batch = flow_stage.start(*runs, timeouts=limits)
        await flow_stage.until(lambda: flow_stage.mark[0])
        if kind is ErrorKind.CANCELED:
            batch.canceling.add(1)
            runtime.interrupt(batch, 1, kind)
        else:
            await trio.sleep(0.4)
        gate.touch()
        with trio.fail_after(20):
            await batch.ended.wait()
    assert (runs[0].state, runs[0].value) == ("success", 0)
    assert runs[1].state == KINDS[kind]
    assert [note.state for note in runs[1].steps if note.key == "a"] in ([], [3])
    assert all(note.duration_us == 0 for note in runs[1].steps)


@pytest.mark.parametrize("kind", KINDS)
async def test_end_of_a_run_that_waits_for_a_moment(
    flow_stage: RuntimeStage, monkeypatch: pytest.MonkeyPatch, kind: ErrorKind
) -> None:
    """A run that waits in memory for a short sleep to end, ends at once; its timer comes to nothing."""
    monkeypatch.setattr(homes, "PARK_AFTER_US", 60_000_000)
    flow_stage.script("a", "def main(x: int) -> int:\n    return x\n")
    flow_stage.flow(
        step("a", "a", {"x": "flow_input.x"}, sleep={"type": "javascript", "expr": "flow_input.seconds"}),
        step("b", "a", {"x": "results.a"}),
    )
    limit, short = (1.0, 2.0) if kind is ErrorKind.TIMEOUT else (None, 0.5)
    async with flow_stage.open() as runtime:
        for seconds in (30.0, short):
            run = flow_stage.run(x=1, seconds=seconds)
            batch = flow_stage.start(run, timeouts=[limit])
            await flow_stage.until(lambda run=run: "sleep:a" in run.known.marks)
            if kind is ErrorKind.CANCELED:
                batch.canceling.add(0)
                runtime.interrupt(batch, 0, kind)
            with trio.fail_after(20):
                await batch.ended.wait()
            if seconds == 30.0:
                assert (run.state, run.keys) == (KINDS[kind], ["a"])
        await trio.sleep(short - (limit or 0.0))
    # If the machine stood still, it came to its end before.
    assert (run.state, run.keys) in [(KINDS[kind], ["a"]), ("success", ["a", "b"])]


async def test_cancel_before_a_run_is_there(flow_stage: RuntimeStage) -> None:
    """A run that is canceled while what was noted of it is being asked for does not begin."""
    flow_stage.script("a", "def main(x: int) -> int:\n    return x\n")
    flow_stage.flow(step("a", "a", {"x": "flow_input.x"}))
    runs = [flow_stage.run(x=x) for x in range(3)]
    async with flow_stage.open() as runtime:
        gate = trio.Event()
        batch = flow_stage.start(*runs, gate=gate)
        await flow_stage.until(lambda: batch.begun == 3)
        batch.canceling.add(1)
        runtime.interrupt(batch, 1, ErrorKind.CANCELED)
        gate.set()
        await batch.ended.wait()
    assert [run.state for run in runs] == ["success", "canceled", "success"]
    assert not runs[1].steps


async def test_steps_of_one_run_are_interrupted_and_no_others(flow_stage: RuntimeStage) -> None:
    """Of async steps of many runs, in several batches with steps of the same runs, those of the run that ends
    are canceled, and only those.
    """
    flow_stage.script(
        "a",
        "import trio, pathlib\nasync def main(x: int, gate: str) -> int:\n"
        "    while not pathlib.Path(gate).exists():\n        await trio.sleep(0.01)\n    return x\n",
    )
    flow_stage.script("n", "import trio\nasync def main() -> None:\n    await trio.sleep(0.05)\n")
    call = step("a", "a", {"x": "flow_input.x", "gate": "flow_input.gate"})
    later = [step("n", "n"), {**call, "id": "c"}]
    flow_stage.flow(branches("all", [call], [{**call, "id": "b"}], later))
    gate = flow_stage.workspace / "gate"
    runs = [flow_stage.run(x=x, gate=str(gate)) for x in range(6)]
    async with flow_stage.open() as runtime:
        batch = flow_stage.start(*runs)

        def all_there() -> bool:
            calls = [call for each in runtime._home.given for call in each.calls]
            return Counter(call.node.id for call in calls) == {"a": 6, "b": 6, "c": 6}

        await flow_stage.until(all_there)
        assert len(runtime._home.given) > 1
        for index in (2, 4):
            batch.canceling.add(index)
            runtime.interrupt(batch, index, ErrorKind.CANCELED)
        await flow_stage.until(lambda: runs[2].state and runs[4].state)
        gate.touch()
        await batch.ended.wait()
    assert [run.state for run in runs] == [
        "success", "success", "canceled", "success", "canceled", "success",
    ]  # fmt: skip
    canceled = {"all[0]/a": 3, "all[1]/b": 3, "all[2]/n": 1, "all[2]/c": 3}
    for index, run in enumerate(runs):
        states = canceled if index in (2, 4) else dict.fromkeys(canceled, 1)
        assert {note.key: note.state for note in run.steps} == states


@pytest.mark.parametrize("form", ["async", "mixed"])
async def test_cancel_of_an_async_step_that_is_on_its_way(
    flow_stage: RuntimeStage, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """A run that is canceled when an async step of it was given to run, and has not begun, ends at once."""
    flow_stage.script("a", BLOCKS["trio"])
    flow_stage.script("b", "def main(x: int) -> int:\n    return x\n")
    first = [step("b", "b", {"x": "0"})] if form == "mixed" else []
    flow_stage.flow(*first, step("a", "a", {"x": "0"}))
    on_its_way, go_on, run_async = trio.Event(), trio.Event(), FlowRuntime._run_async

    async def late(self: FlowRuntime, batch: StepBatch, kept: Any) -> None:
        on_its_way.set()
        await go_on.wait()
        await run_async(self, batch, kept)

    monkeypatch.setattr(FlowRuntime, "_run_async", late)
    run = flow_stage.run()
    async with flow_stage.open() as runtime:
        batch = flow_stage.start(run)
        await on_its_way.wait()
        batch.canceling.add(0)
        runtime.interrupt(batch, 0, ErrorKind.CANCELED)
        go_on.set()
        with trio.fail_after(20):
            await batch.ended.wait()
    assert run.state == "canceled"
    assert [(note.key, note.state, note.duration_us) for note in run.steps if note.key == "a"] == [
        ("a", 3, 0)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", BLOCKS)
async def test_end_of_a_run_that_would_go_on(flow_stage: RuntimeStage, where: str, kind: ErrorKind) -> None:
    """A run that is to end does, also where it would take the error of its step for a result."""
    flow_stage.script("a", BLOCKS[where])
    flow_stage.flow(step("a", "a", {"x": "flow_input.x"}, continue_on_error=True))
    run = flow_stage.run(x=0)
    async with flow_stage.open() as runtime:
        batch = flow_stage.start(run, timeouts=[0.3 if kind is ErrorKind.TIMEOUT else None])
        if kind is ErrorKind.CANCELED:
            home = runtime._home
            await flow_stage.until(lambda: home.given)
            batch.canceling.add(0)
            runtime.interrupt(batch, 0, kind)
        with trio.fail_after(20):
            await batch.ended.wait()
    assert run.state == KINDS[kind]
    assert run.value["kind"] == str(kind)


@pytest.mark.parametrize("where", BLOCKS)
async def test_time_out_of_a_step(flow_stage: RuntimeStage, where: str) -> None:
    """A step that takes longer than the flow allows it fails as a time-out, and its run goes on as after any
    error; while async steps of others run, too.
    """
    flow_stage.script("a", BLOCKS[where])
    flow_stage.script("b", "def main(x: str) -> str:\n    return x\n")
    flow_stage.script(
        "c",
        "import trio\nasync def main() -> int:\n"
        "    for _ in range(100): await trio.sleep(0.005)\n    return 1\n",
    )
    flow_stage.flow(
        branches(
            "all",
            [step("a", "a", {"x": "0"}, timeout={"type": "static", "value": 0.3}, continue_on_error=True)],
            [step("c", "c")],
        ),
        step("b", "b", {"x": "results.all[0].error.kind"}),
    )
    run = flow_stage.run()
    async with flow_stage.open():
        await flow_stage.play(run)
    assert (run.state, run.value) == ("success", "timeout")
    assert "0.3" in outcomes(run)["all[0]/a"][1]["message"]


# ---------------------------------------------------------------------------------------------- errors


async def test_script_runs_again(flow_stage: RuntimeStage) -> None:
    """What a script says of itself, by `Retry` or `RetryLater`, holds for it as a step: its attempts are
    noted, and the run goes on with the last; a delay is a mark, so that it outlives the worker.
    """
    flow_stage.script(
        "a",
        "import hotpath\nhotpath.settings(retry=hotpath.Retry(attempts=3, delay=0.05, jitter=0))\n"
        "def main() -> int:\n    attempt = hotpath.current_job().attempt\n    print('try', attempt)\n"
        "    if attempt < 3: raise ValueError(attempt)\n    return attempt\n",
    )
    flow_stage.script(
        "b",
        "import hotpath\nasync def main() -> int:\n    attempt = hotpath.current_job().attempt\n"
        "    if attempt == 1: raise hotpath.RetryLater(0.02)\n    return attempt\n",
    )
    flow_stage.flow(step("a", "a"), step("b", "b"))
    run = flow_stage.run()
    async with flow_stage.open():
        await flow_stage.play(run)
    assert (run.state, run.value) == ("success", 2)
    assert [(note.key, note.state, note.attempt) for note in run.steps] == [
        ("a", 4, 1), ("a", 4, 2), ("a", 1, 3), ("b", 4, 1), ("b", 1, 2),
    ]  # fmt: skip
    assert [note.log for note in run.steps[:3]] == ["try 1\n", "try 2\n", "try 3\n"]
    assert len({note.id for note in run.steps if note.key == "a"}) == 1
    assert run.mark("retry:a")["failures"] == 2


@pytest.mark.parametrize("where", ["in a sequence", "in a parallel loop"])
async def test_script_that_runs_again_much_later(flow_stage: RuntimeStage, where: str) -> None:
    """A run whose step wants to run again in an hour is parked until then, and goes on with that attempt."""
    flow_stage.script(
        "a",
        "import hotpath\ndef main() -> int:\n    attempt = hotpath.current_job().attempt\n"
        "    if attempt < 3: raise hotpath.RetryLater(3600)\n    return attempt\n",
    )
    flow_stage.flow(
        step("a", "a") if where == "in a sequence" else loop("l", "[1, 2]", step("a", "a"), parallel=True)
    )
    run = flow_stage.run()
    async with flow_stage.open():
        for hour in range(2):
            batch = await flow_stage.play(run)
            assert run.state == "parked"
            assert abs(run.parked.until_us - batch.now_us() - 3600e6) < 60e6
            flow_stage.memory.ahead = 3700 * (hour + 1)
        await flow_stage.play(run)
    assert (run.state, run.value) == ("success", 3 if where == "in a sequence" else [3, 3])
    assert {note.attempt for note in run.steps} == {1, 2, 3}


async def test_odd_ends_of_steps(flow_stage: RuntimeStage) -> None:
    """A step that ends by SystemExit, returns what cannot be stored or prints before it fails is a failure
    that says so, with its log; the worker goes on.
    """
    flow_stage.script(
        "a",
        "import sys\ndef main(x: int) -> object:\n    print('out', x)\n    print('err', x, file=sys.stderr)\n"
        "    if x == 0: sys.exit(3)\n    if x == 1: return object()\n    if x == 2: return 'x\\0y'\n"
        "    if x == 3: return 'x' * (17 << 20)\n    if x == 4: raise KeyboardInterrupt\n    return x\n",
    )
    flow_stage.flow(step("a", "a", {"x": "flow_input.x"}))
    runs = [flow_stage.run(x=x) for x in range(6)]
    async with flow_stage.open():
        await flow_stage.play(*runs)
    assert [run.state for run in runs] == [*["failure"] * 5, "success"]
    assert [run.value["name"] for run in runs[:5]] == [
        "SystemExit", "BadResultError", "BadResultError", "BadResultError", "KeyboardInterrupt",
    ] or [run.value["kind"] for run in runs[1:4]] == ["bad_result"] * 3  # fmt: skip
    assert [run.value["step"] for run in runs[:5]] == ["a"] * 5
    assert all(run.steps[0].log == f"out {x}\nerr {x}\n" for x, run in enumerate(runs))


async def test_args_that_are_too_large(flow_stage: RuntimeStage) -> None:
    """A step whose args are larger than can be stored is not run: its error names it and the sizes."""
    flow_stage.script("a", "def main() -> str:\n    return 'x' * (9 << 20)\n")
    flow_stage.script("b", "def main(x: str, y: str) -> int:\n    return 1\n")
    flow_stage.flow(step("a", "a"), step("b", "b", {"x": "results.a", "y": "results.a"}))
    run = flow_stage.run()
    async with flow_stage.open():
        await flow_stage.play(run)
    assert (run.state, run.value["kind"], run.value["step"]) == ("failure", "bad_args", "b")
    assert "the args of step b are 18,874,383 bytes of JSON" in run.value["message"]


async def test_result_that_is_too_large(flow_stage: RuntimeStage) -> None:
    """A run whose steps' results make more than can be stored fails with an error that says so."""
    flow_stage.script("a", "def main() -> str:\n    return 'x' * (9 << 20)\n")
    flow_stage.flow(loop("l", "[1, 2]", step("a", "a")))
    run = flow_stage.run()
    async with flow_stage.open():
        await flow_stage.play(run)
    assert (run.state, run.value["kind"]) == ("failure", "bad_result")


async def test_fault_of_ours_ends_the_run_and_not_the_worker(
    flow_stage: RuntimeStage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the engine ends its run as a failure; others, and later ones, are as ever."""
    flow_stage.script("a", "def main(x: int) -> int:\n    return x\n")
    flow_stage.flow(step("a", "a", {"x": "flow_input.x"}), step("b", "a", {"x": "results.a"}))
    for name in ("start", "ended"):
        true = getattr(EngineRun, name)

        def broken(self: EngineRun, *args: Any, true: Any = true, name: str = name, **given: Any) -> Any:
            if json.loads(self.args)["x"] == (1 if name == "start" else 2):
                raise RuntimeError("our own fault")
            return true(self, *args, **given)

        monkeypatch.setattr(EngineRun, name, broken)
    runs = [flow_stage.run(x=x) for x in range(4)]
    async with flow_stage.open():
        await flow_stage.play(*runs)
        later = flow_stage.run(x=7)
        await flow_stage.play(later)
    assert [run.state for run in runs] == ["success", "failure", "failure", "success"]
    assert "our own fault" in runs[1].value["message"]
    assert later.value == 7
    assert "could not be advanced" in caplog.text


# ---------------------------------------------------------------------------------------------- stops

STOPPED = {
    "lane": "import time, pathlib\ndef main(x: int, gate: str) -> int:\n"
    "    while not pathlib.Path(gate).exists(): time.sleep(0.005)\n    return x\n",
    "trio": "import trio, pathlib\nasync def main(x: int, gate: str) -> int:\n"
    "    pathlib.Path(f'{gate}.{x}').touch()\n"
    "    while not pathlib.Path(gate).exists(): await trio.sleep(0.005)\n    return x\n",
}


@pytest.mark.parametrize("where", STOPPED)
async def test_stop_while_steps_run(flow_stage: RuntimeStage, where: str) -> None:
    """Of a batch that is stopped no step begins: those that run are finished and noted, then `run` returns;
    the runs are not reported, and go on elsewhere without those steps. Batches beside it go on, though their
    steps were in one batch with its own.
    """
    flow_stage.script("a", STOPPED[where])
    flow_stage.script("b", "def main(x: int) -> int:\n    return x + 1\n")
    flow_stage.flow(
        step("a", "a", {"x": "flow_input.x", "gate": "flow_input.gate"}), step("b", "b", {"x": "results.a"})
    )
    gate = flow_stage.workspace / "gate"
    runs = [flow_stage.run(x=x, gate=str(gate)) for x in range(8)]
    async with flow_stage.open() as runtime:
        stopped, other = flow_stage.start(*runs[:4]), flow_stage.start(*runs[4:])
        await flow_stage.until(lambda: sum(len(each) for each in runtime._home.given) == 8)
        if where == "lane":
            token = await flow_stage.until(lambda: flow_stage.mark[0])
            if token in other.tokens:
                stopped, other = other, stopped
        else:
            await flow_stage.until(lambda: all((gate.with_name(f"gate.{x}")).exists() for x in range(8)))
        stopped.stop()
        gate.touch()
        with trio.fail_after(20):
            await stopped.ended.wait()
            await other.ended.wait()
        assert not any(run.state for run in stopped.runs)
        before = [list(run.keys) for run in stopped.runs]
        assert sorted(before) == ([[]] * 3 + [["a"]] if where == "lane" else [["a"]] * 4)
        assert all((run.state, run.value) == ("success", run.args["x"] + 1) for run in other.runs)
        await flow_stage.play(*stopped.runs)
    assert [(run.state, run.value) for run in runs] == [("success", x + 1) for x in range(8)]
    assert all(Counter(run.keys) == {"a": 1, "b": 1} for run in runs)


async def test_stop_while_a_run_waits_in_memory(flow_stage: RuntimeStage) -> None:
    """Runs that wait for a moment, or for a strict note to be written, hold a stop up for no longer."""
    flow_stage.script("a", "def main(x: int) -> int:\n    return x\n")
    flow_stage.flow(
        step("a", "a", {"x": "flow_input.x"}, sleep={"type": "static", "value": 0.5}),
        step("b", "a", {"x": "results.a"}, durable="strict"),
        step("c", "a", {"x": "results.b"}),
    )
    run, other = flow_stage.run(x=1), flow_stage.run(x=2)
    async with flow_stage.open():
        batch = flow_stage.start(run)
        await flow_stage.until(lambda: "sleep:a" in run.known.marks)
        batch.stop()
        with trio.fail_after(20):
            await batch.ended.wait()
        assert (run.state, run.keys) == ("", ["a"])
        waiting = flow_stage.start(other, withheld=[])
        await flow_stage.until(lambda: waiting.withheld)
        waiting.stop()
        waiting.withheld.pop()()
        with trio.fail_after(20):
            await waiting.ended.wait()
        assert (other.state, other.keys) == ("", ["a", "b"])
        await flow_stage.play(run, other)
    assert (run.value, other.value) == (1, 2)
    assert (run.keys, other.keys) == (["a", "b", "c"], ["a", "b", "c"])


async def test_runtime_closed_while_runs_are_under_way(flow_stage: RuntimeStage) -> None:
    """A runtime that is closed interrupts async steps, waits for none, and nothing more is reported."""
    flow_stage.script("a", BLOCKS["trio"])
    flow_stage.flow(step("a", "a", {"x": "flow_input.x"}))
    runs = [flow_stage.run(x=0) for _ in range(3)]
    with trio.fail_after(20):
        async with flow_stage.open() as runtime:
            flow_stage.start(*runs)
            await flow_stage.until(lambda: runtime._home.given)
    assert not any(run.state or run.notes for run in runs)


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_of_stops_and_cancels(flow_stage: RuntimeStage, seed: int) -> None:
    """Whatever is stopped or canceled whenever, in batches that share steps: `run` returns, a run of a batch
    that is not stopped is reported, what is not reported goes on to its right end, and of no step a second
    result is noted.
    """
    chance = random.Random(seed)
    body = "if x % 7 == 3: raise ValueError(x)\n    return x + 1\n"
    flow_stage.script("a", f"import time\ndef main(x: int) -> int:\n    time.sleep(0.0005)\n    {body}")
    flow_stage.script(
        "b", f"import trio\nasync def main(x: int) -> int:\n    await trio.sleep(0.001 * (x % 5))\n    {body}"
    )
    each = {"x": "flow_input.x + flow_input.iter.index"}
    flow_stage.flow(
        step("s", "a", {"x": "7 * flow_input.x"}),
        branches(
            "all",
            [
                loop(
                    "l",
                    "[1, 2, 3, 4]",
                    step("i", "b", each),
                    step("j", "a", {"x": "7 * results.i"}),
                    parallel=True,
                )
            ],
            [loop("m", "[1, 2]", step("k", "a", each), skip_failures=True)],
            [
                step(
                    "t",
                    "b",
                    {"x": "7 * results.s"},
                    durable="strict",
                    sleep={"type": "static", "value": 0.003},
                )
            ],
        ),
        step("u", "a", {"x": "7 * results.all[2]"}),
    )
    async with flow_stage.open() as runtime:
        await flow_stage.play(*(flow_stage.run(x=1) for _ in range(20)))
        right = [flow_stage.run(x=x) for x in range(7)]
        await flow_stage.play(*right)
        for _ in range(6):
            batches = [flow_stage.batch(*(flow_stage.run(x=x) for x in range(7))) for _ in range(4)]

            async def play(batch: FlowBatch) -> None:
                await trio.sleep(chance.random() * 0.01)
                await runtime.run(batch)

            async def disturb(at: int, batch: FlowBatch) -> None:
                await trio.sleep(chance.random() * 0.06)
                if at == 0:
                    batch.stop()
                else:
                    index = chance.randrange(7)
                    batch.canceling.add(index)
                    runtime.interrupt(batch, index, ErrorKind.CANCELED)

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    for at, batch in enumerate(batches):
                        nursery.start_soon(play, batch)
                        if at < 2:
                            nursery.start_soon(disturb, at, batch)
                left = [run for run in batches[0].runs if not run.state]
                await flow_stage.play(*left)
            for batch in batches:
                for run in batch.runs:
                    if run.state == "canceled":
                        assert batch is batches[1]
                        continue
                    wanted = right[run.args["x"]]
                    assert (run.state, run.value) == (wanted.state, wanted.value)
                    # A parallel loop that has failed starts nothing when it is played again.
                    assert (
                        set(run.keys) <= set(wanted.keys)
                        if batch is batches[0]
                        else (Counter(run.keys) == Counter(wanted.keys))
                    )
                    assert Counter(run.keys).most_common(1)[0][1] == 1
        home = runtime._home
        await flow_stage.until(lambda: not (home.given or home.endings or home.inbox or runtime._groups))
        assert not any(kept.ready for kept in home.kept.values())


# ---------------------------------------------------------------------------------------------- what is kept


async def test_cache(flow_stage: RuntimeStage) -> None:
    """A step with `cache_ttl` runs once for the same args, by one process and by others that ask the
    database; answered calls are noted like others.
    """
    flow_stage.script(
        "a",
        "def main(x: int, file: str) -> int:\n    with open(file, 'a') as f: f.write('.')\n    return x\n",
    )
    flow_stage.flow(step("a", "a", {"x": "flow_input.x", "file": "flow_input.file"}, cache_ttl=60))
    file = flow_stage.workspace / "ran"
    first, second, third, other = (flow_stage.run(x=x, file=str(file)) for x in (1, 1, 1, 2))
    async with flow_stage.open():
        for run in (first, second, other):
            await flow_stage.play(run)
    assert len(flow_stage.memory.cache) == 2
    async with flow_stage.open():  # with an empty memory
        await flow_stage.play(third)
    assert file.read_text() == ".."
    assert [run.value for run in (first, second, third, other)] == [1, 1, 1, 2]
    assert all(run.keys == ["a"] for run in (first, second, third, other))


async def test_result_that_is_to_be_deleted(flow_stage: RuntimeStage) -> None:
    """A step whose result is to be deleted after use leaves a mark with its id, and the run has it."""
    flow_stage.script("a", "def main(x: int) -> int:\n    return x\n")
    flow_stage.flow(
        step("a", "a", {"x": "flow_input.x"}, delete_after_use=True), step("b", "a", {"x": "results.a"})
    )
    run = flow_stage.run(x=5)
    async with flow_stage.open():
        await flow_stage.play(run)
    from uuid import UUID

    assert run.value == 5
    assert run.mark("blank:a") == {"id": str(UUID(bytes=run.steps[0].id))}


async def test_strict_step(flow_stage: RuntimeStage) -> None:
    """Behind a step that is strict the next begins only when its note is written; other runs go on."""
    flow_stage.script("a", "def main(x: int) -> int:\n    return x\n")
    flow_stage.flow(
        step("a", "a", {"x": "flow_input.x"}, durable="strict"), step("b", "a", {"x": "results.a"})
    )
    slow, quick = flow_stage.run(x=1), flow_stage.run(x=2)
    async with flow_stage.open():
        batch = flow_stage.start(slow, withheld=[])
        await flow_stage.until(lambda: batch.withheld)
        await flow_stage.play(quick)
        assert (slow.state, slow.keys) == ("", ["a"])
        batch.withheld.pop()()
        await batch.ended.wait()
    assert (slow.value, quick.value) == (1, 2)


# ---------------------------------------------------------------------------------------------- waits


async def test_what_waits_for_long_is_parked(flow_stage: RuntimeStage) -> None:
    """A run that sleeps for longer than a second, or waits for people or for a job elsewhere, is parked with
    what it waits for, and goes on with what it noted; one that sleeps for less stays.
    """
    flow_stage.script("a", "def main(x: int) -> int:\n    return x\n")
    flow_stage.script(
        "far", "import hotpath\nhotpath.settings(tag='far')\ndef main(x: int) -> int:\n    return x\n"
    )
    flow_stage.flow(
        step("a", "a", {"x": "flow_input.x"}, sleep={"type": "javascript", "expr": "flow_input.seconds"}),
        step("b", "far", {"x": "results.a"}),
        step("c", "a", {"x": "results.b"}, suspend={"required_events": 1, "timeout": 3600}),
        step("d", "a", {"x": "resume.y"}),
    )
    run, short = flow_stage.run(x=1, seconds=3600), flow_stage.run(x=2, seconds=0.2)
    async with flow_stage.open():
        batch = await flow_stage.play(run, short)
        assert (run.state, run.keys, run.sent) == ("parked", ["a"], [])
        assert abs(run.parked.until_us - batch.now_us() - 3600e6) < 60e6
        flow_stage.memory.ahead = 3700
        await flow_stage.play(run)
        for each in (run, short):
            assert (each.state, each.keys) == ("parked", ["a"])
            (sent,) = each.sent
            assert (sent.key, sent.script, sent.tag) == ("b", "far", "far")
            assert (each.parked.children, each.parked.until_us) == ((sent.id,), None)
            from code_stage import CodeStage

            CodeStage.end_child(flow_stage, each, "b", 40)  # type: ignore[arg-type]
        await flow_stage.play(run, short)
        for each in (run, short):
            assert (each.state, each.keys) == ("parked", ["a", "c"])
            assert (dict(each.parked.events), each.parked.children) == ({"c": 0}, ())
            assert each.parked.until_us is not None
            CodeStage.approve(flow_stage, each, "c", {"y": 42})  # type: ignore[arg-type]
        await flow_stage.play(run, short)
    assert [(each.state, each.value, each.keys) for each in (run, short)] == [
        ("success", 42, ["a", "c", "d"])
    ] * 2


# ---------------------------------------------------------------------------------------------- loading


async def test_preload_of_steps(flow_stage: RuntimeStage) -> None:
    """`preload()` of each step's script runs once, before any run, in the thread that its steps run in."""
    for name, word in (("a", ""), ("b", "async ")):
        flow_stage.script(
            name,
            "import threading\nseen = []\n"
            f"{word}def preload() -> None:\n    seen.append(threading.get_ident())\n"
            f"{word}def main() -> list[bool]:\n    return [each == threading.get_ident() for each in seen]\n",
        )
    flow_stage.flow(step("a", "a"), step("b", "b"))
    runs = [flow_stage.run() for _ in range(3)]
    async with flow_stage.open():
        await flow_stage.play(*runs)
    assert all(value == (1, [True]) for run in runs for value in outcomes(run).values())


async def test_step_that_cannot_be_imported(flow_stage: RuntimeStage) -> None:
    """A step's script that raises on import in the worker is said at open, with its name."""
    file = flow_stage.workspace / "broken"
    flow_stage.script(
        "a",
        f"import os\nif os.path.exists({str(file)!r}): raise ValueError('not today')\n"
        "def main() -> int:\n    return 1\n",
    )
    flow_stage.script("b", "def main() -> int:\n    return 1\n")
    flow_stage.flow(step("b", "b"), step("a", "a"))
    async with flow_stage.open():
        pass
    flow_stage.forget_modules()
    made = flow_stage.open()
    opened = made.__aenter__

    with pytest.raises(ScriptError) as caught:
        from hotpath.scripts import describe as describing

        true = describing.describe
        import runtime_stage

        async def describe(located: Any) -> Any:
            found = await true(located)
            file.touch()
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runtime_stage, "describe", describe)
            await opened()
    assert "a" in str(caught.value)
    assert "not today" in str(caught.value)


async def test_secrets_of_a_run(flow_stage: RuntimeStage):
    """A flow's schema may mark what is secret, in Windmill's words too: steps have it as it is, and what they
    say, and what comes of the run, is masked.
    """
    stage = flow_stage
    stage.script("first", "def main(text: str) -> str:\n    print('has', text)\n    return f'<{text}>'\n")
    stage.script(
        "second",
        "import hotpath\nasync def main(text: str, own: hotpath.Secret):\n    print('has', text, own)\n"
        "    assert text == '<correct-horse>', text\n    return {'text': text, 'own': own}\n",
    )
    stage.flow(
        step("a", "first", {"text": "flow_input.key"}),
        step("b", "second", {"text": "results.a", "own": "'of-' + 'the-step'"}),
        schema={"type": "object", "properties": {"key": {"type": "string", "password": True}}},
    )
    run, other = stage.run(key="correct-horse"), stage.run(key="correct-hors")
    async with stage.open():
        await stage.play(run, other)
    assert run.value == {"text": "<••••••>", "own": "of-the-step"}
    assert [note.log for note in run.steps] == ["has ••••••\n", "has <••••••> ••••••\n"]
    assert json.loads(run.steps[0].outcome) == "<correct-horse>"  # which the next step had
    assert other.state == "failure"
    assert other.value["message"] == "<••••••>"
    assert "correct" not in str(other.value)


async def test_spans_of_a_run(flow_stage: RuntimeStage, monkeypatch: Any):
    """Where spans are wanted, a run has one, and its steps have theirs in it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setenv("HOTPATH_OTEL", "1")
    stage = flow_stage
    stage.script("first", "def main(x: int) -> int:\n    return x + 1\n")
    stage.script("second", "async def main(x: int) -> int:\n    return 1 // x\n")
    stage.flow(step("a", "first", {"x": "flow_input.x"}), step("b", "second", {"x": "results.a"}))
    context.set_tracing(functools.partial(Spans, provider.get_tracer("hotpath")))
    try:
        async with stage.open():
            await stage.play(stage.run(x=0), stage.run(x=-1))
    finally:
        context.set_tracing(None)
    spans = exporter.get_finished_spans()
    runs = {span.context.span_id: span for span in spans if span.name == "flow_x"}
    assert {span.attributes["hotpath.state"] for span in runs.values()} == {"success", "failure"}
    for run in runs.values():
        steps = [span for span in spans if span.parent and span.parent.span_id == run.context.span_id]
        assert sorted(span.name for span in steps) == ["first a", "second b"]
        assert steps[-1].attributes["hotpath.state"] == run.attributes["hotpath.state"]
    assert len(spans) == 6
