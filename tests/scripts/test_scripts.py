"""Names, places, settings and descriptions of scripts."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio

from hotpath.core.names import check_name, fault_of
from hotpath.core.retention import FOREVER
from hotpath.errors import ScriptError, ScriptImportError, UnknownScriptError
from hotpath.model import Retention, Retry, Settings
from hotpath.scripts import describe as describing
from hotpath.scripts.describe import describe, gently
from hotpath.scripts.locate import find_scripts, locate
from hotpath.scripts.settings import make_settings


def write(workspace, name, text):
    """A script of that name in the workspace."""
    file = workspace / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def is_running(pid):
    """Whether the process runs; one that nobody has waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("name", ["flow_x", "f/team/score", "a-b.c", "9", "_x", "a" * 255])
def test_good_names(name):
    """A name is segments of letters, digits, `_`, `.` and `-`."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("", "empty"),
        ("/x", "slash"),
        ("x/", "slash"),
        ("a//b", "slashes"),
        ("../x", "`..`"),
        ("a/./b", "`.`"),
        ("a..b", "two dots"),
        ("a b", "' '"),
        ("-x", "begins with '-'"),
        (".x", "begins with '.'"),
        ("é", "'é'"),
        ("a\n", r"'\n'"),
        ("a\0", r"'\x00'"),
        ("a" * 256, "256"),
    ],
)
def test_bad_names(name, word):
    """What cannot be a name is refused with the fault named, in one line."""
    with pytest.raises(ScriptError) as refused:
        check_name(name)
    assert word in str(refused.value)
    assert "\n" not in str(refused.value)


def test_name_that_is_no_text():
    """Anything but text is no name."""
    assert "int" in fault_of(3)


def test_locate(tmp_path, monkeypatch):
    """A script is found by name, by a path in the workspace, and by a path outside, where its directory is
    the workspace.
    """
    file = write(tmp_path / "ws", "f/team/score", "")
    other = write(tmp_path / "else", "job", "")
    workspace = tmp_path / "ws"
    assert locate("f/team/score", workspace).file == file
    assert locate("f/team/score.py", workspace).name == "f/team/score"
    assert locate(str(file), workspace).name == "f/team/score"
    outside = locate(str(other), workspace)
    assert (outside.name, outside.workspace) == ("job", tmp_path / "else")
    monkeypatch.chdir(workspace / "f")
    assert locate("team/score.py", workspace).name == "f/team/score"
    assert [script.name for script in find_scripts(workspace)] == ["f/team/score"]


def test_locate_links(tmp_path):
    """A link in the workspace is a script by the link's name; a way round to the workspace gives the name
    from there.
    """
    real = write(tmp_path / "else", "real", "")
    workspace = tmp_path / "ws"
    (workspace / "f").mkdir(parents=True)
    (workspace / "f" / "link.py").symlink_to(real)
    found = locate(str(workspace / "f" / "link.py"), workspace)
    assert (found.name, found.workspace) == ("f/link", workspace)
    write(workspace, "f/own", "")
    (tmp_path / "round").symlink_to(workspace)
    assert locate(str(tmp_path / "round" / "f" / "own.py"), workspace).name == "f/own"


def test_unknown_script(tmp_path):
    """An unknown script's error says where it was sought and what is similar."""
    write(tmp_path, "f/team/score", "")
    for asked in ("f/team/scor", "score"):
        with pytest.raises(UnknownScriptError, match="did you mean f/team/score") as refused:
            locate(asked, tmp_path)
        assert str(tmp_path) in str(refused.value)
    with pytest.raises(UnknownScriptError, match=r"f/team is a directory.*such as f/team/score"):
        locate("f/team", tmp_path)
    with pytest.raises(UnknownScriptError, match="no file"):
        locate("nothing.py", tmp_path)
    with pytest.raises(UnknownScriptError, match="not a directory"):
        locate("x", tmp_path / "missing")


async def test_describe(tmp_path, monkeypatch):
    """A description holds schema, settings and summary; prints, database addresses and the caller's process
    are not in it.
    """
    monkeypatch.setenv("HOTPATH_DATABASE_URL", "postgresql://u:secret@h/d")
    text = """
        import os, sys, hotpath
        print("noise"); print("noise", file=sys.stderr); os.write(1, b"noise")
        assert "HOTPATH_DATABASE_URL" not in os.environ
        hotpath.settings(tag="slow", timeout=3, retry=hotpath.Retry(attempts=3), priority=-5)
        async def main(x: int, y: "list[str]" = ["a"]):
            '''Adds up.

            And more.'''
        """
    write(tmp_path, "f/add", "\n".join(line[8:] for line in text.splitlines()))
    found = await describe(locate("f/add", tmp_path))
    assert found.path == "f/add"
    assert found.is_async
    assert found.summary == "Adds up."
    assert found.settings == Settings(tag="slow", timeout=3.0, priority=-5, retry=Retry(attempts=3))
    assert found.schema["required"] == ["x"]
    assert found.schema["properties"]["y"] == {"type": "array", "items": {"type": "string"}, "default": ["a"]}
    assert found.schema["additionalProperties"] is False


