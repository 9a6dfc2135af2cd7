"""`hotpath logs`: of jobs that run and of jobs that have ended."""

import json
import re
import signal
import subprocess
import sys

import pytest
import trio

from hotpath.cli.logs import _lines
from hotpath.client import open_client

TALK = """
import pathlib, time

def main(gate: str = "") -> None:
    print("one")
    time.sleep(0.03)
    print("two \\x1b[2Jhalf", end="")
    while gate and not pathlib.Path(gate).exists():
        time.sleep(0.01)
    time.sleep(0.02)
    print(" done")
"""
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def enqueue(url, workspace, **args):
    """Put one job in."""

    async def put():
        async with open_client(url, workspace=workspace) as client:
            return str(await client.enqueue("talk", args))

    return trio.run(put)


def popen(environment, *arguments):
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "hotpath", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_log_is_followed(hotpath, environment, workspace, database_url, tmp_path):
    """`--follow` prints what a running job prints as it comes, and ends with it; without, `logs` prints what
    is known so far and says that the job still runs; Ctrl-C ends a follower with 130. `--times` says when.
    """
    (workspace / "talk.py").write_text(TALK)
    gate = tmp_path / "gate"
    job = enqueue(database_url, workspace, gate=str(gate))
    waiting = hotpath("logs", job)
    assert (waiting.code, waiting.out) == (0, "")
    assert "has not run yet" in waiting.error
    worker = popen(environment, "dedicate", "talk", "--quiet")
    followers = [popen(environment, "logs", job, "--follow") for _ in range(2)]
    try:
        for follower in followers:
            assert follower.stdout.readline() == "one\n"
        for _ in range(20):  # what it printed last may be on its way
            so_far = hotpath("logs", job)
            if "half" in so_far.out:
                break
        assert (so_far.code, so_far.out) == (0, "one\ntwo \x1b[2Jhalf\n")
        assert "still runs" in so_far.error
        followers[1].send_signal(signal.SIGINT)
        assert (followers[1].wait(timeout=40), followers[1].stderr.read()) == (130, "hotpath: interrupted\n")
        gate.touch()
        rest = followers[0].stdout.read()  # by the same reader: some of it may be in his buffer
        assert (followers[0].wait(timeout=40), rest) == (0, "two \x1b[2Jhalf done\n")
        assert followers[0].stderr.read() == ""
    finally:
        for process in (*followers, worker):
            process.terminate()
            process.communicate(timeout=60)
    ended = hotpath("logs", job, "--follow")
    assert (ended.code, ended.out, ended.err) == (0, "one\ntwo \x1b[2Jhalf done\n", "")
    timed = hotpath("logs", job, "--times")
    first, second = timed.out.splitlines()
    assert re.fullmatch(f"{STAMP} one", first)
    assert re.fullmatch(rf"{STAMP} two \x1b\[2Jhalf done", second)
    assert first < second
    documents = hotpath("logs", job, "--follow", "--json").documents
    assert "".join(each["text"] for each in documents) == ended.out
    assert {each["attempt"] for each in documents} == {1}
    assert all(re.fullmatch(STAMP, when) for each in documents for _, when in each["times"])
    assert hotpath("logs", job, "--json").documents == [{"id": job, "attempt": 1, "log": ended.out}]
    assert json.loads(hotpath("job", job, "--json").out)["state"] == "success"


def test_lines_end_with_a_line_feed_alone():
    """A carriage return, or what else Python takes for the end of a line, is a part of it."""
    text = "a\rb\n\n\x0bc\u2028d\ne"
    assert _lines(text) == ["a\rb\n", "\n", "\x0bc\u2028d\n", "e"]
    assert _lines("") == []
