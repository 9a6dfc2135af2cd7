"""Sleeps that somebody may end."""

from __future__ import annotations

import trio

from hotpath.web.reads import Pause


async def test_a_pause_that_is_over_ends_at_once():
    """Who comes late to his own deadline goes on: it is no fault that ends the server."""
    with trio.fail_after(5):
        await Pause().sleep(-0.1)


async def test_a_pause_ends_when_woken():
    """Also when the waking came before."""
    pause = Pause()
    pause.wake()
    with trio.fail_after(5):
        await pause.sleep(float("inf"))
