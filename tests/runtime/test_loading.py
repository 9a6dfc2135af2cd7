"""How a script gets warm: where it is imported, what it is told before, and what is wrong with it."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest
import trio

import hotpath
from hotpath.errors import ScriptError, ScriptImportError
from hotpath.model import Description, Settings
from hotpath.runtime.choose import choose
from hotpath.runtime.lane import Lane
from hotpath.runtime.sync import SyncRuntime
from hotpath.runtime.trio_runtime import AsyncRuntime
from hotpath.scripts.load import SECRETS, scrub_environment

OURS = str(Path(hotpath.__file__).parent)
"""Where our own modules are, which no author of a script wants to see."""
KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
"""A synchronous and an async `main`: what holds for one runtime holds for the other."""


@KINDS
async def test_imported_once(opened, make_batch, tmp_path, kind):
    """The module is imported once, by its own dotted name, with the workspace on the module path."""
    (tmp_path / "f" / "team").mkdir(parents=True)
    (tmp_path / "f" / "team" / "text.py").write_text("def clean(x): return x.strip()\n")
    text = f"""
        import sys
        from f.team.text import clean
        imported = 0
        imported += 1
        {kind} main(x: str): return [clean(x), imported, __name__, sys.modules[__name__].main is main]
        """
    async with opened(text, name="f/team/score") as runtime:
        for _ in range(2):
            batch = make_batch({"x": " a "}, {"x": "b "})
            await runtime.run(batch)
            assert batch.values == [["a", 1, "f.team.score", True], ["b", 1, "f.team.score", True]]


@pytest.mark.parametrize("name", ["my-script", "json", "xxsubtype", "1st", "class", "a.b", "f/x-y/z"])
async def test_names_that_cannot_be_imported(play, name):
    """A script whose name is no module name, or somebody else's, is loaded from its file."""
    batch = await play("import json\ndef main(x: int): return json.dumps(x)", {"x": 1}, name=name)
    assert batch.values == ["1"]


async def test_one_thread(opened, make_batch):
    """A synchronous script is imported, preloaded and run in one and the same thread."""
    text = """
        import threading
        threads = [threading.get_ident()]
        def preload(): threads.append(threading.get_ident())
        def main():
            threads.append(threading.get_ident())
            return len(set(threads)), len(threads)
        """
    async with opened(text) as runtime:
        for expected in ([1, 3], [1, 4]):
            batch = make_batch({})
            await runtime.run(batch)
            assert batch.values == [expected]


@pytest.mark.parametrize(
    ("preload", "main"),
    [("def", "def"), ("async def", "def"), ("def", "async def"), ("async def", "async def")],
)
async def test_preload(play, preload, main):
    """`preload()`, synchronous or async, runs once before the first job."""
    pause = "import trio; await trio.sleep(0)" if preload == "async def" else "pass"
    text = f"""
        loads = []
        {preload} preload():
            {pause}
            loads.append(1)
        {main} main(): return len(loads)
        """
    assert (await play(text, {}, {})).values == [1, 1]


@KINDS
@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("import nothere\n{main}", ScriptImportError, "No module named 'nothere' (bad.py, line 1)"),
        ("x = (\n{main}", ScriptImportError, "SyntaxError: '(' was never closed (bad.py, line 1)"),
        ("{main}\nraise SystemExit(1)", ScriptImportError, "SystemExit: 1 (bad.py, line 2)"),
        ("{main}\nraise KeyboardInterrupt", ScriptImportError, "KeyboardInterrupt (bad.py, line 2)"),
        ("def preload(): 1 / 0\n{main}", ScriptImportError, "preload() failed: ZeroDivisionError: division"),
        ("async def preload(): 1 / 0\n{main}", ScriptImportError, "preload() failed: ZeroDivisionError"),
        ("def preload(): raise SystemExit(2)\n{main}", ScriptImportError, "preload() failed: SystemExit: 2"),
        ("x = 3", ScriptError, "bad has no function `main`"),
        ("main = 3", ScriptError, "`main` of bad is not a function"),
        ("class C: ...\n{kind} main(x: C): ...", ScriptError, "parameter `x`"),
    ],
)  # fmt: skip
async def test_scripts_that_cannot_be_opened(make_script, kind, text, error, words):
    """A script that cannot run is refused in one line as it is opened, and streams are given back."""
    before = sys.stdout
    script = make_script(text.format(kind=kind, main=f"{kind} main(): ..."), name="bad")
    runtime = AsyncRuntime() if kind == "async def" else SyncRuntime()
    with pytest.raises(ScriptError) as refused:
        async with runtime.open(script):
            pass
    assert type(refused.value) is error
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    if error is ScriptImportError:
        assert "bad.py" in refused.value.traceback
        assert OURS not in refused.value.traceback
    assert sys.stdout is before


