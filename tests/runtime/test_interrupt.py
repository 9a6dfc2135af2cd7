"""A synchronous job ends when its time is up or when it is canceled, and the one behind it runs (I8)."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time

import pytest
import trio
import trio.testing

from hotpath.errors import JobInterrupted
from hotpath.model import ErrorKind, Retry
from hotpath.runtime import capture
from hotpath.runtime.chain import LaneRunner
from hotpath.runtime.interrupt import SIGNAL, Interrupter
from hotpath.runtime.protocol import Interruptible
from hotpath.runtime.sync import SyncRuntime

WAITS = {
    "sleep": "time.sleep(60)",
    "socket": "pair(lambda one: one.recv(1))",
    "lock": "lock.acquire()",
    "event": "threading.Event().wait()",
    "queue": "queue.SimpleQueue().get()",
    "child": "subprocess.run(['sleep', '60'])",
    "select": "pair(lambda one: select.select([one], [], []))",
    "loop": "while True: pass",
    "deep": "deeper()",
    "print": "while True: print('x', end='', flush=True)",
}
WAITING = """
    import queue, select, socket, subprocess, threading, time
    lock = threading.Lock()
    lock.acquire()
    def pair(use):
        one, other = socket.socketpair()
        with one, other:
            use(one)
    entered = threading.Event()
    def deeper():
        while True: sorted(range(1000), key=lambda x: -x)
    def main(x: int):
        entered.set()
        if x:
            {wait}
        return x
    """


async def in_hand(batch, index: int) -> None:
    """Wait until that job is marked."""
    while batch.mark[0] != batch.number + index:  # noqa: ASYNC110 - two words are all there is
        await trio.sleep(0.001)


async def interrupted(runtime, batch, index: int, kind: ErrorKind = ErrorKind.CANCELED) -> None:
    """Run the batch and interrupt that job as soon as it is in hand."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runtime.run, batch)
        await in_hand(batch, index)
        runtime.interrupt(batch, index, kind)


@pytest.fixture
def looks(monkeypatch) -> list[bool]:
    """Whether the job could be ended there, of each time that somebody who was to end it found it in its
    code.
    """
    seen = []
    stands = Interrupter._stands_in_main

    def look(self, frame, index):
        found = stands(self, frame, index)
        if frame.f_code is not self._loop:  # else it has not begun yet
            seen.append(found)
        return found

    monkeypatch.setattr(Interrupter, "_stands_in_main", look)
    return seen


@pytest.mark.parametrize("wait", WAITS)
def test_time_out_in_the_main_thread(beside_main, opened, make_batch, looks, wait):
    """Whatever a job waits for in the main thread, or computes, its time-out ends it, the first time that it
    is tried (if it was not just writing); the next one runs.
    """

    async def test(lane):
        async with opened(WAITING.format(wait=WAITS[wait]), lane=lane, timeout=0.1) as runtime:
            batch = make_batch({"x": 0}, {"x": 1}, {"x": 0})
            batch.timeouts = [60, None, 60]
            with trio.fail_after(30):
                await runtime.run(batch)
            first, late, last = batch.in_order
            assert (first.state, late.state, last.state) == ("success", "failure", "success")
            assert (late.value["kind"], late.value["name"]) == ("timeout", "TimeoutError")
            assert late.value["message"] == "the job ran longer than its timeout of 0.1 s"
            assert "in main" in late.value["traceback"]
            assert "hotpath/runtime" not in late.value["traceback"]
            assert late.duration_us >= 100_000
            assert batch.mark == [0, 0]

    beside_main(test)
    assert looks.count(True) == 1
    assert looks[0] or wait in {"print", "child"}  # a process that is being started is not left half-way


@pytest.mark.parametrize("write", ["print('x', end='', flush=True)", "sys.stdout.buffer.write(b'x')"])
@pytest.mark.parametrize("is_main", [True, False], ids=["main", "beside"])
def test_a_job_that_prints_ends_at_its_next_word(
    beside_main, opened, make_batch, monkeypatch, write, is_main
):
    """A job that does little but print, and that every signal finds in the middle of writing, ends with what
    it prints next.
    """
    written, at_press = [], []
    press = LaneRunner._press

    def pressed(*args):
        press(*args)
        at_press.append(len(written))

    monkeypatch.setattr(LaneRunner, "_press", pressed)
    monkeypatch.setattr(Interrupter, "send", lambda *_: True)  # each comes at the wrong moment
    monkeypatch.setattr(capture, "_tee", lambda *said: written.append(said))

    async def test(lane):
        text = f"""
            import sys
            def main(x: int):
                for _ in range(50 if x else 5_000_000): {write}
            """
        async with opened(text, lane=lane if is_main else None) as runtime:
            batch = make_batch({"x": 0}, {"x": 1})
            with trio.fail_after(40):
                await interrupted(runtime, batch, 0)
            assert [one.state for one in batch.in_order] == ["canceled", "success"]
            assert "in main" in batch.values[0]["traceback"]
            assert len(batch.in_order[0].log) <= at_press[0] + 1

    beside_main(test)


