"""One job from the command line to its result, and the commands that look."""

import json
import re
import subprocess
import sys
import uuid
from datetime import datetime

import pytest
import trio

from hotpath.client import open_client
from hotpath.core.positions import Positions
from hotpath.store.scripts import find_script
from hotpath.store.work import Claim, WorkerSession
from hotpath.store.workers import register_worker

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


@pytest.mark.slow
def test_run_local(hotpath):
    """`run --local` runs the job here and prints its result, and nothing else, as JSON."""
    done = hotpath("run", "add", '{"x": 1}', "-a", "y=5", "--local")
    assert (done.code, done.out, done.err) == (0, "6\n", "")
    (job,) = hotpath("run", "add", "-a", "x=41", "--local", "--json").documents
    assert (job["state"], job["result"], job["args"], job["attempt"]) == ("success", 42, {"x": 41}, 1)
    assert datetime.fromisoformat(job["started_at"]).utcoffset().total_seconds() == 0
    assert isinstance(job["duration_ms"], float)
    assert hotpath("logs", job["id"]).out == "adding 41 1\n"
    assert hotpath("logs", job["id"], "--json").documents == [
        {"id": job["id"], "attempt": 1, "log": "adding 41 1\n"}
    ]


def test_run_by_path(hotpath, workspace):
    """A script may be named by its path."""
    assert hotpath("run", workspace / "add.py", "-a", "x=1", "--local").out == "2\n"


@pytest.mark.slow
def test_failed_job(hotpath):
    """A job that raises ends `run` with 1, its traceback as the user wrote it, and one line; `job` shows the
    same.
    """
    done = hotpath("run", "fail", "-a", "x=3", "-a", "name=5", "-a", "maybe=[1, 2]", "--local")
    assert (done.code, done.out) == (1, "")
    *trace, last = done.err.splitlines()
    assert re.fullmatch(rf"hotpath: job {ID.pattern} failed: ValueError: no 3", last)
    assert trace[0] == "Traceback (most recent call last):"
    assert "fail.py" in done.err
    assert "hotpath/" not in "\n".join(trace)
    job_id = ID.search(last).group()
    shown = hotpath("job", job_id)
    assert shown.code == 0
    assert "ValueError: no 3 (exception)" in shown.out
    assert "return helper(x)" in shown.out
    assert hotpath("logs", job_id).out == "trying '5' [1, 2]\n"
    (document,) = hotpath("job", job_id, "--json").documents
    assert document["error"]["kind"] == "exception"
    assert (document["state"], document["result"]) == ("failure", None)
    (attempt,) = document.pop("attempts")
    assert (attempt["attempt"], attempt["state"], attempt["error"]) == (1, "failure", document["error"])
    (listed,) = hotpath("jobs", "--state", "failure", "--json").documents
    assert listed == document


BAD_ARGS = {
    "missing": ([], "field `x` is missing"),
    "type": (["-a", "x=abc"], "field `x`: expected int, got str"),
    "extra": (['{"x": 1, "z": 2}'], "field `z` is unknown"),
    "array": (["[1]"], "object"),
    "not JSON": (["{x: 1}"], "not JSON"),
    "pair on array": (["[1]", "-a", "x=1"], "object"),
}


@pytest.mark.slow
def test_bad_args(hotpath, subtests):
    """Args that the signature does not take are one line and exit code 1, and no job."""
    for name, (arguments, said) in BAD_ARGS.items():
        with subtests.test(name):
            done = hotpath("run", "add", *arguments)
            assert (done.code, done.out) == (1, "")
            assert said in done.error
            assert hotpath("jobs", "--json").out == ""


@pytest.mark.slow
def test_values_of_pairs(hotpath):
    """A value is text where text is wanted, else JSON, else text."""
    done = hotpath("run", "echo", "-a", "a=1", "-a", "b=x y", "-a", 'c={"d": [null]}', "-a", "e==", "--local")
    assert json.loads(done.out) == {"a": 1, "b": "x y", "c": {"d": [None]}, "e": "="}


