"""`hotpath push`: a file of lines, all or nothing."""

import subprocess
import sys

import pytest

GOOD = b'{"x": %d}\n'


def queued(hotpath):
    """How many jobs there are."""
    return sum(tag["waiting"] for tag in hotpath("status", "--json").documents[0]["tags"])


@pytest.mark.slow
def test_push_file_and_stdin(hotpath, tmp_path):
    """A file's lines become jobs in order, blank lines and line ends aside; so do stdin's."""
    file = tmp_path / "args.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"x": 1}\r\n\n   \n{"y": 5, "x": 2}\r\n{"x": 3}')
    done = hotpath("push", "add", file, "--json", "--ids", tmp_path / "ids", "--tag", "t", "--priority", "4")
    assert (done.code, done.documents, done.err) == (0, [{"enqueued": 3}], "")
    ids = (tmp_path / "ids").read_text().split()
    jobs = [hotpath("job", job_id, "--json").documents[0] for job_id in ids]
    assert [job["args"] for job in jobs] == [{"x": 1}, {"y": 5, "x": 2}, {"x": 3}]
    assert {(job["tag"], job["priority"], job["state"], job["script"]) for job in jobs} == {
        ("t", 4, "queued", "add")
    }
    assert hotpath("push", "add", "-", "--json", stdin=GOOD % 1 * 700).documents == [{"enqueued": 700}]
    assert hotpath("push", "add", stdin="").out == "enqueued 0 jobs of add\n"
    ids = hotpath("push", "add", "--ids", "-", stdin=GOOD % 1 * 3).out.split()
    assert len(ids) == 3
    assert queued(hotpath) == 706


BAD_LINES = {
    "missing": (b'{"y": 1}', "field `x` is missing"),
    "extra": (b'{"x": 1, "z": 1}', "field `z` is unknown"),
    "type": (b'{"x": "1"}', "field `x`: expected int, got str"),
    "malformed": (b'{"x": 1', "not JSON"),
    "two": (b'{"x": 1} {"x": 2}', "not JSON"),
    "array": (b"[1]", "object"),
    "nul": (b'{"x": 1, "y\\u0000": 1}', "field"),
    "utf8": (b'{"x": "\xff"}', ""),
    "surrogate": (b'{"x": "\\ud800"}', ""),
}


@pytest.mark.slow
def test_bad_line_734(hotpath, tmp_path, subtests):
    """A bad line is named by file, number and field, and nothing is enqueued."""
    for name, (line, said) in BAD_LINES.items():
        with subtests.test(name):
            file = tmp_path / "args.jsonl"
            file.write_bytes(b"".join(GOOD % i for i in range(733)) + line + b"\n" + GOOD % 1)
            done = hotpath("push", "add", file, "--json", "--ids", tmp_path / "ids")
            assert (done.code, done.out) == (1, "")
            assert f"{file} line 734: " in done.error
            assert said in done.error
            assert not (tmp_path / "ids").exists()
            assert [path for path in tmp_path.iterdir() if path.suffix == ".part"] == []
            assert queued(hotpath) == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("unique=hotpath.Unique('$args[k]')", "args.k is missing, and the unique key is made of it"),
        ("unique=hotpath.Unique('one', on_conflict='reject')", "has the unique key 'one' already"),
        ("tag='t-$args[k]'", "args.k is missing, and the tag t-$args[k] is made of it"),
    ],
)
def test_a_line_that_makes_no_job_is_named_too(hotpath, workspace, setting, said):
    """What is found out of a line's job as it is put in names the line in the file, blank ones counted."""
    (workspace / "keyed.py").write_text(
        f"import hotpath\nhotpath.settings({setting})\ndef main(k: str = ''): ...\n"
    )
    done = hotpath("push", "keyed", stdin=b'\n{"k": "a"}\n\n \n{}\n{"k": "b"}\n')
    assert (done.code, done.out) == (1, "")
    assert done.error.startswith("stdin line 5: ")
    assert done.error.endswith(f"{said}; nothing was enqueued")
    assert queued(hotpath) == 0


def test_unknown_and_broken_scripts(hotpath):
    """A script that is not there, or that raises on import, is refused in one line, with its traceback as it
    was written.
    """
    done = hotpath("push", "ad", stdin=GOOD % 1)
    assert (done.code, done.out) == (1, "")
    assert "add" in done.error
    done = hotpath("push", "broken", stdin="{}")
    assert done.code == 1
    lines = done.err.splitlines()
    assert lines[-1].startswith("hotpath: broken cannot be imported: ModuleNotFoundError")
    assert lines[0].startswith("Traceback")
    assert "hotpath/" not in "".join(lines[:-1])
    done = hotpath("push", "helper", stdin="{}")
    assert (done.code, "main" in done.error) == (1, True)


def test_ids_that_cannot_be_written(hotpath, tmp_path):
    """A place for ids that cannot be written is refused before anything is enqueued."""
    done = hotpath("push", "add", "--ids", tmp_path / "no" / "ids", stdin=GOOD % 1)
    assert (done.code, "--ids" in done.error) == (2, True)
    assert queued(hotpath) == 0


def test_interrupted_push_leaves_nothing(hotpath, environment):
    """A push that is interrupted while it reads leaves nothing."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hotpath", "push", "add"],
        env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdin.write(GOOD % 1 * 300_000)
    process.stdin.flush()
    process.send_signal(2)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"hotpath: interrupted\n")
    assert queued(hotpath) == 0
