"""What a flow says of all its runs, `concurrent_limit` and `cache_ttl`, by real workers."""

from __future__ import annotations

import json

import pytest
from worker_stage import Stage

STAMP = "import time\ndef main(x: int) -> int:\n    return time.time_ns()\n"


def write(stage: Stage, **options: object) -> None:
    """`flow_x`: a step that waits behind it, long enough for its run to be parked, and another."""
    inputs = {"x": {"type": "javascript", "expr": "flow_input.x"}}
    code = {"type": "rawscript", "language": "python3", "content": STAMP, "input_transforms": inputs}
    by_path = {"type": "script", "path": "stamp", "input_transforms": inputs}
    (stage.workspace / "stamp.py").write_text(STAMP)
    steps = [
        {"id": "a", "value": code, "sleep": {"type": "static", "value": options.pop("sleep", 0)}},
        {"id": "b", "value": by_path},
    ]
    directory = stage.workspace / "flow_x.flow"
    directory.mkdir()
    (directory / "flow.json").write_text(json.dumps({"value": {"modules": steps, **options}}))


@pytest.mark.slow
async def test_concurrent_limit(stage: Stage) -> None:
    """Of two workers' runs, no more are under way than the flow allows, those that sleep counted; all of them
    end.
    """
    write(stage, sleep=1.2, concurrent_limit=2)
    runs = [await stage.client.enqueue("flow_x", {"x": x}) for x in range(5)]
    await stage.drain("flow_x", "--processes", "2")
    spans = []
    for run in runs:
        assert (await stage.client.job(run)).state == "success"
        # By the clock of this machine: each worker knows the database's to within the time of a reply.
        spans.append(sorted(each.result for each in await stage.client.jobs(parent=run)))
    for begun, _ in spans:
        assert sum(start <= begun < end for start, end in spans) <= 2
    assert any(sum(start <= begun < end for start, end in spans) == 2 for begun, _ in spans)


@pytest.mark.slow
async def test_results_of_a_flow_are_kept(stage: Stage) -> None:
    """A run with the args of an earlier one gets its result and runs nothing, also in another process; with
    other args it runs, and so does any run of a flow that has changed, be it in a script that it calls by
    path.
    """
    write(stage, cache_ttl=60)

    async def run(x: int) -> tuple[int, int]:
        """Result, and number of steps."""
        job = await stage.client.enqueue("flow_x", {"x": x})
        await stage.drain("flow_x")
        return await stage.client.result(job), len(await stage.client.steps(job))

    first, steps = await run(1)
    assert steps == 2
    assert await run(1) == (first, 0)
    other, steps = await run(2)
    assert other != first
    assert steps == 2
    file = stage.workspace / "flow_x.flow" / "flow.json"
    file.write_text(file.read_text() + "\n")
    changed, steps = await run(1)
    assert changed != first
    assert steps == 2
    (stage.workspace / "stamp.py").write_text(STAMP + "\n")
    again, steps = await run(1)
    assert again != changed
    assert steps == 2