@pytest.mark.parametrize("wait", ["sleep", "lock", "loop"])
def test_cancel_in_the_main_thread(beside_main, opened, make_batch, wait):
    """A running job that is canceled ends as canceled; its neighbours are not touched."""

    async def test(lane):
        async with opened(WAITING.format(wait=WAITS[wait]), lane=lane) as runtime:
            batch = make_batch({"x": 0}, {"x": 1}, {"x": 0})
            with trio.fail_after(30):
                await interrupted(runtime, batch, 1)
            assert [one.state for one in batch.in_order] == ["success", "canceled", "success"]
            assert batch.values[1]["kind"] == "canceled"

    beside_main(test)


@pytest.mark.parametrize("body", ["while True: pass", "while True: time.sleep(0.001)", "deeper()"])
@pytest.mark.parametrize("kind", [ErrorKind.TIMEOUT, ErrorKind.CANCELED])
async def test_in_another_thread(opened, make_batch, body, kind):
    """In a thread of its own Python code is interrupted too."""
    async with opened(WAITING.format(wait=body)) as runtime:
        batch = make_batch({"x": 0}, {"x": 1}, {"x": 0})
        with trio.fail_after(30):
            await interrupted(runtime, batch, 1, kind)
        assert [one.value if one.state == "success" else one.value["kind"] for one in batch.in_order] == [
            0, kind.value, 0,
        ]  # fmt: skip


async def test_time_out_in_another_thread(opened, make_batch):
    """The runtime enforces time-outs there as well: of the script, or of the job, which goes first."""
    async with opened(WAITING.format(wait="while True: pass"), timeout=60) as runtime:
        batch = make_batch({"x": 0}, {"x": 1}, {"x": 1})
        batch.timeouts = [None, 0.1, 0.2]
        with trio.fail_after(30):
            await runtime.run(batch)
        assert [one.state for one in batch.in_order] == ["success", "failure", "failure"]
        assert [one.value["message"][-5:] for one in batch.in_order[1:]] == ["0.1 s", "0.2 s"]


FINALLY = """
    import hotpath, threading, time
    entered, seen = threading.Event(), []
    def main(how: str):
        try:
            entered.set()
            while True: time.sleep(0.001)
        except Exception:
            seen.append("swallowed")
        except hotpath.JobInterrupted as error:
            seen.append(error.kind)
            if how == "return":
                return "made it"
            raise
        finally:
            time.sleep(0.2)
            seen.append("cleaned")
            print("bye")
            if how == "raise":
                raise ValueError("in finally")
            if how == "later":
                raise hotpath.RetryLater(5)
            if how == "discard":
                raise hotpath.Discard("no more")
    """


@pytest.mark.parametrize(
    ("how", "kind", "state"),
    [
        ("", ErrorKind.TIMEOUT, "retry"),
        ("raise", ErrorKind.TIMEOUT, "retry"),
        ("later", ErrorKind.TIMEOUT, "retry"),
        ("discard", ErrorKind.TIMEOUT, "failure"),
        ("return", ErrorKind.TIMEOUT, "success"),
        ("", ErrorKind.CANCELED, "canceled"),
        ("raise", ErrorKind.CANCELED, "canceled"),
        ("later", ErrorKind.CANCELED, "canceled"),
        ("return", ErrorKind.CANCELED, "success"),
    ],
)
async def test_clean_up(opened, make_batch, how, kind, state):
    """An interrupted job runs its `finally` blocks, undisturbed, and `except Exception` does not hold it;
    what it raises there does not change how it ended. A job that returns all the same has succeeded.
    """
    async with opened(FINALLY, name="cleaning", retry=Retry(2, delay=1)) as runtime:
        import cleaning as module

        batch = make_batch({"how": how})
        with trio.fail_after(30):
            await interrupted(runtime, batch, 0, kind)
        (one,) = batch.ended
        assert module.seen == [kind.value, "cleaned"]
        assert one.log == "bye\n"
        assert one.state == state
        if how == "return":
            assert one.value == "made it"
        else:
            assert one.value["kind"] == kind.value
        assert list(batch.delays) == ([0] if state == "retry" else [])
        if how == "later" and state == "retry":
            assert batch.delays == {0: 5}


