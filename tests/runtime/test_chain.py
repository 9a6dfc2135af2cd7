"""Chains of batches in the lane, and ends that are none: jobs that are parked."""

from __future__ import annotations

import sys
import threading

import pytest
import trio

from hotpath.core.notes import Parking
from hotpath.model import ErrorKind
from hotpath.runtime.chain import LaneRunner
from hotpath.runtime.lane import Lane
from hotpath.runtime.parking import Parked, parking_of

WAITS = """
    import time
    def main(x: int, seconds: float = 0.0):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            time.sleep(0.005)
        return x
    """
GATED = """
    import threading
    gate = threading.Event()
    def main(x: int):
        while x and not gate.wait(0.005): pass
        return x
    """


def shared(batch, token):
    """The batch as one of steps of one run: its jobs have one token."""
    batch.shared = token
    return batch


async def in_hand(batch, token):
    """Wait until a job with that token is in hand."""
    with trio.fail_after(30):
        while batch.mark[0] != token:  # noqa: ASYNC110 - of another thread
            await trio.sleep(0.001)


async def test_chain_runs_batches_of_several_scripts_in_one_visit(make_script, make_batch):
    """Batches follow each other in the lane, each of the script it is given with, and what asks for the next
    runs there, too; the chain ends when there is none.
    """
    runner = LaneRunner()
    double = make_script("def main(x: int):\n    return 2 * x\n")
    greet = make_script("import threading\ndef main(name: str):\n    return threading.get_ident(), name\n")
    batches = [make_batch({"x": 1}, {"x": 2}), make_batch({"name": "a"}), make_batch({"x": 3})]
    async with runner.open():
        loaded = [(await runner.load(script), script) for script in (double, greet)]
        asked = []

        def next_batch():
            asked.append(threading.get_ident())
            if len(asked) > len(batches):
                return None
            return *loaded[(len(asked) - 1) % 2], batches[len(asked) - 1]

        await runner.run_chain(next_batch)
    assert batches[0].values == [2, 4]
    assert batches[1].values == [[asked[0], "a"]]
    assert batches[2].values == [6]
    assert set(asked) == {asked[0]} != {threading.get_ident()}
    assert len(asked) == 4


async def test_chain_that_breaks_says_so(make_script, make_batch):
    """What is raised instead of a batch is raised by `run_chain`, and the lane goes on with what comes."""
    runner = LaneRunner()
    script = make_script("def main(x: int):\n    return x\n")

    def broken():
        raise LookupError("no batch")

    async with runner.open():
        warm = await runner.load(script)
        with pytest.raises(LookupError, match="no batch"):
            await runner.run_chain(broken)
        batch = make_batch({"x": 7})
        await runner.run(warm, script, batch)
    assert batch.values == [7]


async def test_cancelled_chain_starts_nothing_more(make_script, make_batch):
    """A chain that was cancelled asks for no further batch, and reports nothing of the one in hand."""
    runner = LaneRunner()
    script = make_script(GATED, name="gated_chain")
    first = make_batch({"x": 1})
    asked = []

    async with runner.open():
        warm = await runner.load(script)

        def next_batch():
            asked.append(1)
            return warm, script, first

        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run_chain, next_batch)
            await in_hand(first, first.number)
            nursery.cancel_scope.cancel()
        sys.modules["gated_chain"].gate.set()
        last = make_batch({"x": 2})
        await runner.run(warm, script, last)
    assert asked == [1]
    assert not first.ended
    assert last.values == [2]


@pytest.mark.parametrize("main_thread", [True, False])
def test_time_out_in_a_later_batch(beside_main, make_script, make_batch, main_thread):
    """A job that overruns its time-out is ended, whichever batch of the chain it is in."""

    async def test(lane: Lane) -> None:
        runner = LaneRunner(lane if main_thread else None)
        plain, timed = make_script(WAITS), make_script(WAITS, timeout=0.2)
        batches = [make_batch({"x": 1}), make_batch({"x": 2, "seconds": 60}, {"x": 3})]
        batches[1].timeouts = [None, 60]
        async with runner.open():
            links = [
                (await runner.load(script), script, batch)
                for script, batch in zip((plain, timed), batches, strict=True)
            ]
            with trio.fail_after(30):
                await runner.run_chain(lambda: links.pop(0) if links else None)
        assert batches[0].values == [1]
        assert [one.state for one in batches[1].ended] == ["failure", "success"]
        assert batches[1].ended[0].value["kind"] == "timeout"

    beside_main(test)


