"""Steps that take a while are said to run, while they do."""

from __future__ import annotations

import pytest
import trio
from runtime_stage import RuntimeStage, step

from hotpath.core.notes import Mark
from hotpath.flows import runtime as runtimes

HOLD = {
    "lane": "import pathlib, time\ndef main(gate: str) -> int:\n"
    "    while not pathlib.Path(gate).exists(): time.sleep(0.01)\n    return 1\n",
    "trio": "import pathlib, trio\nasync def main(gate: str) -> int:\n"
    "    while not pathlib.Path(gate).exists(): await trio.sleep(0.01)\n    return 1\n",
}


@pytest.mark.parametrize("where", HOLD)
async def test_a_long_step_is_shown(flow_stage: RuntimeStage, where: str, tmp_path, monkeypatch) -> None:
    """In the lane or on Trio, a step that takes a while is noted as running, once, and no more when it has
    ended; one that is quick never is.
    """
    monkeypatch.setattr(runtimes, "SHOW_AFTER", 0.2)  # a busy machine makes a quick step take some of that
    gate = tmp_path / "gate"
    flow_stage.script("quick", "def main() -> int:\n    return 0\n")
    flow_stage.script("a", HOLD[where])
    flow_stage.flow(step("q", "quick"), step("a", "a", {"gate": "flow_input.gate"}), step("z", "quick"))
    run = flow_stage.run(gate=str(gate))

    def marks() -> list[tuple[str, bool]]:
        return [(note.key, note.value is not None) for note in run.notes if isinstance(note, Mark)]

    async with flow_stage.open():
        batch = flow_stage.start(run)
        await flow_stage.until(marks)
        await trio.sleep(0.3)  # it would be said again
        assert marks() == [("running:a", True)]
        gate.touch()
        with trio.fail_after(20):
            await batch.ended.wait()
    assert marks() == [("running:a", True), ("running:a", False)]
    assert run.value == 0