async def test_settings_file(tmp_path):
    """The file beside a script wins over its code, is part of its hash, and may be Windmill's."""
    write(tmp_path, "job", "import hotpath\nhotpath.settings(tag='code', priority=1)\ndef main(): ...\n")
    bare = await describe(locate("job", tmp_path))
    (tmp_path / "job.script.yaml").write_text("summary: s\nlock: ''\ntag: file\nretry:\n  attempts: 2\n")
    both = await describe(locate("job", tmp_path))
    assert both.settings == Settings(tag="file", priority=1, retry=Retry(attempts=2))
    assert both.hash != bare.hash
    (tmp_path / "job.script.yaml").write_text("retention: {jobs: 7d, logs: 90s, args: forever}\n")
    kept = await describe(locate("job", tmp_path))
    assert kept.settings.retention == Retention(jobs=7 * 86400.0, logs=90.0, args=FOREVER)
    for text, word in [
        ("tga: x", "`tga`"),
        ("retention: {job: 7d}", "retention.job"),
        ("retry:\n  atempts: 1", "retry.atempts"),
        ("- a", "list"),
        ("a: [", "line"),
    ]:
        (tmp_path / "job.script.yaml").write_text(text)
        with pytest.raises(ScriptError, match=r"job\.script\.yaml") as refused:
            await describe(locate("job", tmp_path))
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"priority": 40000}, "`priority`"),
        ({"priority": True}, "`priority`"),
        ({"timeout": 0}, "`timeout`"),
        ({"timeout": float("inf")}, "`timeout`"),
        ({"timeout": "5"}, "`timeout`"),
        ({"tag": ""}, "`tag`"),
        ({"tag": "a\0"}, "`tag`"),
        ({"concurrency": 0}, "`concurrency`"),
        ({"retry": Retry(attempts=0)}, "`retry.attempts`"),
        ({"retry": Retry(backoff="wild")}, "`retry.backoff`"),
        ({"retry": Retry(jitter=2)}, "`retry.jitter`"),
        ({"timeout": -1}, "`timeout`"),
        ({"timeout": 1e12}, "`timeout`"),
        ({"retry": Retry(attempts=-1)}, "`retry.attempts`"),
        ({"retry": Retry(delay=-1)}, "`retry.delay`"),
        ({"retry": Retry(delay=float("nan"))}, "`retry.delay`"),
        ({"retry": Retry(delay=1e300, max_delay=1e301)}, "`retry.delay`"),
        ({"retry": Retry(factor=0.5)}, "`retry.factor`"),
        ({"retry": Retry(delay=60, max_delay=30)}, "`retry.max_delay`"),
        ({"retry": Retry(jitter=-0.1)}, "`retry.jitter`"),
        ({"retry": Retry(on=int)}, "`retry.on`"),
        ({"retry": Retry(on=(KeyError, 5))}, "`retry.on`"),
        ({"retry": {"on": ["no such thing"]}}, "`retry.on`"),
        ({"retry": {"on": ""}}, "`retry.on`"),
        ({"retry": {"delay": None}}, "`retry.delay`"),
        ({"retention": "soon"}, "`retention.jobs`"),
        ({"retention": Retention(logs="-1d")}, "`retention.logs`"),
        ({"retention": {"days": 3}}, "retention.days"),
        ({"retention": True}, "`retention.jobs`"),
        ({"retry": "often"}, "`retry`"),
        ({"speed": 1}, "`speed`"),
    ],
)
def test_bad_settings(given, word):
    """A setting that makes no sense is refused by name."""
    with pytest.raises(ScriptError) as refused:
        make_settings(given, "here")
    assert word in str(refused.value)


def test_exceptions_to_retry():
    """`retry.on` takes classes from code and names from a file; what is stored are names."""
    for given in (Retry(on=(KeyError, "a.B")), {"on": ["builtins.KeyError", "a.B"]}):
        settings = make_settings({"retry": given}, "here")
        assert settings.retry.on == ("builtins.KeyError", "a.B")
    assert make_settings({"retry": {"on": None}}, "here").retry.on == ()


IMPORT_ERRORS = {
    "import os\n\nimport nothere\n": (
        "job cannot be imported: ModuleNotFoundError: No module named 'nothere' (job.py, line 3)"
    ),
    "def main(:\n": "job cannot be imported: SyntaxError: invalid syntax (job.py, line 1)",
    "import sys\nsys.exit(0)\n": "job cannot be imported: SystemExit: 0 (job.py, line 2)",
    "raise KeyboardInterrupt\n": "job cannot be imported: KeyboardInterrupt (job.py, line 1)",
    "raise ValueError('a\\nb \\0')\n": "job cannot be imported: ValueError: a (job.py, line 1)",
    "import hotpath\nhotpath.settings(priority='x')\n": (
        "job: hotpath.settings(): `priority` must be a whole number from -32768 to 32767, not 'x' "
        "(job.py, line 2)"
    ),
}