@pytest.mark.parametrize(
    ("text", "runtime", "words"),
    [
        ("async def main(): ...", SyncRuntime, "is async: run it with AsyncRuntime"),
        ("def main(): ...", AsyncRuntime, "is not async: run it with SyncRuntime"),
    ],
)
async def test_wrong_runtime(make_script, text, runtime, words):
    """A runtime of the other kind refuses the script and names the one that fits."""
    with pytest.raises(ScriptError, match=words):
        async with runtime().open(make_script(text)):
            pass


def test_choice():
    """An async `main` gets an async runtime, with the concurrency that was asked for, set, or usual."""

    def described(*, is_async, concurrency=None):
        return Description("x", "0" * 64, is_async, {}, Settings(concurrency=concurrency))

    assert isinstance(choose(described(is_async=False), concurrency=9), SyncRuntime)
    assert choose(described(is_async=False)).concurrency == 1
    assert choose(described(is_async=True)).concurrency == 100
    assert choose(described(is_async=True, concurrency=7)).concurrency == 7
    assert choose(described(is_async=True, concurrency=7), concurrency=9).concurrency == 9


def test_secrets_leave_the_environment(monkeypatch):
    """Database addresses and passwords are gone from the environment before user code runs."""
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    scrub_environment()
    assert "secret" not in os.environ.values()


@pytest.mark.parametrize("name", ["mended", "mended-script"])
async def test_failed_import_can_be_tried_again(make_script, make_batch, name):
    """A module that raised is not left half imported: opened again after a fix, it works."""
    script = make_script("def main(): return 1\nraise ValueError", name=name)
    with pytest.raises(ScriptImportError):
        async with SyncRuntime().open(script):
            pass
    script.file.write_text("def main(): return 'mended now'\n")
    runtime, batch = SyncRuntime(), make_batch({})
    async with runtime.open(script):
        await runtime.run(batch)
    assert batch.values == ["mended now"]


def test_lane_in_the_main_thread(make_script, make_batch):
    """With a lane that runs here, a script's code runs in this very thread, with Trio in another."""
    script = make_script(
        "import threading\nhere = threading.get_ident()\ndef main(): return [here, threading.get_ident()]"
    )
    lane, batch = Lane(), make_batch({}, {})

    async def work():
        runtime = SyncRuntime(lane)
        async with runtime.open(script):
            await runtime.run(batch)

    def io_side():
        try:
            trio.run(work)
        finally:
            lane.close()

    thread = threading.Thread(target=io_side)
    thread.start()
    lane.run_here()
    thread.join(20)
    assert batch.values == [[threading.get_ident()] * 2] * 2


async def test_lane_order():
    """A lane does its work in the order it was given, raises what a call raised, and refuses work once
    closed.
    """
    lane, seen = Lane().start(), []
    async with trio.open_nursery() as nursery:
        for number in range(10):
            lane.submit(lambda number=number: seen.append(number))
        nursery.start_soon(lane.call, lambda: seen.append("called"))
    assert seen == [*range(10), "called"]
    with pytest.raises(ZeroDivisionError):
        await lane.call(lambda: 1 / 0)
    lane.close()
    with pytest.raises(RuntimeError, match="closed"):
        lane.submit(print)
    await trio.to_thread.run_sync(lane.thread.join, 20)


def test_lane_outlives_trio():
    """Work that ends when Trio has ended tells nobody, and the lane goes on."""
    lane, gate = Lane().start(), threading.Event()

    async def give_up():
        with trio.move_on_after(0.01):
            await lane.call(lambda: gate.wait(20))

    trio.run(give_up)
    gate.set()
    assert trio.run(lane.call, lambda: "still here") == "still here"
    lane.close()
