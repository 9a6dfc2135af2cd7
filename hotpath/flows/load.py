"""A flow as a worker is to run it: its file read again, each of its scripts as a runtime wants it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from hotpath.core.flow.model import Call, Flow
from hotpath.core.names import plain_name
from hotpath.errors import ScriptError
from hotpath.scripts.flow_file import load_flow
from hotpath.scripts.locate import Located

if TYPE_CHECKING:
    from hotpath.model import ScriptVersion
    from hotpath.runtime.protocol import Script
    from hotpath.scripts.source import StepSource


@attrs.frozen
class StepInHand:
    """The script of a step (`hotpath.runtime.Script`)."""

    version: ScriptVersion
    source: StepSource
    file: Path
    workspace: Path
    worker: str
    secret: bytes = attrs.field(default=b"", repr=False)
    """What the database's tokens are signed with, for `hotpath.resume_token()`."""


def flow_of(script: Script) -> tuple[Flow, dict[str, StepInHand]]:
    """The flow, and the scripts of its steps, by name, that run in this worker.

    Raises `ScriptError` for a file that cannot be read, or is not the one that was registered.
    """
    version = script.version
    name = plain_name(version.description.path)
    root: Path | None = getattr(script, "root", None)
    loaded = load_flow(Located(name, script.file, script.workspace, is_flow=True, root=root))
    if loaded.hash != version.description.hash:
        raise ScriptError(f"the flow {version.description.path} was changed while its worker started")
    versions = {step.description.path: step for step in version.steps}
    here = {
        module.value.script
        for module in loaded.flow.every()
        if isinstance(module.value, Call) and foreign(script, module.value) is None
    }
    steps = {}
    for name, source in loaded.steps.items():
        if name in here:
            if name not in versions:
                raise ScriptError(f"the script {name} of flow {version.description.path} is not registered")
            file = source.file or script.file
            secret = getattr(script, "secret", b"")
            steps[name] = StepInHand(versions[name], source, file, source.workspace, script.worker, secret)
    return loaded.flow, steps


def foreign(script: Script, call: Call) -> str | None:
    """The tag that a step's jobs are sent to, if it is none of this worker's; None: they run here.

    Such a tag is the one that the flow gives the step, else the one that its script has set for itself.
    """
    tag = call.tag
    if tag is None:
        versions = (step.description for step in script.version.steps)
        tag = next((step.settings.tag for step in versions if step.path == call.script), None)
    tags: tuple[str, ...] = getattr(script, "tags", ())
    return None if tag is None or tag in tags else tag
