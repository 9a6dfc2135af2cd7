"""Secret args, end to end: real workers, a real database, the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import trio
from worker_stage import Stage

from hotpath.errors import BadArgsError
from hotpath.model import MASK

SECRET = "correct-horse-battery"
LEAKY = """
import logging, os, sys, threading
import hotpath

def main(key: hotpath.Secret, how: str = "", login: dict[str, hotpath.Secret] | None = None):
    print("print", key)
    logging.warning("log %s", key)
    print("stderr", [str(key)], file=sys.stderr)
    if how == "fail":
        raise ValueError(f"error {key}")
    if how == "die":
        print("dies with", key, login)
        os._exit(3)
    return {"key": key, "login": login}
"""
PLAIN = "def main(key: str):\n    print('print', key)\n    return key\n"
CHILD = "def main(text: str):\n    print('child', text)\n    return 'child ' + text\n"
CODE = """
import hotpath

def join(text: str, more: str) -> str:
    print("joins", text)
    return text + more

def fails(text: str):
    raise ValueError("step " + text)

def main(key: hotpath.Secret):
    joined = hotpath.step(join, key, "-more")
    assert joined.startswith("correct-horse"), joined
    hotpath.sleep(1.5)
    assert hotpath.step.named("again", join, joined, "!") == joined + "!"
    hotpath.step(fails, joined)