@pytest.mark.parametrize("main_thread", [True, False])
def test_press_hits_only_the_step_it_was_meant_for(beside_main, make_script, make_batch, main_thread):
    """Of two steps of one run in a batch, which have one token, a cancel ends the one it names: the one in
    hand, or the one whose turn is yet to come.
    """

    async def test(lane: Lane) -> None:
        runner = LaneRunner(lane if main_thread else None)
        script = make_script(GATED, name=f"gated_twins_{main_thread}")
        async with runner.open():
            warm = await runner.load(script)
            gate = sys.modules[f"gated_twins_{main_thread}"].gate
            for target, states in ((0, ["canceled", "success"]), (1, ["success", "canceled"])):
                batch = shared(make_batch({"x": 1}, {"x": 0 if target == 0 else 2}), 70_000)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(runner.run, warm, script, batch)
                    await in_hand(batch, 70_000)
                    await trio.sleep(0.05)
                    runner.interrupt(batch, target, ErrorKind.CANCELED)
                    if target == 1:
                        gate.set()
                assert [one.state for one in batch.in_order] == states

    beside_main(test)


def test_time_out_of_a_step_spares_its_twin(beside_main, make_script, make_batch):
    """A step that overruns its time-out ends, and the next one, of the same run and with a time-out of its
    own, has all of it.
    """

    async def test(lane: Lane) -> None:
        runner = LaneRunner(lane)
        script = make_script(WAITS)
        batch = make_batch({"x": 1, "seconds": 5}, {"x": 2, "seconds": 0.3}, {"x": 3, "seconds": 5})
        batch = shared(batch, 70_000)
        batch.timeouts = [0.15, 5.0, 0.15]
        async with runner.open():
            warm = await runner.load(script)
            with trio.fail_after(30):
                await runner.run(warm, script, batch)
        assert [one.state for one in batch.ended] == ["failure", "success", "failure"]
        assert batch.mark == [0, 0]

    beside_main(test)


async def test_late_interrupt_of_a_twin_is_for_nobody(make_script, make_batch):
    """A cancel that comes when its step has ended does not end the next one of the same token."""
    runner = LaneRunner()
    script = make_script(WAITS)
    batch = shared(make_batch({"x": 1}, {"x": 2, "seconds": 0.3}), 70_000)
    async with runner.open():
        warm = await runner.load(script)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run, warm, script, batch)
            with trio.fail_after(30):
                while not batch.ended:  # noqa: ASYNC110 - of another thread
                    await trio.sleep(0.001)
            runner.interrupt(batch, 0, ErrorKind.CANCELED)
    assert [one.state for one in batch.ended] == ["success", "success"]


async def test_canceled_before_the_lane_has_it(make_script, make_batch):
    """A job that is in its batch's `canceling` when the lane begins the batch does not begin."""
    runner = LaneRunner()
    script = make_script(WAITS)
    batch = make_batch({"x": 1}, {"x": 2})
    batch.canceling.add(1)
    async with runner.open():
        links = [(await runner.load(script), script, batch)]
        await runner.run_chain(lambda: links.pop() if links else None)
    assert [one.state for one in batch.in_order] == ["success", "canceled"]


# ---------------------------------------------------------------- parking

PARKS = {
    "sync": """
        from hotpath.core.notes import Parking
        from hotpath.runtime.parking import Parked
        def main(x: int):
            print("so far", x)
            if x == 1:
                raise Parked(Parking(until_us=5))
            return x
        """,
    "async": """
        import trio
        from hotpath.core.notes import Parking
        from hotpath.runtime.parking import Parked
        async def wait(until):
            if until is None:
                await trio.sleep_forever()
            raise Parked(Parking(until_us=until))
        async def main(x: int):
            print("so far", x)
            if x == 1:
                async with trio.open_nursery() as nursery:
                    for until in (9, None, 5):
                        nursery.start_soon(wait, until)
            return x
        """,
}


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_job_that_waits_is_parked(play, kind):
    """A `main` that is left by `Parked`, alone or in a group of nothing else, is reported as parked with its
    log so far, and as nothing else; the others of the batch run on.
    """
    batch = await play(PARKS[kind], {"x": 0}, {"x": 1}, {"x": 2}, retry=None)
    assert batch.parked == {1: (Parking(until_us=5), "so far 1\n")}
    assert [(one.index, one.value) for one in batch.in_order] == [(0, 0), (2, 2)]


async def test_parked_beside_an_error_is_an_error(play):
    """A group that holds an error besides fails the job: what it waits for does not matter any more."""
    text = """
        from hotpath.core.notes import Parking
        from hotpath.runtime.parking import Parked
        def main(x: int):
            raise BaseExceptionGroup("both", [Parked(Parking(until_us=5)), ValueError("no")])
        """
    batch = await play(text, {"x": 0})
    assert not batch.parked
    assert batch.ended[0].state == "failure"


def test_what_several_wait_for_is_waited_for_together():
    """Of parked tasks the earliest time counts, all children, and the fewest events seen."""
    group = BaseExceptionGroup(
        "",
        [
            Parked(Parking(until_us=9, children=(b"a",), events={"k": 2})),
            BaseExceptionGroup("", [Parked(Parking(until_us=None, children=(b"b", b"a"), events={"k": 1}))]),
        ],
    )
    assert parking_of(group) == Parking(until_us=9, children=(b"a", b"b"), events={"k": 1})
    assert parking_of(ValueError()) is None
