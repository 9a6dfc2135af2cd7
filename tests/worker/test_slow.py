"""One slow job in a batch: what ended before it is there to see, what waits behind it runs elsewhere."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from worker_stage import Stage

GATE = """
import os, time

def main(x: int, marks: str, gate: str = "") -> int:
    descriptor = os.open(marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\\n" % x)
    os.close(descriptor)
    while gate and not os.path.exists(gate):
        time.sleep(0.005)
    return os.getpid()
"""
ASYNC_GATE = """
import os, trio

async def main(x: int, marks: str, gate: str = "") -> int:
    with open(marks, "a") as file:
        file.write(f"{x}\\n")
    while gate and not os.path.exists(gate):
        await trio.sleep(0.005)
    return os.getpid()
"""


@pytest.mark.parametrize("source", [GATE, ASYNC_GATE], ids=["sync", "async"])
@pytest.mark.parametrize("large", [False, True], ids=["small args", "large args"])
async def test_neighbours_of_a_slow_job_do_not_wait(stage: Stage, source: str, large: bool):
    """I1, I3: while one job runs on, its batch's earlier results are visible, and another worker runs the
    later jobs; each runs once, uncharged.
    """
    (stage.workspace / "gate.py").write_text(source.replace("gate: str", "pad: str = '', gate: str"))
    marks, gate = stage.workspace / "marks", stage.workspace / "open"
    jobs = [{"x": x, "marks": str(marks), "pad": "p" * 9000 * (large and x % 4 == 2)} for x in range(60)]
    slow = [7] if source is GATE else [7, 8]
    for x in slow:
        jobs[x]["gate"] = str(gate)
    ids = await stage.client.enqueue_many("gate", jobs)
    flags = () if source is GATE else ("--concurrency", "2")
    first = await stage.dedicate("gate", *flags)
    await stage.until_done(7)

    async def given_back():
        states = await stage.states()
        return states["queued"] >= 30 and states["running"] == len(slow)

    await stage.until(given_back)
    # A batch that was claimed ahead may go first while large args are fetched: not all that began is before.
    began = {int(x) for x in marks.read_text().split()}
    assert began >= set(range(7 + len(slow)))
    waiting = {row["id"] for row in await stage.rows() if row["state"] == "queued"}
    assert waiting == {job for x, job in enumerate(ids) if x not in began}
    second = await stage.dedicate("gate", *flags)
    await stage.until_done(60 - len(slow))
    assert await stage.states() == {"success": 60 - len(slow), "running": len(slow)}
    gate.touch()
    await stage.until_done(60)
    for command in (first, second):
        command.process.terminate()
        assert await command.wait() == 0, command.stderr
    assert Counter(marks.read_text().split()) == Counter(str(x) for x in range(60))
    rows = {row["id"]: row for row in await stage.rows()}
    assert {row["attempt"] for row in rows.values()} == {1}
    assert len({rows[job]["result"] for job in ids}) == 2
    await stage.check_empty()


@pytest.mark.slow
async def test_steadily_slow_jobs_are_not_tossed_about(stage: Stage):
    """Jobs that all take longer than the slice are claimed once each, not claimed and given back."""
    (stage.workspace / "steady.py").write_text(
        "import time\n\ndef main(x: int) -> int:\n    time.sleep(0.15)\n    return x\n"
    )
    await stage.client.enqueue_many("steady", ({"x": x} for x in range(12)))
    command = await stage.drain("steady")
    assert command.last["jobs"] == 12
    # Each pause of a busy machine makes one job look slow.
    assert command.last.get("released", 0) <= 4


async def test_drain_waits_for_what_others_hold(stage: Stage):
    """I1: a drain does not end while another worker holds a job, and runs what that one gives back."""
    (stage.workspace / "gate.py").write_text(GATE)
    marks, gate = stage.workspace / "marks", stage.workspace / "open"
    await stage.client.enqueue("gate", {"x": 1, "marks": str(marks), "gate": str(gate)})
    holder = await stage.dedicate("gate")
    await stage.until(trio.Path(marks).exists)
    drain = await stage.dedicate("gate", "--drain")
    await drain.ready()
    await trio.sleep(0.5)
    assert drain.process.returncode is None
    gate.touch()
    assert await drain.wait() == 0, drain.stderr
    assert await stage.states() == {"success": 1}
    holder.process.terminate()
    assert await holder.wait() == 0
