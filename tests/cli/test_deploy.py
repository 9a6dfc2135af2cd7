"""`hotpath deploy` and `hotpath scripts`: versions, who runs them, and back."""

import json
import signal
import subprocess
import sys
import threading

import pytest

SOURCE = "def main(x: int) -> list:\n    return [{0}, x]\n"
BROKEN = "import sys\nif 'hotpath.worker.loop' in sys.modules:\n    raise RuntimeError('not here')\n"


@pytest.fixture
def start(environment, tmp_path):
    """Starts `hotpath ARGUMENTS`, which is ended with the test."""
    started = []

    def begin(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "hotpath", *arguments],
            env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        process.communicate(timeout=60)


def document(process):
    """The next that it prints; it may take a while, but not for ever: then it is ended."""
    patience = threading.Timer(50, process.kill)
    patience.start()
    line = process.stdout.readline()
    patience.cancel()
    assert line, process.stderr.read()
    return json.loads(line)


def save(file, text):
    """Write it at once: who looks meanwhile finds the former one, or nothing, and never half."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def ready(process, workers):
    """Wait until so many workers are ready."""
    while workers:
        workers -= document(process)["event"] == "ready"


def alone(workspace, *names):
    """Nothing else is in the workspace."""
    for file in workspace.glob("*.py"):
        if file.stem not in names:
            file.unlink()


@pytest.mark.slow
def test_wait_tells_of_each_worker(hotpath, workspace, start):
    """`--wait` ends when all workers run it, or one has said that it cannot; so does a roll back."""
    alone(workspace)
    (workspace / "job.py").write_text(SOURCE.format(1))
    assert hotpath("deploy").code == 0
    worker = start("dedicate", "job", "--json", "--processes", "2")
    ready(worker, 2)
    (workspace / "job.py").write_text(SOURCE.format(2))
    done = hotpath("deploy", "--wait", "--json")
    assert done.code == 0, done.err
    first, *taken = done.documents
    assert (first["script"], first["change"]) == ("job", "changed")
    assert [(each["ok"], each["version"]) for each in taken] == [(True, first["hash"])] * 2
    assert hotpath("run", "job", '{"x": 1}', "--timeout", "40").out.split() == ["[2,1]"]
    (workspace / "job.py").write_text(BROKEN + SOURCE.format(3))
    done = hotpath("deploy", "--wait")
    assert done.code == 1
    assert (
        "keeps version " + first["hash"][:12] + ": job cannot be imported: RuntimeError: not here" in done.err
    )
    assert "cannot be run: job cannot be imported" in hotpath("status").out
    listed = hotpath("scripts", "job", "--json").documents
    assert [(each["current"], len(each["workers"]), len(each["refused_by"])) for each in listed] == [
        (True, 0, 2), (False, 2, 0), (False, 0, 0),
    ]  # fmt: skip
    assert all("@" in each["made_by"] and "@" in each["chosen_by"] for each in listed)
    done = hotpath("deploy", "--rollback", "job", "--wait")
    assert (done.code, done.out.splitlines()[0].split()[:2]) == (0, ["rolled", "back"]), done.err
    assert "cannot be run" not in hotpath("status").out
    shown = hotpath("scripts", "job").out
    assert "(rolled back)" in shown


def test_roll_back_refuses(hotpath, workspace):
    """Nothing before it, nothing like it, the current one, no such script, the wrong flags."""
    alone(workspace)
    (workspace / "job.py").write_text(SOURCE.format(1))
    hotpath("deploy")
    assert "there is nothing to go back to" in hotpath("deploy", "--rollback", "job").error
    (one,) = hotpath("scripts", "job", "--json").documents
    done = hotpath("deploy", "--rollback", "job", "--to", "ffff0000")
    assert (done.code, done.error) == (
        1,
        f"no version of job begins with ffff0000; there are {one['hash'][:12]}",
    )
    assert (
        "is the current one already" in hotpath("deploy", "--rollback", "job", "--to", one["hash"][:7]).error
    )
    assert "did you mean 'job'" in hotpath("deploy", "--rollback", "jab").error
    assert hotpath("deploy", "--to", "abcd").code == 2
    assert hotpath("deploy", "--timeout", "5").code == 2
    assert hotpath("deploy", "--rollback", "job", workspace).code == 2
    assert hotpath("deploy", "--rollback", "job", "--watch").code == 2
    assert hotpath("deploy", "--watch", "--wait").code == 2
    assert hotpath("deploy", "--describe", "--wait").code == 2
    assert hotpath("deploy", "--rollback", "job", "--describe").code == 2


def test_describe_prints_what_the_api_takes(hotpath, workspace):
    """A line for each script with its source, without a database; what cannot be described is told."""
    alone(workspace, "add", "broken")
    (workspace / "add.script.yaml").write_text("tag: sums\nretention: {jobs: 3d}\n")
    flow = workspace / "trip.flow"
    flow.mkdir()
    (flow / "flow.yaml").write_text("value: {modules: [{id: a, value: {type: identity}}]}\n")
    done = hotpath("deploy", "--describe", HOTPATH_DATABASE_URL="postgres://nobody@127.0.0.1:1/none")
    assert done.code == 1
    (found,) = done.documents
    assert found["source"] == (workspace / "add.py").read_text()
    assert found["settings_file"] == (workspace / "add.script.yaml").read_text()
    assert (found["script"], found["is_async"], found["kind"]) == ("add", False, "script")
    assert found["schema"]["required"] == ["x"]
    assert (found["settings"]["tag"], found["settings"]["retention"]["jobs"]) == ("sums", 3 * 86400)
    assert "no_such_module" in done.err
    assert "hotpath: trip is a flow's file: deploy it by `hotpath deploy`" in done.err


def test_roll_back_again_goes_further(hotpath, workspace):
    """Twice is two versions back; a deploy after it begins anew."""
    alone(workspace)
    hashes = []
    for number in range(3):
        (workspace / "job.py").write_text(SOURCE.format(number))
        hashes.append(hotpath("deploy", "--json").documents[0]["hash"])
    for wanted in (hashes[1], hashes[0]):
        done = hotpath("deploy", "--rollback", "job", "--json")
        assert done.documents[0]["hash"] == wanted
    assert "nothing to go back to" in hotpath("deploy", "--rollback", "job").error
    assert hotpath("deploy", "--json").documents[0]["change"] == "changed"
    assert hotpath("deploy", "--rollback", "job", "--json").documents[0]["hash"] == hashes[0]
    assert (
        hotpath("deploy", "--rollback", "job", "--to", hashes[1][:6], "--json").documents[0]["hash"]
        == hashes[1]
    )


def test_a_roll_back_to_a_named_version_is_marked(hotpath, workspace):
    """As any other; the next one goes back to what was current before it; a deploy takes the mark away."""
    alone(workspace)
    hashes = []
    for number in range(3):
        (workspace / "job.py").write_text(SOURCE.format(number))
        hashes.append(hotpath("deploy", "--json").documents[0]["hash"])

    def marked():
        """Of each version, the first one first: whether it is current, and became so by a roll back."""
        listed = hotpath("scripts", "job", "--json").documents
        return [(each["current"], each["rolled_back"]) for each in reversed(listed)]

    assert hotpath("deploy", "--rollback", "job", "--to", hashes[0][:6]).code == 0
    assert marked() == [(True, True), (False, False), (False, False)]
    assert hotpath("deploy", "--rollback", "job", "--json").documents[0]["hash"] == hashes[2]
    assert marked() == [(False, True), (False, False), (True, True)]
    assert hotpath("deploy", "--rollback", "job", "--json").documents[0]["hash"] == hashes[1]
    (workspace / "job.py").write_text(SOURCE.format(0))
    assert hotpath("deploy").code == 0
    assert marked()[0] == (True, False)


def test_what_was_deployed_stays(hotpath, workspace):
    """`run` and `push` of a workspace with something else say so and leave it; `run --local` runs it."""
    alone(workspace)
    (workspace / "job.py").write_text(SOURCE.format(1))
    deployed = hotpath("deploy", "--json").documents[0]["hash"]
    (workspace / "job.py").write_text(SOURCE.format(2))
    done = hotpath("run", "job", '{"x": 5}', "--local")
    assert (done.code, json.loads(done.out)) == (0, [2, 5]), done.err
    done = hotpath("push", "job", stdin='{"x": 1}\n')
    assert done.code == 0
    assert f"version {deployed[:12]} is deployed and runs" in done.err
    versions = hotpath("scripts", "job", "--json").documents
    assert [each["current"] for each in versions] == [False, True]
    own = versions[0]["hash"]
    assert hotpath("push", f"job@{own[:8]}", "--json", stdin='{"x": 1}\n').documents == [{"enqueued": 1}]
    assert {each["script"] for each in hotpath("jobs", "--json").documents} == {"job", f"job@{own[:12]}"}
    assert hotpath("scripts", "pin", "job", deployed[:5]).out.strip() == f"job@{deployed[:12]}"
    (shown,) = hotpath("scripts", f"job@{deployed[:12]}", "--json").documents
    assert (shown["hash"], shown["current"], shown["pinned"]) == (deployed, True, True)
    refused = hotpath("deploy", "--rollback", f"job@{own[:4]}")
    assert (refused.code, refused.error) == (1, f"job@{own[:4]} is a pin, which always means one version")
    assert hotpath("scripts", "pin", "job", "zz").code == 1
    assert hotpath("dedicate", f"job@{own[:5]}", "--watch").code == 2


@pytest.mark.slow
def test_deploy_watches(hotpath, workspace, start):
    """What is saved below the directory is deployed, new scripts too; a broken one is told of once."""
    alone(workspace)
    (workspace / "job.py").write_text(SOURCE.format(1))
    watching = start("deploy", "--watch", "--json")
    assert document(watching)["change"] == "new"
    save(workspace / "job.py", "def main(")
    broken = document(watching)
    assert (broken["script"], broken["change"]) == ("job", "failed")
    save(workspace / "job.py", SOURCE.format(2))
    assert document(watching)["change"] == "changed"
    save(workspace / "other.py", SOURCE.format(1))
    new = document(watching)
    assert (new["script"], new["change"]) == ("other", "new")
    assert len(hotpath("scripts", "job", "--json").documents) == 2


def test_a_version_that_is_too_large_is_refused(hotpath, workspace):
    """It would have to be stored."""
    alone(workspace)
    (workspace / "job.py").write_text(SOURCE.format(1) + "#" * (8 << 20))
    done = hotpath("deploy", "--json")
    assert done.code == 1
    assert "a script or flow may have 8 MiB" in done.documents[0]["error"]