async def test_interrupt_before_the_start(opened, make_batch):
    """A job that is canceled before its turn is reported as canceled and never begins."""
    text = """
        import threading
        gate, seen = threading.Event(), []
        def main(x: int):
            seen.append(x)
            gate.wait(20)
            return x
        """
    async with opened(text, name="not_begun") as runtime:
        import not_begun as module

        batch, behind = make_batch({"x": 0}, {"x": 1}, {"x": 2}), make_batch({"x": 3}, {"x": 4})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, batch)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(runtime.run, behind)
            await trio.testing.wait_all_tasks_blocked()
            runtime.interrupt(batch, 1, ErrorKind.CANCELED)
            runtime.interrupt(behind, 0, ErrorKind.CANCELED)
            runtime.interrupt(make_batch({}), 0, ErrorKind.CANCELED)  # of another worker
            module.gate.set()
        assert module.seen == [0, 2, 4]
        assert [one.state for one in batch.in_order] == ["success", "canceled", "success"]
        assert [one.state for one in behind.in_order] == ["canceled", "success"]
        assert batch.values[1]["message"] == "canceled before it started"


def test_handler_of_the_script(beside_main, opened, make_batch):
    """A script that replaces the handler of our signal is not interrupted, and not harmed."""
    text = f"""
        import signal, time
        seen = []
        def main(how: str):
            if how == "own":
                signal.signal({SIGNAL}, lambda *_: seen.append(1))
            if how == "default":
                signal.signal({SIGNAL}, signal.SIG_DFL)
            until = time.perf_counter() + 0.3
            while time.perf_counter() < until: time.sleep(0.01)
            return len(seen)
        """

    async def test(lane):
        async with opened(text, lane=lane, timeout=0.05) as runtime:
            batch = make_batch({"how": "own"}, {"how": "default"}, {"how": ""})
            await runtime.run(batch)
            assert batch.values == [0, 0, 0]

    try:
        beside_main(test)
    finally:
        signal.signal(SIGNAL, signal.SIG_DFL)


def test_handler_is_put_back(beside_main, opened, make_batch):
    """While a runtime is open the signal is its own, afterwards it is what it was."""

    def before(*_):
        raise AssertionError

    async def test(lane):
        async with opened("import signal\ndef main(): ...", lane=lane) as runtime:
            assert signal.getsignal(SIGNAL) not in (before, signal.SIG_DFL)
            await runtime.run(make_batch({}))
        assert signal.getsignal(SIGNAL) is before

    old = signal.signal(SIGNAL, before)
    try:
        beside_main(test)
    finally:
        signal.signal(SIGNAL, old)


@pytest.mark.parametrize(
    "body",
    [
        # Each hangs in a place where an exception would be lost or do harm, until asked often enough.
        "value = Gone(); del value",
        "return Slow()",
    ],
)
def test_never_where_it_does_harm(beside_main, opened, make_batch, body):
    """No exception comes up in a destructor, which would swallow it, nor while a result is encoded."""
    text = f"""
        import dataclasses, time
        class Gone:
            def __del__(self): time.sleep(0.2)
        class Meta(type): ...
        @dataclasses.dataclass
        class Slow:
            x: int = 1
            def __getattribute__(self, name):
                if name == "x": time.sleep(0.2)
                return object.__getattribute__(self, name)
        def main():
            {body}
            return "done"
        """

    async def test(lane):
        async with opened(text, lane=lane) as runtime:
            batch = make_batch({}, {})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(runtime.run, batch)
                await in_hand(batch, 0)
                await trio.sleep(0.1)
                runtime.interrupt(batch, 0, ErrorKind.CANCELED)
            assert len(batch.ended) == 2
            assert batch.ended[1].state == "success"

    beside_main(test)


@pytest.mark.parametrize("x", [1, 0])
async def test_interrupt_that_comes_late(opened, make_batch, monkeypatch, x):
    """An exception that comes up when `main` has ended already, well or not, ends that job and no other: it
    is reported once, and the batch goes on.
    """
    text = """
        import threading
        gate = threading.Event()
        def main(x: int):
            gate.wait(20)
            return 1 / x
        """
    async with opened(text, name="comes_late") as runtime:
        import comes_late as module

        settle = runtime._runner.interrupter.settle
        late = [True]

        def send(hand):
            if hand.press is not None:
                hand.press.sent = True
            return False

        def settle_late(hand, index):
            if late.pop() if late else False:
                raise JobInterrupted
            return settle(hand, index)

        monkeypatch.setattr(runtime._runner.interrupter, "send", send)
        monkeypatch.setattr(runtime._runner.interrupter, "settle", settle_late)
        batch = make_batch({"x": x}, {"x": 1}, {"x": 0})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.run, batch)
            await in_hand(batch, 0)
            runtime.interrupt(batch, 0, ErrorKind.CANCELED)
            module.gate.set()
        assert [(one.index, one.state) for one in batch.ended] == [
            (0, "canceled"), (1, "success"), (2, "failure"),
        ]  # fmt: skip
        assert not late


