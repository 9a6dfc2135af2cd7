"""Batches that go straight to the lane, without a task of Trio's that waits for their end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from hotpath.model import ErrorKind

WAITING = """
    import time
    def main(x: int):
        while x: time.sleep(0.001)
        return x
    """


def told() -> tuple[trio.Event, list[Any], Callable[[BaseException | None], None]]:
    """An event for the end of a batch, what was said and in which thread, and what to have called."""
    over, said, token = trio.Event(), [], trio.lowlevel.current_trio_token()

    def ended(broken: BaseException | None) -> None:
        said.append((broken, threading.current_thread()))
        token.run_sync_soon(over.set)

    return over, said, ended


async def test_the_lane_says_that_it_is_through(opened, make_batch):
    """What is begun is run in order, and its end is said in the lane's thread, when all is reported."""
    async with opened(WAITING) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.attend)
        await trio.testing.wait_all_tasks_blocked()
        over, said, ended = told()
        batch = make_batch({"x": 0}, {"x": 0})
        assert runtime.begin(batch, ended)
        with trio.fail_after(30):
            await over.wait()
        assert [one.state for one in batch.in_order] == ["success", "success"]
        assert said[0][0] is None
        assert said[0][1] is not threading.current_thread()
        nursery.cancel_scope.cancel()


async def test_an_interrupt_is_sent_until_it_works(opened, make_batch):
    """A job of such a batch is interrupted, also if it is where it cannot be at first; others that wait are
    refused.
    """
    text = """
        import threading, time
        entered, leave = threading.Event(), threading.Event()
        class Slow:
            def __del__(self):
                entered.set()
                leave.wait()
        def main(x: int):
            if x: Slow()
            while x: time.sleep(0.001)
            return x
        """
    async with opened(text, name="interrupted_later") as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(runtime.attend)
        await trio.testing.wait_all_tasks_blocked()
        over, _, ended = told()
        batch, module = make_batch({"x": 1}, {"x": 0}, {"x": 1}), sys.modules["interrupted_later"]
        assert runtime.begin(batch, ended)
        with trio.fail_after(30):
            await trio.to_thread.run_sync(module.entered.wait)
            runtime.interrupt(batch, 2, ErrorKind.CANCELED)
            runtime.interrupt(batch, 0, ErrorKind.CANCELED)
            assert not over.is_set()
            module.leave.set()
            await over.wait()
        assert [one.state for one in batch.in_order] == ["canceled", "success", "canceled"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["settings", "job", "nobody attends"])
async def test_what_has_to_be_followed_is_not_begun(opened, make_batch, how):
    """Somebody has to watch the clock of jobs with time-outs, and to attend at all."""
    settings = {"timeout": 60} if how == "settings" else {}
    async with opened(WAITING, **settings) as runtime, trio.open_nursery() as nursery:
        if how != "nobody attends":
            nursery.start_soon(runtime.attend)
        await trio.testing.wait_all_tasks_blocked()
        batch = make_batch({"x": 0})
        if how == "job":
            batch.timeouts = [60.0]
        _, said, ended = told()
        assert not runtime.begin(batch, ended)
        await runtime.run(batch)
        assert not said
        assert [one.state for one in batch.in_order] == ["success"]
        nursery.cancel_scope.cancel()


async def test_when_nobody_attends_any_more_it_is_given_up(opened, make_batch):
    """Nothing more of it starts, and its job in hand is not reported; the end is said all the same."""
    async with opened(WAITING, name="given_up") as runtime:
        over, _, ended = told()
        batch = make_batch({"x": 1}, {"x": 0})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.attend)
            await trio.testing.wait_all_tasks_blocked()
            assert runtime.begin(batch, ended)
            with trio.fail_after(30):
                while batch.mark[0] != batch.number:  # noqa: ASYNC110 - two words are all there is
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        sys.modules["given_up"].time = None  # the job ends: it raises
        with trio.fail_after(30):
            await over.wait()
        assert batch.in_order == []
