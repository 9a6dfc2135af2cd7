"""Retries with a real `hotpath dedicate`: attempts are kept, delays are the database's, and they end."""

from __future__ import annotations

import pytest
import trio
from worker_stage import Stage

import hotpath

SYNC = """
import hotpath

hotpath.settings(retry=hotpath.Retry(attempts=3, delay=0.2, backoff="constant", jitter=0.0))

def main(x: int) -> dict:
    attempt = hotpath.current_job().attempt
    print(f"{x}: attempt {attempt}")
    match x:
        case 1 if attempt < 3:
            raise ValueError(f"not yet {attempt}")
        case 2:
            raise ValueError(f"never {attempt}")
        case 3:
            raise hotpath.Discard("no use")
        case 4 if attempt == 1:
            raise hotpath.RetryLater(0.6)
        case 5:
            raise hotpath.RetryLater(0.1)
    return {"x": x, "attempt": attempt}
"""
ASYNC = SYNC.replace("def main", "async def main").replace(
    "    match x", "    import trio; await trio.sleep(0.01)\n    match x"
)


@pytest.mark.slow
@pytest.mark.parametrize("source", [SYNC, ASYNC], ids=["sync", "async"])
async def test_each_kind_of_failure_runs_again_as_it_should(stage: Stage, source: str):
    """I1, I3: retries until success, until the attempts are used up, as RetryLater asks, never after Discard;
    each attempt and its log is kept, neighbours are not charged.
    """
    (stage.workspace / "moody.py").write_text(source)
    ids = await stage.client.enqueue_many("moody", ({"x": x} for x in range(20)))
    command = await stage.drain("moody")
    rows = {row["id"]: row for row in await stage.rows()}
    assert len(rows) == 20
    ends = {2: ("failure", 3), 3: ("failure", 1), 5: ("failure", 3), 1: ("success", 3), 4: ("success", 2)}
    for x, job in enumerate(ids):
        assert (rows[job]["state"], rows[job]["attempt"]) == ends.get(x, ("success", 1)), x
    history = {x: await stage.client.attempts(ids[x]) for x in (0, 1, 2, 3, 4, 5)}
    assert [(one.attempt, one.state.value) for one in history[1]] == [
        (1, "failure"),
        (2, "failure"),
        (3, "success"),
    ]
    assert [one.error["message"] for one in history[2]] == [f"never {n}" for n in (1, 2, 3)]
    assert [one.error["name"] for one in history[3]] == ["Discard"]
    assert len(history[5]) == 3
    assert len(history[0]) == 1
    # By the database's clock: nobody begins before the delay is over.
    for x, delay in ((1, 0.2), (2, 0.2), (4, 0.6)):
        for earlier, later in zip(history[x], history[x][1:], strict=False):
            assert (later.started_at - earlier.finished_at).total_seconds() >= delay - 0.01
    log = await stage.client.log(ids[1])
    assert log == "1: attempt 1\n1: attempt 2\n1: attempt 3\n"
    assert command.last["failure"] == 3
    assert command.last["success"] == 17
    await stage.check_empty()


async def test_retry_by_hand_runs_the_same_job_again(stage: Stage):
    """A job that ended can be run again under its id: what it ended with becomes an earlier attempt."""
    (stage.workspace / "moody.py").write_text(
        "import hotpath\n\ndef main(x: int) -> int:\n"
        "    if hotpath.current_job().attempt == 1:\n        raise KeyError(x)\n    return x\n"
    )
    job = await stage.client.enqueue("moody", {"x": 8})
    command = await stage.dedicate("moody")
    with trio.fail_after(20), pytest.raises(hotpath.JobFailed):
        await stage.client.result(job)
    assert await stage.client.retry(job)
    with trio.fail_after(20):
        assert await stage.client.result(job) == 8
    assert [one.attempt for one in await stage.client.attempts(job)] == [1, 2]
    command.process.terminate()
    assert await command.wait() == 0


async def test_time_out_of_a_job_is_its_own(stage: Stage):
    """I8: a job's own time-out holds for it alone, over the script's; it ends as a failure, `timeout`."""
    (stage.workspace / "late.py").write_text(
        "import time, hotpath\n\nhotpath.settings(timeout=30)\n\n"
        "def main(seconds: float) -> float:\n    time.sleep(seconds)\n    return seconds\n"
    )
    quick = await stage.client.enqueue("late", {"seconds": 0.01}, timeout=20)
    late = await stage.client.enqueue("late", {"seconds": 60}, timeout=0.3)
    many = await stage.client.enqueue_many("late", ({"seconds": s} for s in (0.0, 60, 0.0)), timeout=0.4)
    await stage.drain("late")
    rows = {row["id"]: row for row in await stage.rows()}
    assert [rows[job]["state"] for job in (quick, late, *many)] == [
        "success",
        "failure",
        "success",
        "failure",
        "success",
    ]
    assert '"kind":"timeout"' in rows[late]["error"].replace(" ", "")
    assert 300 <= rows[late]["duration_ms"] < 20_000