"""


async def everything(stage: Stage) -> str:
    """All that the database shows of jobs but their args and what steps hand on."""
    parts = [
        await stage.connection.fetch(query)
        for query in (
            "select result, error from hotpath.job where kind <> 'step'",
            "select error from hotpath.job where kind = 'step'",
            "select error from hotpath.job_attempt",
            "select text from hotpath.job_log",
        )
    ]
    return json.dumps([[tuple(row) for row in part] for part in parts], ensure_ascii=False)


async def commands(stage: Stage, *lines: tuple[object, ...]) -> list[str]:
    """All that these commands print, each by itself; they run at the same time."""
    outputs: dict[tuple[object, ...], str] = {}

    async def run(line: tuple[object, ...]) -> None:
        done = await trio.run_process(
            [sys.executable, "-m", "hotpath", *map(str, line)],
            env=stage.environment,
            cwd=stage.workspace,
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        outputs[line] = (done.stdout + done.stderr).decode()

    async with trio.open_nursery() as nursery:
        for line in lines:
            nursery.start_soon(run, line)
    return [outputs[line] for line in lines]


def write(stage: Stage, **scripts: str) -> None:
    """Put scripts into the workspace."""
    for name, text in scripts.items():
        (stage.workspace / f"{name}.py").write_text(text)


@pytest.mark.slow
async def test_nothing_leaves_the_worker(stage: Stage):
    """What jobs with a secret print, log, return, raise, and say as they kill their worker is stored without
    it; commands show its mask, the args too. The table has the args as they are.
    """
    write(stage, leaky=LEAKY)
    args: list[dict[str, Any]] = [{"key": SECRET, "how": how} for how in ("", "fail", "die")]
    args[2]["login"] = {"a": "staple-of-battery"}
    ids = [await stage.client.enqueue("leaky", each) for each in args]
    drained = await stage.drain("leaky")
    stored = await everything(stage)
    assert stored.count(f"print {MASK}") >= 3
    assert f"error {MASK}" in stored
    assert f"dies with {MASK} {{'a': Secret(" in stored
    shown = await commands(
        stage,
        ("job", ids[1]),
        ("job", ids[0], "--json"),
        ("jobs", "--json"),
        ("logs", ids[2]),
        ("run", "leaky", "-a", f"key={SECRET}", "--json", "--local"),
    )
    assert '"state":"success"' in shown[-1]
    shown += [drained.stderr, json.dumps(drained.events)]
    for text in (stored, *shown):
        assert SECRET not in text
        assert "staple" not in text
        assert "horse" not in text
    document = json.loads(shown[1])
    assert document["args"] == {"key": MASK, "how": ""}
    assert document["result"] == {"key": MASK, "login": None}
    assert (await stage.client.job(ids[0])).args == args[0]


@pytest.mark.slow
async def test_control(stage: Stage):
    """Without `Secret` the same is stored and shown as it is."""
    write(stage, plain=PLAIN)
    (shown,) = await commands(stage, ("run", "plain", "-a", f"key={SECRET}", "--json", "--local"))
    assert shown.count(SECRET) >= 2
    assert (await everything(stage)).count(SECRET) == 2


async def test_any_version_will_do(stage: Stage):
    """A job is masked if any version of its script marks the place, an older or a newer one than its own."""
    write(stage, plain=PLAIN)
    job = await stage.client.enqueue("plain", {"key": SECRET})
    (shown,) = await stage.client.masked([await stage.client.job(job)])
    assert shown.args == {"key": SECRET}
    write(stage, plain="import hotpath\n" + PLAIN.replace("str", "hotpath.Secret"))
    await stage.client.register("plain")
    (shown,) = await stage.client.masked([await stage.client.job(job)])
    assert shown.args == {"key": MASK}
    write(stage, plain=PLAIN)
    await stage.client.register("plain")
    (shown,) = await stage.client.masked([await stage.client.job(job)])
    assert shown.args == {"key": MASK}


async def test_refusals_do_not_tell(stage: Stage):
    """What is wrong with args that hold a secret is said without it, by Python and by SQL."""
    write(stage, leaky=LEAKY)
    await stage.client.register("leaky")
    for wrong in ({"key": [SECRET]}, {"key": SECRET, "login": {"a": [SECRET]}}, {"key": SECRET, "x": SECRET}):
        with pytest.raises(BadArgsError) as refused:
            await stage.client.enqueue("leaky", wrong)
        assert "horse" not in str(refused.value)
        said = await stage.connection.fetchval(
            "select hotpath.check_args(v.schema, $1::jsonb) from hotpath.script_version v", json.dumps(wrong)
        )
        assert said
        assert "horse" not in said


@pytest.mark.slow
async def test_flow_that_is_code(stage: Stage):
    """Steps get a run's secret as it is, before and behind a wait; what they print and raise is masked, and
    their args and results where they are shown.
    """
    write(stage, code=CODE)
    run = await stage.client.enqueue("code", {"key": SECRET})
    await stage.drain("code")
    job = await stage.client.job(run)
    assert job.state == "failure", job
    assert job.error is not None
    assert job.error["message"].endswith(f"step {MASK}-more"), job.error
    steps = await stage.client.jobs(parent=run)
    assert len(steps) == 3
    assert {step.args["text"] for step in steps} == {SECRET, f"{SECRET}-more"}
    shown = await stage.client.masked(steps)
    assert {step.args["text"] for step in shown} == {MASK, f"{MASK}-more"}
    assert {step.result for step in shown} == {None, f"{MASK}-more", f"{MASK}-more!"}
    texts = [await everything(stage)]
    texts += await commands(stage, ("job", run, "--json"), ("job", run), ("job", steps[0].id))
    assert f"joins {MASK}" in texts[0]
    for text in texts:
        assert "horse" not in text


@pytest.mark.slow
async def test_args_nested_deeper_than_python_reads(stage: Stage):
    """SQL can put in args that no Python reads: that job fails and says so, with secrets or without; its
    neighbours run, and theirs stay hidden.
    """
    code = "def main({}x=0) -> str:\n    print('said', {})\n    return 'done'\n"
    (stage.workspace / "deep.py").write_text(code.format("", "1"))
    (stage.workspace / "hidden.py").write_text(
        "import hotpath\n" + code.format("key: hotpath.Secret, ", "key")
    )
    for script, given, said in (
        ("deep", {}, "said 1\n"),
        ("hidden", {"key": "hunter22,["}, f"said {MASK}\n"),
    ):
        jobs = [await stage.client.enqueue(script, given)]
        opened = json.dumps(given)[:-1] + (", " if given else "") + '"x": '
        deep = opened + "[" * 3000 + "]" * 3000 + "}"
        jobs += [await stage.connection.fetchval("select hotpath.enqueue($1, $2::text::jsonb)", script, deep)]
        jobs += [await stage.client.enqueue(script, given)]
        await stage.drain(script)
        ends = await stage.connection.fetch(
            "select state, error ->> 'name' from hotpath.job where id = any ($1::uuid[]) order by id", jobs
        )
        assert [tuple(row) for row in ends] == [
            ("success", None),
            ("failure", "BadArgsError"),
            ("success", None),
        ]
        assert [await stage.client.log(job) for job in jobs] == [said, "", said]
