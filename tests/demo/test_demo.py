"""The demo, end to end, on a few files: a real worker process on a real database, beside a for-loop."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotpath.demo import compare
from hotpath.demo.compare import Comparison, Pass, find_files, totals

GOOD = "import os\n\n\ndef hello():\n    return os\n\n\nclass It:\n    pass\n"
BAD = 'print "no"\n'


@pytest.fixture
def sources(tmp_path):
    """A directory with three good files and one that is not Python."""
    directory = tmp_path / "sources"
    (directory / "inner").mkdir(parents=True)
    for name in ("a.py", "b.py", "inner/c.py"):
        (directory / name).write_text(GOOD)
    (directory / "bad.py").write_text(BAD)
    (directory / "notes.txt").write_text("not a Python file")
    (directory / "site-packages").mkdir()
    (directory / "site-packages" / "other.py").write_text(GOOD)
    return directory


def run_demo(database_url, home, *arguments):
    """`hotpath demo` as a user runs it, with an empty HOME."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOTPATH_")}
    environment |= {"HOTPATH_DATABASE_URL": database_url, "HOTPATH_HOME": str(home), "HOME": ""}
    return subprocess.run(
        [sys.executable, "-m", "hotpath", "demo", *arguments],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.slow
def test_demo_gives_the_same_outcomes_as_the_for_loop(database_url, sources, tmp_path):
    """Every file's result and error is the for-loop's; the report names totals, times and a failed job."""
    done = run_demo(database_url, tmp_path, str(sources), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["files"] == 4
    assert found["same"] is True
    assert found["totals"] == found["for_loop_totals"]
    assert found["totals"] | {"longest_function": None} == {
        "files": 3,
        "failed": 1,
        "functions": 3,
        "classes": 3,
        "imports": 3,
        "lines": 27,
        "longest_function": None,
    }
    assert found["failed_error"]["name"] == "SyntaxError"
    assert "Missing parentheses" in found["failed_error"]["message"]
    assert found["flow"]["state"] == "success"
    assert found["flow"]["wrong"] == []
    assert found["flow"]["approved_step"] == "ask"


@pytest.mark.slow
def test_demo_says_in_words_what_it_did(database_url, sources, tmp_path):
    """It prints the command line, both times, a failed file (adding one where none is bad) and the flow's
    tree, and four commands to try next, which work.
    """
    (sources / "bad.py").unlink()
    done = run_demo(database_url, tmp_path, str(sources))
    assert done.returncode == 0, done.stderr
    assert "$ hotpath dedicate flow_x --drain" in done.stdout
    assert "for-loop, before" in done.stdout
    assert "for-loop, after" in done.stdout
    assert "broken_on_purpose.py" in done.stdout
    assert "SyntaxError" in done.stdout
    assert "Checked: every file has the same result or the same error" in done.stdout
    assert "each_file: 13 iterations, 2 failed" in done.stdout
    assert "Checked: the report and the database are what the same functions give" in done.stdout
    commands = done.stdout.partition("Try next:\n")[2].strip().splitlines()
    assert len(commands) == 4
    environment = {**os.environ, "HOTPATH_DATABASE_URL": database_url}
    for command in commands:
        tried = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert tried.returncode == 0, (command, tried.stderr)


def test_demo_refuses_a_directory_without_python(database_url, tmp_path):
    """A directory that holds no Python file is refused in one line, with exit code 2."""
    (tmp_path / "empty").mkdir()
    done = run_demo(database_url, tmp_path, str(tmp_path / "empty"))
    assert done.returncode == 2
    assert done.stderr.startswith("hotpath: no .py file below")
    assert len(done.stderr.strip().splitlines()) == 1


def test_find_files_sorts_and_leaves_installed_packages_out(sources):
    """The list is every .py file, sorted, without what was installed into site-packages."""
    names = [Path(path).relative_to(sources).as_posix() for path in find_files(sources)]
    assert names == ["a.py", "b.py", "bad.py", "inner/c.py"]


def test_a_different_outcome_is_named():
    """A file whose result differs from either pass of the for-loop is listed, and only that one."""
    right = ({"functions": 1, "classes": 0, "imports": 0, "lines": 1, "longest_function": {"lines": 1}}, None)
    wrong = ({**right[0], "functions": 2}, None)
    before, after = Pass(1.0, [right, right]), Pass(1.2, [right, right])
    differing = compare.differing_files(["a", "b"], before, Pass(1.1, [right, wrong]), after)
    assert differing == ["b"]


def test_totals_add_up_results_and_count_failures():
    """Sums are over successes; a failed file only counts as failed."""
    one = {
        "functions": 2,
        "classes": 1,
        "imports": 3,
        "lines": 10,
        "longest_function": {"name": "f", "lines": 4},
    }
    two = {**one, "longest_function": {"name": "g", "lines": 7}}
    summed = totals([(one, None), (two, None), (None, {"name": "SyntaxError", "message": "no"})])
    assert summed["files"] == 2
    assert summed["failed"] == 1
    assert summed["functions"] == 4
    assert summed["longest_function"] == {"name": "g", "lines": 7}


def test_ratio_is_against_the_mean_of_both_passes():
    """The for-loop's two passes count alike, and their difference is told."""
    found = Comparison(
        files=[],
        total_bytes=0,
        before=Pass(1.0, []),
        worker=Pass(2.0, []),
        after=Pass(3.0, []),
        command_seconds=0,
        push_seconds=0,
        inside_main=0,
        failed=None,
        differing=[],
    )
    assert found.ratio == pytest.approx(1.0)
    assert found.drift == pytest.approx(2.0)
