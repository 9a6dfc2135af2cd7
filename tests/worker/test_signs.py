"""Signs of life in files, as the probes of `hotpath deploy` read them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from worker_stage import Stage

from hotpath.cli.kubernetes import manifests
from hotpath.cli.platform import PROBES, PlatformGroup


def probes(directory: Path) -> dict[str, bool]:
    """What each probe of a worker's container says, run on this machine."""
    import yaml

    text = manifests([PlatformGroup("default")], "hotpath:1", "hotpath")["20-group-default.yaml"]
    deployment = next(iter(yaml.safe_load_all(text)))
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    found = {}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = [word.replace(PROBES, str(directory)) for word in container[name]["exec"]["command"]]
        found[name] = subprocess.run(command, check=False, capture_output=True).returncode == 0
    return found


@pytest.mark.slow
async def test_probes_tell_what_is(stage: Stage, tmp_path: Path, monkeypatch):
    """Nothing before the start; all while a worker takes jobs; not ready while it stops; then nothing."""
    signs = tmp_path / "signs"
    monkeypatch.setenv("HOTPATH_PROBE_DIR", str(signs))
    assert probes(signs) == {"startupProbe": False, "readinessProbe": False, "livenessProbe": False}
    command = await stage.dedicate("mark")
    await command.ready()

    async def is_well() -> bool:
        return all(probes(signs).values())

    await stage.until(is_well)
    old = time.time() - 120
    os.utime(signs / "alive", (old, old))
    assert probes(signs)["livenessProbe"] is False
    await stage.until(is_well)  # it is touched again
    gate = tmp_path / "gate"
    await stage.client.enqueue("mark", {"x": 1, "file": str(tmp_path / "marks"), "gate": str(gate)})

    async def runs() -> bool:
        return (tmp_path / "marks").exists()

    await stage.until(runs)
    command.process.terminate()

    async def is_stopping() -> bool:
        found = probes(signs)
        return found["livenessProbe"] and not found["readinessProbe"]

    await stage.until(is_stopping)
    gate.touch()
    assert await command.wait() == 0
    assert list(signs.iterdir()) == []


async def test_a_directory_that_cannot_be_is_refused(stage: Stage, tmp_path: Path, monkeypatch):
    """The variable is named."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOTPATH_PROBE_DIR", str(tmp_path / "file" / "signs"))
    command = await stage.dedicate("mark")
    assert await command.wait() == 2
    assert "HOTPATH_PROBE_DIR" in command.stderr