@pytest.mark.parametrize("text", IMPORT_ERRORS)
async def test_import_errors(tmp_path, text):
    """A module that raises is shown as its author wrote it: one line with file and line, and a traceback of
    their frames only.
    """
    write(tmp_path, "job", text)
    with pytest.raises(ScriptImportError) as refused:
        await describe(locate("job", tmp_path))
    assert str(refused.value) == IMPORT_ERRORS[text]
    shown = refused.value.traceback
    assert "job.py" in shown
    assert "importlib" not in shown
    assert f"{os.sep}hotpath{os.sep}scripts" not in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "no function `main`"),
        ("main = 3\n", "of type int"),
        ("def main(*rest): ...\n", "`*rest`"),
        ("def main(a, /): ...\n", "`a`"),
        ("class Own: ...\ndef main(thing: list[Own]): ...\n", "`thing`"),
        ("from __future__ import annotations\ndef main(thing: Missing): ...\n", "`thing`"),
        ("def main(a: int | dict[str, int] | list[int] | set[str]): ...\n", "`a`"),
        ("import os\nos._exit(4)\n", "exit status 4"),
        ("import os\nos.kill(os.getpid(), 9)\n", "SIGKILL"),
    ],
)
async def test_scripts_that_cannot_run(tmp_path, text, words):
    """What is no runnable script is refused with the reason, and the parameter named."""
    write(tmp_path, "job", text)
    with pytest.raises(ScriptError) as refused:
        await describe(locate("job", tmp_path))
    assert words in str(refused.value)
    assert str(refused.value).startswith(("job", "`main` of job"))


async def test_huge_import_error(tmp_path):
    """What a user is told of an exception is bounded, and text that a database can hold."""
    write(tmp_path, "job", "raise ValueError('a\\0\\ud800' + 'x' * 1_000_000)\n")
    with pytest.raises(ScriptImportError) as refused:
        await describe(locate("job", tmp_path))
    assert "ValueError: a\\x00\\ud800xxx" in str(refused.value)
    assert len(str(refused.value)) < 10_000
    assert len(refused.value.traceback) < 70_000


async def test_import_leaves_a_thread(tmp_path):
    """Threads that a module has started do not hold its description up."""
    write(
        tmp_path,
        "job",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\ndef main(): ...\n",
    )
    with trio.fail_after(30):
        assert (await describe(locate("job", tmp_path))).path == "job"


STUBBORN = """
import os, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = subprocess.Popen(["sleep", "600"])
with open({pids!r} + ".new", "w") as file:
    file.write(f"{{os.getpid()}} {{other.pid}}")
os.rename({pids!r} + ".new", {pids!r})
time.sleep(600)
"""


async def wait_gone(pids):
    """Until none of the processes whose ids are in this file runs."""
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in pids.read_text().split()):
        assert time.monotonic() < deadline
        await trio.sleep(0.01)


async def test_hanging_import(tmp_path, monkeypatch):
    """A module that hangs is given up, and its process is killed with what it started."""
    pids = tmp_path / "pids"
    write(tmp_path, "job", STUBBORN.format(pids=str(pids)))
    for seconds in (1, 5, 20):
        monkeypatch.setattr(describing, "IMPORT_SECONDS", seconds)
        with pytest.raises(ScriptError, match=f"still ran after {seconds} s"):
            await describe(locate("job", tmp_path))
        if pids.exists():  # else it was given up before it had begun
            break
    await wait_gone(pids)


async def test_cancelled_description(tmp_path):
    """Cancelling a description kills its process with what it started."""
    pids = tmp_path / "pids"
    write(tmp_path, "job", STUBBORN.format(pids=str(pids)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(describe, locate("job", tmp_path))
        deadline = time.monotonic() + 20
        while not pids.exists():
            assert time.monotonic() < deadline
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    await wait_gone(pids)


@pytest.mark.skipif(not os.path.exists("/proc/self/autogroup"), reason="no groups of sessions here")
async def test_described_gently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where that is asked for, at low priority, and as any other when that has lasted long."""
    source = (
        "import time\nends = time.monotonic() + 20\n"
        "while ' nice {}\\n' not in open('/proc/self/autogroup').read():\n"
        "    assert time.monotonic() < ends, 'it stayed'\n"
        "    time.sleep(0.001)\n"
        "def main() -> int:\n    return 1\n"
    )
    (tmp_path / "low.py").write_text(source.format(10))
    (tmp_path / "usual.py").write_text(source.format(0))
    await describe(locate("usual", tmp_path))
    gently.set(True)
    monkeypatch.setattr(describing, "LOW_FOR", 30.0)
    await describe(locate("low", tmp_path))
    monkeypatch.setattr(describing, "LOW_FOR", 0.0)
    await describe(locate("usual", tmp_path))
