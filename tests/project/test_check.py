"""`.ci/check.py`, which `dev.py check` runs: every check, what failed, a second try for a few tests."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[2] / ".ci" / "check.py"


@pytest.fixture
def ci():
    """`.ci/check.py` as a module of its own."""
    spec = importlib.util.spec_from_file_location("ci_check", CHECK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_check_runs_everything_and_names_what_failed(ci, monkeypatch, capfd):
    """One failing check does not hide the next, and the exit code is 1."""
    monkeypatch.setattr(ci, "CHECKS", [["false"], ["true"], ["sh", "-c", "echo still here; exit 3"]])
    assert ci.check(["echo", "tests", "-x"], whole=True) == 1
    out = capfd.readouterr().out
    assert "still here" in out
    assert "tests -x" in out
    assert out.splitlines()[-1] == "check: failed: false (exit 1); sh -c echo still here; exit 3 (exit 3)"


@pytest.fixture
def suite(ci, tmp_path, monkeypatch):
    """A suite in the place of ours, in which the tests whose names follow `ways` fail first, or always."""
    monkeypatch.setattr(ci, "CHECKS", [])
    monkeypatch.chdir(tmp_path)

    def make(**ways):
        lines = ["from pathlib import Path"]
        for name, way in ways.items():
            lines += [
                f"def test_{name}():", f"    seen = Path('{name}')", "    first = not seen.exists()",
                "    seen.touch()", f"    assert {way}",
            ]  # fmt: skip
        (tmp_path / "test_it.py").write_text("\n".join(lines) + "\n")
        (tmp_path / "pytest.ini").write_text("[pytest]\n")

    return make


def test_what_passes_alone_is_named_and_passes(ci, suite, capfd):
    """A test that fails beside others and passes alone: the check passes, and says which."""
    suite(steady="True", unsteady="not first")
    assert ci.check(["pytest"], whole=True) == 0
    out = capfd.readouterr().out
    assert out.splitlines()[-2:] == [
        "check: all passed", "check: failed beside others, passed alone: test_it.py::test_unsteady",
    ]  # fmt: skip
    assert "assert not True" in out  # its first failure stays to be read
    assert "\n== pytest test_it.py::test_unsteady\n" in out


def test_what_is_broken_fails_the_check_again(ci, suite, capfd):
    """A test that fails each time fails the check, also beside one that passes at its second try."""
    suite(broken="False", unsteady="not first")
    assert ci.check(["pytest"], whole=True) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "check: failed: pytest (exit 1)"


def test_many_failures_are_not_tried_again(ci, suite, capfd):
    """More than a handful is no weather: no second try, though all would pass."""
    suite(**{f"unsteady_{n}": "not first" for n in range(ci.AGAIN_AT_MOST + 1)})
    assert ci.check(["pytest"], whole=True) == 1
    out = capfd.readouterr().out
    assert out.count("== pytest") == 1
    assert out.splitlines()[-1] == "check: failed: pytest (exit 1)"


def test_chosen_tests_have_no_second_try(ci, suite, capfd):
    """Who names tests, or gives any option, wants to see them as they are."""
    suite(unsteady="not first")
    assert ci.check(["pytest", "test_it.py"], whole=False) == 1
    assert capfd.readouterr().out.count("== pytest") == 1


def test_only_failed_tests_are_tried_again(ci, suite, capfd, tmp_path):
    """A run that ended in any other way, say in an error of collecting, has no second try."""
    suite(unsteady="not first")
    (tmp_path / "test_other.py").write_text("import nothing_of_this_name\n")
    assert ci.check(["pytest"], whole=True) == 1
    out = capfd.readouterr().out
    assert out.count("== pytest") == 1
    assert out.splitlines()[-1] == "check: failed: pytest (exit 2)"


RUNS_TO_END = """
import importlib.util, os, signal, subprocess, sys
spec = importlib.util.spec_from_file_location("check", sys.argv[1])
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)

class Signalled(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)  # after the command's start, before anybody has its handle

if sys.argv[2] == "at once":
    check.subprocess.Popen = Signalled
elif sys.argv[2] == "ignored":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
command = "echo $$ > pid; mv pid ready; exec sleep 60"
if sys.argv[2] == "ignored":
    command = "kill -HUP $$; kill -HUP $PPID; echo $$ > ready; exit 5"
sys.exit(check.run_to_end(["sh", "-c", command]))
"""


def is_gone(pid):
    """Whether no process has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_signal_reaches_the_command_under_check(tmp_path):
    """SIGTERM to `dev.py check` ends the command that is running, and nothing stays behind."""
    command = [sys.executable, "-c", RUNS_TO_END, str(CHECK), "later"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        deadline = time.monotonic() + 40
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 128 + signal.SIGTERM
    assert is_gone(int((tmp_path / "ready").read_text()))


def test_a_signal_at_the_start_of_a_check_leaves_nothing_behind(tmp_path):
    """SIGTERM that comes while the command is being started reaches it too."""
    command = [sys.executable, "-c", RUNS_TO_END, str(CHECK), "at once"]
    done = subprocess.run(command, cwd=tmp_path, timeout=40, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    started = tmp_path / "ready"
    assert not started.exists() or is_gone(int(started.read_text()))


def test_nohup_holds_for_the_command_under_check(tmp_path):
    """A signal that is ignored when `dev.py check` starts stays ignored, by it and by what it runs."""
    command = [sys.executable, "-c", RUNS_TO_END, str(CHECK), "ignored"]
    assert subprocess.run(command, cwd=tmp_path, timeout=40, check=False).returncode == 5
    assert (tmp_path / "ready").exists()
