"""`--watch`: what is saved takes over; what is half saved, or cannot be loaded, does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from worker_stage import Command, Stage

from hotpath.scripts.locate import locate
from hotpath.worker.watching import files_of, look


def save(file: Path, text: str) -> None:
    """All of it at once: a file that is seen half written is told of as well."""
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").replace(file)


async def gives(stage: Stage, result: object) -> bool:
    """Whether a job has this result."""
    return await stage.client.result(await stage.client.enqueue("job", {})) == result


async def told(command: Command, text: str) -> int:
    """How often the command has written that."""
    return command.stderr.count(text)


@pytest.mark.slow
async def test_dedicate_watches_script_settings_and_modules(stage: Stage):
    """A save of the script, of its settings file, and of a module that it imports; a broken one is told of
    once, and the old one goes on.
    """
    script, helper = stage.workspace / "job.py", stage.workspace / "helper.py"
    save(helper, "NUMBER = 1\n")
    save(script, "import helper\ndef main() -> list[int]:\n    return [1, helper.NUMBER]\n")
    command = await stage.dedicate("job", "--watch")
    await command.ready()
    assert await gives(stage, [1, 1])
    save(script, "import helper\ndef main() -> list[int]:\n    return [2, helper.NUM")
    await stage.until(lambda: told(command, "what was saved is not taken"))
    assert await gives(stage, [1, 1])
    save(script, "import helper\ndef main() -> list[int]:\n    return [2, helper.NUMBER]\n")
    await stage.until(lambda: gives(stage, [2, 1]))
    save(helper, "NUMBER = 7\n")
    await stage.until(lambda: gives(stage, [2, 7]))
    save(helper, "NUMBER = \n")
    await stage.until(lambda: told(command, "cannot be run, the workers keep"))
    assert await gives(stage, [2, 7])
    save(helper, "NUMBER = 8\n")
    await stage.until(lambda: gives(stage, [2, 8]))
    save(stage.workspace / "job.script.yaml", "priority: 3\n")

    async def has_priority() -> bool:
        job = await stage.client.enqueue("job", {})
        return (await stage.client.job(job)).priority == 3

    await stage.until(has_priority)
    assert await told(command, "what was saved is not taken") == 1
    assert [
        row["state"] for row in await stage.rows() if row["state"] not in ("success", "queued", "running")
    ] == []


def test_all_that_a_flow_consists_of_is_watched(tmp_path: Path):
    """Its own file, inline scripts, flows that it calls, scripts of the workspace and their settings."""
    flow, inner = tmp_path / "fl.flow", tmp_path / "inner.flow"
    flow.mkdir()
    inner.mkdir()
    step = "    - id: {0}\n      value: {{type: {1}}}\n"
    (flow / "flow.yaml").write_text(
        "value:\n  modules:\n"
        + step.format("a", "rawscript, language: python3, content: '!inline a.py', input_transforms: {}")
        + step.format("b", "script, path: part, input_transforms: {}")
        + step.format("c", "flow, path: inner, input_transforms: {}")
    )
    (inner / "flow.yaml").write_text(
        "value:\n  modules:\n" + step.format("d", "script, path: other, input_transforms: {}")
    )
    for name in ("fl.flow/a.py", "part.py", "other.py"):
        (tmp_path / name).write_text("def main() -> int:\n    return 1\n")
    watched = look(files_of(locate("fl", tmp_path)))
    assert {str(Path(file).relative_to(tmp_path)) for file, seen in watched.items() if seen} == {
        "fl.flow/flow.yaml", "fl.flow/a.py", "inner.flow/flow.yaml", "part.py", "other.py",
    }  # fmt: skip
    assert str(tmp_path / "part.script.yaml") in watched


async def test_what_the_database_refuses_is_told_once(stage: Stage):
    """It is not tried for ever, and the next save is looked at as any other."""
    script = stage.workspace / "job.py"
    save(script, "def main() -> int:\n    return 1\n")
    command = await stage.dedicate("job", "--watch")
    await command.ready()
    await stage.connection.execute(
        "create function refuse_version_here() returns trigger language plpgsql as"
        " $$ begin raise exception 'not this one'; end $$;"
        " create trigger refuse before insert on hotpath.script_version"
        " for each row execute function refuse_version_here()"
    )
    save(script, "def main() -> int:\n    return 2\n")
    await stage.until(
        lambda: told(command, "what was saved is not taken, the workers keep what they have: not this")
    )
    await stage.connection.execute("drop trigger refuse on hotpath.script_version")
    assert await gives(stage, 1)
    save(script, "def main() -> int:\n    return 3\n")
    await stage.until(lambda: gives(stage, 3))
    assert await told(command, "not this one") == 1