@pytest.mark.slow
def test_timeout_of_the_wait(hotpath):
    """`--timeout` stops the wait: after 2 s without a worker the command says so, then exits 1, and the job
    goes on.
    """
    for seconds in ("2.3", "5", "20"):  # the look itself takes a moment, on a busy machine a longer one
        done = hotpath("run", "add", "-a", "x=1", "--timeout", seconds)
        assert (done.code, done.out) == (1, "")
        if len(done.err.splitlines()) > 1:
            break
    first, last = done.err.splitlines()
    assert "no live worker listens to tag add" in first
    assert "it goes on" in last
    job_id = ID.search(last).group()
    assert hotpath("job", job_id, "--json").documents[0]["state"] == "queued"
    assert hotpath("cancel", job_id).out == f"{job_id} canceled\n"
    again = hotpath("cancel", job_id, "--json")
    assert (again.code, again.documents) == (1, [{"id": job_id, "canceled": False, "state": "canceled"}])
    assert hotpath("jobs", "--state", "canceled", "--json").documents[0]["error"]["kind"] == "canceled"


@pytest.mark.slow
def test_worker_answers_run(hotpath, environment):
    """With a worker running, `run` prints the result, and `status` shows the worker."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "hotpath", "dedicate", "add", "--quiet"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert hotpath("run", "add", "-a", "x=1").out == "2\n"
        (status,) = hotpath("status", "--json").documents
        assert [each["script"] for each in status["workers"]] == ["add"]
        assert {tag["tag"]: tag["workers"] for tag in status["tags"]} == {"add": 1}
        assert "add" in hotpath("status").out
    finally:
        worker.terminate()
        _, err = worker.communicate(timeout=60)
    assert (worker.returncode, err) == (0, b"")


@pytest.mark.slow
def test_drain(hotpath, tmp_path):
    """`dedicate --drain` runs what was pushed and exits 0."""
    ids = tmp_path / "ids"
    hotpath("push", "add", "--ids", ids, stdin=b"".join(b'{"x": %d}\n' % i for i in range(1200)))
    done = hotpath("dedicate", "add", "--drain")
    assert done.code == 0
    last = hotpath("job", ids.read_text().split()[-1], "--json").documents[0]
    assert (last["state"], last["result"]) == ("success", 1200)
    listed = hotpath("jobs", "--limit", "2000", "--json").documents
    assert sorted(job["result"] for job in listed) == list(range(1, 1201))
    assert len(hotpath("jobs", "--limit", "3").out.splitlines()) == 4


@pytest.mark.slow
def test_deploy_and_scripts(hotpath, workspace):
    """`deploy` stores every script, says what changed, and does not let a broken one keep the others back."""
    done = hotpath("deploy", "--json")
    assert done.code == 1
    found = {each["script"]: each["change"] for each in done.documents}
    assert found == {"add": "new", "fail": "new", "echo": "new", "broken": "failed"}
    assert "ModuleNotFoundError" in next(each["error"] for each in done.documents if each["error"])
    (workspace / "broken.py").unlink()
    (workspace / "add.py").write_text("def main(x: float): return x\n")
    done = hotpath("deploy")
    assert done.code == 0
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["changed", "add"],
        ["unchanged", "echo"],
        ["unchanged", "fail"],
    ]
    versions = hotpath("scripts", "--json").documents
    assert [(each["script"], each["current"]) for each in versions] == [
        ("add", True),
        ("add", False),
        ("echo", True),
        ("fail", True),
    ]
    assert versions[0]["schema"]["properties"]["x"] == {"type": "number"}
    assert "Add two numbers." in hotpath("scripts").out


def test_deploy_elsewhere(hotpath, tmp_path):
    """A directory outside of the workspace is refused, with what to do."""
    done = hotpath("deploy", tmp_path)
    assert (done.code, "--workspace" in done.error) == (2, True)


@pytest.mark.slow
def test_retry_shows_every_attempt(hotpath):
    """`retry` runs a failed job again under its id; `job` shows both attempts with their errors, `logs` each
    one's text; what waits, or nobody knows, is refused by name, the others are retried all the same.
    """
    job_id = ID.search(hotpath("run", "fail", "-a", "x=3", "--local").err.splitlines()[-1]).group()
    tag = hotpath("job", job_id, "--json").documents[0]["tag"]
    unknown = str(uuid.uuid4())
    done = hotpath("retry", unknown, job_id)
    assert (done.code, done.out) == (1, f"{job_id} queued again\n")
    assert unknown in done.error
    again = hotpath("retry", job_id, "--json")
    assert (again.code, again.documents) == (1, [{"id": job_id, "retried": False, "state": "queued"}])
    assert f"{job_id} has not ended (queued)" in hotpath("retry", job_id).error
    assert hotpath("dedicate", "fail", "--tag", tag, "--drain", "--quiet").code == 0
    (document,) = hotpath("job", job_id, "--json").documents
    assert (document["state"], document["attempt"]) == ("failure", 2)
    assert [(each["attempt"], each["state"]) for each in document["attempts"]] == [
        (1, "failure"),
        (2, "failure"),
    ]
    assert {each["error"]["message"] for each in document["attempts"]} == {"no 3"}
    table = hotpath("job", job_id).out.splitlines()[-3:]
    assert [line.split()[0] for line in table] == ["ATTEMPT", "1", "2"]
    assert "ValueError: no 3 (exception)" in table[1]
    said = "trying '' None\n"
    assert hotpath("logs", job_id).out == f"--- attempt 1 ---\n{said}--- attempt 2 ---\n{said}"
    assert hotpath("logs", job_id, "--attempt", "2").out == said
    refused = hotpath("logs", job_id, "--attempt", "3")
    assert (refused.code, refused.out) == (2, "")
    assert "--attempt" in refused.error


def test_cancel_of_a_running_job(hotpath, database_url):
    """Of a job that runs, `cancel` says that it was asked to stop, as often as it is asked."""
    job_id = hotpath("push", "add", "--ids", "-", stdin=b'{"x": 1}\n').out.strip()
    trio.run(claim_one, database_url)
    for _ in range(2):
        done = hotpath("cancel", job_id)
        assert (done.code, done.out, done.err) == (0, f"{job_id} asked to stop\n", "")
    assert hotpath("cancel", job_id, "--json").documents == [
        {"id": job_id, "canceled": True, "state": "running"}
    ]
    assert "has not ended (running)" in hotpath("retry", job_id).error
    (attempt,) = hotpath("job", job_id, "--json").documents[0]["attempts"]
    assert (attempt["attempt"], attempt["state"], attempt["finished_at"]) == (1, "running", None)


async def claim_one(url: str) -> None:
    """Have a worker that never runs it hold the first job of `add`."""
    async with open_client(url) as client, client.database.connection() as connection:
        found = await find_script(connection, "add")
        worker = await register_worker(
            connection, name="w", group=None, script=found.version.script, version=found.version.id,
            tags=[found.tag], host="here", pid=1, concurrency=1, lease=60,
        )  # fmt: skip
        claim = Claim(1, found.tag, "add", found.version.script, Positions())
        assert (await WorkerSession(connection, worker).cycle([], claim)).hand is not None


NO_TIMEOUT = [
    ("run", "add", "-a", "x=1", "--timeout=0"),
    ("run", "add", "-a", "x=1", "--job-timeout=-1"),
    ("run", "add", "-a", "x=1", "--job-timeout=nan"),
    ("push", "add", "--job-timeout=0"),
]


def test_time_out_that_is_none(hotpath, subtests):
    """I13: a time-out of zero or less is refused with the field named, and nothing is enqueued."""
    for arguments in NO_TIMEOUT:
        with subtests.test(ascii(arguments)[:60]):
            done = hotpath(*arguments, stdin=b'{"x": 1}\n')
            assert (done.code, done.out) == (2, "")
            assert "timeout" in done.error
            assert hotpath("jobs", "--json").out == ""


def test_cancel_several(hotpath):
    """`cancel` goes through all ids, says what it could not do, and then exits 1."""
    ids = hotpath("push", "add", "--ids", "-", stdin=b'{"x": 1}\n' * 3).out.split()
    unknown = str(uuid.uuid4())
    done = hotpath("cancel", ids[0], unknown, ids[2])
    assert (done.code, done.out) == (1, f"{ids[0]} canceled\n{ids[2]} canceled\n")
    assert unknown in done.error