class Marks(list):
    """Two words that remember what was written to them."""

    def __init__(self) -> None:
        super().__init__([0, 0])
        self.seen: list[tuple[int, int]] = []

    def __setitem__(self, at, value) -> None:
        if at == 0 and value != self[0]:
            assert self[1] == 0, "a deadline would be taken for another job's"
        super().__setitem__(at, value)
        self.seen.append((self[0], self[1]))


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("seconds", [None, 30])
async def test_marks(play, opened, make_batch, kind, seconds):
    """The mark names each job before it starts, with its deadline where it has one, also a job that is not to
    start any more; afterwards none.
    """
    async with opened(f"{kind} main(x: int): return x", timeout=seconds) as runtime:
        batch = make_batch({"x": 0}, {"x": 1}, {"x": 2})
        batch.mark = Marks()
        batch.on_report = lambda ended: ended.index == 1 and batch.stop()
        before = time.perf_counter_ns()
        await runtime.run(batch)
        after = time.perf_counter_ns()
    first = batch.number
    named = [token for token, _ in batch.mark.seen]
    assert list(dict.fromkeys(token for token in named if token)) == [first, first + 1, first + 2]
    assert batch.mark == [0, 0]
    assert [one.index for one in batch.ended] == [0, 1]
    deadlines = [deadline for _, deadline in batch.mark.seen if deadline]
    if seconds is None:
        assert not deadlines
    else:
        assert all(before <= deadline - seconds * 10**9 <= after for deadline in deadlines)
        assert deadlines


STRESS = """
    import hotpath, time
    class Gone:
        def __del__(self): sum(range(50))
    def main(x: int, n: int):
        gone = Gone()
        print(x)
        for _ in range(n): gone = Gone() if _ % 9 == 0 else sum(range(30))
        if x % 5 == 1:
            raise ValueError(x)
        if x % 5 == 2:
            try:
                sum(range(n * 20))
            finally:
                raise KeyError(x)
        if x % 5 == 3:
            return object()
        return [x] * 50
    """


async def bombard(runtime, make_batch, wanted: int = 200) -> None:
    """Interrupt jobs at random moments until so many were hit, and check every single job."""
    chance = random.Random(4)
    pressed: set[int] = set()
    hit = 0
    while hit < wanted:
        batch = make_batch(*({"x": x, "n": chance.randrange(1500)} for x in range(100)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(press, runtime, batch, chance, pressed)
            await runtime.run(batch)
            nursery.cancel_scope.cancel()
        assert [one.index for one in batch.ended] == list(range(100))
        for one in batch.ended:
            if one.state == "canceled":
                hit += 1
                assert batch.number + one.index in pressed
                continue
            assert one.log == f"{one.index}\n"
            expected = {1: "ValueError", 2: "KeyError", 3: "BadResultError"}.get(one.index % 5)
            assert one.value["name"] == expected if expected else one.value == [one.index] * 50


async def press(runtime, batch, chance: random.Random, pressed: set[int]) -> None:
    """Interrupt whatever is in hand, again and again."""
    while True:
        if token := batch.mark[0]:
            pressed.add(token)
            runtime.interrupt(batch, token - batch.number, ErrorKind.CANCELED)
        until = time.perf_counter() + chance.random() * 1e-4
        while time.perf_counter() < until:
            pass
        await trio.lowlevel.checkpoint()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # one in a destructor
async def test_many_interrupts(opened, make_batch):
    """Hundreds of interrupts at random moments, of jobs a few microseconds long: each job is reported once,
    in order, as canceled only if it was asked for, and the runtime lives on.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    try:
        async with opened(STRESS) as runtime:
            await bombard(runtime, make_batch)
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.slow
def test_many_interrupts_of_the_main_thread(beside_main, opened, make_batch):
    """The same by signals."""

    async def test(lane):
        async with opened(STRESS, lane=lane) as runtime:
            await bombard(runtime, make_batch)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    try:
        beside_main(test)
    finally:
        sys.setswitchinterval(interval)


def test_offers_what_the_protocol_names():
    """The runtime can be asked to interrupt a job."""
    assert isinstance(SyncRuntime(), Interruptible)
    assert SyncRuntime().stuck(0) == []
    assert threading.current_thread() is threading.main_thread()
