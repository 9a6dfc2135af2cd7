"""`hotpath chaos` itself: short runs with real commands, a private PostgreSQL, and about ten faults."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def short_tmp():
    """A temporary directory with a short name: sockets live in it."""
    directory = Path(tempfile.mkdtemp(prefix="hpc-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def command(*flags):
    """The command line."""
    return [sys.executable, "-m", "hotpath", "chaos", "--json", *flags]


def environment(tmp, **more):
    """Nobody's own settings."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("HOTPATH_")}
    return {**mine, "TMPDIR": str(tmp), **more}


def processes_of(tmp):
    """Processes whose command line or working directory lies in this run's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes() + os.fsencode(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if os.fsencode(tmp) in line and b"embedded_reaper" not in line:
                found.append(entry.name)
    return found


def test_nothing_is_lost_in_a_short_run(short_tmp):
    """I1 to I7, I11, I12: two commands, ten faults of all sorts, some thousand jobs: each has one right
    outcome, and nothing is left behind.
    """
    flags = ("--minutes", "0.12", "--seed", "7", "--workers", "2", "--processes", "1")
    done = subprocess.run(
        command(*flags, "--jobs", "2500", "--every", "0.7", "--lease", "3"),
        env=environment(short_tmp),
        cwd=short_tmp,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["jobs"] > 1000
    assert report["runs"] >= report["jobs"] - report["states"].get("canceled", 0)
    assert report["faults"] >= 7
    assert report["lost"] == report["double"] == report["ghosts"] == 0
    assert report["seed"] == 7
    assert list(short_tmp.iterdir()) == []
    assert processes_of(short_tmp) == []


def test_a_script_of_ones_own(short_tmp, database_url):
    """A user's script runs on the user's database: no restart, and the script's own results are checked."""
    (short_tmp / "f").mkdir()
    (short_tmp / "f" / "text.py").write_text("def shout(text):\n    return text.upper()\n")
    (short_tmp / "f" / "shout.py").write_text(
        "from f.text import shout\n\n"
        "def main(word: str, times: int = 1) -> str:\n    return shout(word) * times\n"
    )
    (short_tmp / "args.jsonl").write_text('{"word": "a"}\n{"word": "b", "times": 3}\n')
    flags = ("--args", "args.jsonl", "--minutes", "0.05", "--seed", "1", "--workers", "1", "--processes", "1")
    done = subprocess.run(
        command("f/shout", *flags, "--jobs", "300", "--every", "1", "--faults", "kill-worker,restart,cut"),
        env=environment(short_tmp, HOTPATH_DATABASE_URL=database_url),
        cwd=short_tmp,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["states"]["success"] + report["states"].get("canceled", 0) == report["jobs"] > 100
    assert "it is not restarted" in done.stderr


def test_ctrl_c_ends_it_cleanly(short_tmp):
    """Ctrl-C in the middle: exit code 130, no process left, the directory removed."""
    process = subprocess.Popen(
        command("--minutes", "5", "--seed", "2", "--workers", "1", "--processes", "1", "--faults", "cut"),
        env=environment(short_tmp),
        cwd=short_tmp,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 80
        while not list(short_tmp.glob("*/ledger/*.ledger")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=80)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert list(short_tmp.iterdir()) == []
    assert processes_of(short_tmp) == []
