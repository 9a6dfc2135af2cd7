"""What was to take a worker's place and is not wanted any more, at the moment at which it becomes ready."""

from __future__ import annotations

import signal
import textwrap

import pytest
import trio
from group_stage import TELL, pids_of
from worker_stage import Stage

from hotpath.core.tags import parse_patterns
from hotpath.worker.lives import Life
from hotpath.worker.normal import supervise_normal
from hotpath.worker.options import NormalOptions


@pytest.mark.parametrize("moment", ["before it is read", "after it is read"])
async def test_given_up_as_it_becomes_ready(stage: Stage, monkeypatch: pytest.MonkeyPatch, moment: str):
    """I3, and no gap: a change is taken back (a script of the same group does not load with it) while a
    worker says that it is ready with it. None leaves for one that is ended, and none that is ready is ended.
    """
    (stage.workspace / "tell.py").write_text(textwrap.dedent(TELL))
    await stage.client.register("tell")
    await stage.client.set_group("g", dedicated=["tell"], env={"COLOUR": "red"})
    lives: list[Life] = []
    given_up = trio.Event()
    is_ready = Life._is_ready

    def take_back(life: Life) -> None:
        team = life.team
        team.outfit = next(iter(team.places)).life.kit.outfit
        team.hurry()
        given_up.set()

    def hear(life: Life) -> None:
        lives.append(life)
        is_blue = life.kit.environment["COLOUR"] == "blue" and not given_up.is_set()
        if is_blue and moment == "before it is read":
            take_back(life)
        is_ready(life)
        if is_blue and moment == "after it is read":
            take_back(life)

    monkeypatch.setattr(Life, "_is_ready", hear)
    options = NormalOptions(workspace=stage.workspace, patterns=parse_patterns(["*"]), group="g", quiet=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise_normal, stage.client.config, options)
        first = await pids_of(stage)
        assert first[1] == "red"
        await stage.client.set_group("g", env={"COLOUR": "blue"})
        with trio.fail_after(60):
            await given_up.wait()
            blue = next(life for life in lives if life.kit.environment["COLOUR"] == "blue")
            await blue.over.wait()
        last = await pids_of(stage)
        assert last[1] == "red"
        if moment == "before it is read":
            assert last == first, "the old one stays"
        ended = [life for life in lives if life.was_ready and life.over.is_set()]
        assert all(life.child.returncode != -signal.SIGKILL for life in ended), "they made room"
        nursery.cancel_scope.cancel(reason="the test has seen enough")
