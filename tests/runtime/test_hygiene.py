"""Whatever a job leaves behind in its process, the next one runs and has its own log."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

import hotpath
from hotpath.runtime import capture

KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
"""A synchronous and an async `main`: what holds for one runtime holds for the other."""


@KINDS
@pytest.mark.parametrize(
    "deed",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = io.StringIO()",
        "sys.stdout = None; sys.stderr = None",
        "del sys.stdout",
        "sys.stdout = sys.__stdout__",
        "contextlib.redirect_stdout(io.StringIO()).__enter__()",
        "sys.stdout.buffer.close()",
        "logging.basicConfig(force=True, stream=io.StringIO())",
        "logging.basicConfig(force=True, handlers=[logging.NullHandler()])",
        "logging.getLogger().handlers.clear()",
        "logging.getLogger().handlers = []",
        "logging.shutdown()",
    ],
)
async def test_streams_and_logging(opened, make_batch, kind, deed):
    """A job may close or replace its streams and set up logging anew; what the next one prints is in its own
    log, and so is, from the next batch on, what it logs.
    """
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []  # pytest's: a worker's root logger has none
    text = f"""
        import contextlib, io, logging, sys
        {kind} main(x: int):
            if not x:
                {deed}
                return
            print("out", x)
            logging.info("info %d", x)
            if x == 1: print("err", file=sys.stderr)
        """
    try:
        async with opened(text, concurrency=1) as runtime:
            first, second = make_batch({"x": 0}, {"x": 1}), make_batch({"x": 2})
            await runtime.run(first)
            await runtime.run(second)
    finally:
        root.handlers, root.level = handlers, level
    assert [one.state for one in first.ended] == ["success", "success"]
    log = first.ended[1].log
    assert (log.startswith("out 1\n"), log.endswith("err\n")) == (True, True)
    printed, logged = second.ended[0].log.splitlines()
    assert printed == "out 2"
    assert logged.endswith("info 2")


@KINDS
async def test_closed_descriptors(opened, make_batch, kind):
    """A job that closes descriptors 1 and 2 leaves them to no socket: they lead nowhere afterwards."""
    kept = os.dup(1), os.dup(2)
    text = f"import os\n{kind} main():\n    os.close(1); os.close(2)\n    print('still mine')"
    try:
        async with opened(text) as runtime:
            batch = make_batch({})
            await runtime.run(batch)
        assert batch.ended[0].log == "still mine\n"
        nowhere = os.stat(os.devnull).st_rdev
        assert [os.fstat(descriptor).st_rdev for descriptor in (1, 2)] == [nowhere, nowhere]
    finally:
        for descriptor, was in enumerate(kept, 1):
            os.dup2(was, descriptor)
            os.close(was)


@KINDS
async def test_second_reader(opened, make_batch, capsys, kind):
    """All that a job writes to its log goes to the tee as well, at once, with its token; what is no job's
    does not, and without a tee nothing is different.
    """
    text = f"""
        import contextvars, logging, sys, threading
        empty = contextvars.Context()
        {kind} main(x: int):
            print(x, end="")
            sys.stderr.write("é")
            sys.stdout.buffer.write("ü".encode()[:1])
            sys.stdout.buffer.write("ü".encode()[1:])
            thread = threading.Thread(target=contextvars.copy_context().run, args=(print, "thread"))
            thread.start(); thread.join()
            empty.run(print, "nobody's")
        """
    seen: list[tuple[int, str, int]] = []
    async with opened(text) as runtime:
        batch = make_batch({"x": 0}, {"x": 1})
        capture.set_tee(lambda token, text, position, _: seen.append((token, text, position)))
        try:
            await runtime.run(batch)
        finally:
            capture.set_tee(None)
        for one in batch.in_order:
            mine = [(text, position) for token, text, position in seen if token == batch.number + one.index]
            assert "".join(text for text, _ in mine) == one.log == f"{one.index}éüthread\n"
            assert all(one.log[position:].startswith(text) for text, position in mine)
        assert {token for token, _, _ in seen} == {batch.number, batch.number + 1}
        count = len(seen)
        await runtime.run(make_batch({"x": 2}))
        assert len(seen) == count


@KINDS
async def test_a_thousand_threads(opened, make_batch, kind):
    """A job that leaves a thousand threads behind ends, and so do those after it."""
    text = f"""
        import threading
        gate, threads = threading.Event(), []
        {kind} main(x: int):
            for _ in range(x):
                threads.append(threading.Thread(target=gate.wait, args=(60,), daemon=True))
                threads[-1].start()
            print(len(threads))
            return x
        """
    async with opened(text, name=f"threads_{kind[:3]}") as runtime:
        module = sys.modules[f"threads_{kind[:3]}"]
        batch = make_batch({"x": 1000}, {"x": 0}, {"x": 1})
        await runtime.run(batch)
        module.gate.set()
        for thread in module.threads:
            await trio.to_thread.run_sync(thread.join)
    assert batch.values == [1000, 0, 1]
    assert [one.log for one in batch.in_order] == ["1000\n", "1000\n", "1001\n"]
    assert threading.active_count() < 500


MEMORY = """
import json, resource, sys, trio
from pathlib import Path
import hotpath.testing

async def both():
    return [await hotpath.testing.run_job("hog", {{"x": x}}, sys.argv[1]) for x in (1, 0)]

resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))
print(json.dumps([[done.state, done.error and done.error["name"], done.log] for done in trio.run(both)]))
"""


@pytest.mark.slow
@KINDS
def test_out_of_memory(tmp_path, kind):
    """A job that takes more memory than there is fails as a `MemoryError`; the next one runs."""
    (tmp_path / "hog.py").write_text(
        f"{kind} main(x: int):\n"
        "    print('so far')\n"
        "    hoard = []\n"
        "    while x: hoard.append(bytearray(16 << 20))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", MEMORY.replace("{{", "{").replace("}}", "}"), str(tmp_path)],
        capture_output=True,
        check=False,
        timeout=60,
        cwd=Path(hotpath.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["failure", "MemoryError", "so far\n"], ["success", None, "so far\n"]]


@KINDS
async def test_recursion(play, kind):
    """Recursion without end is a failure like any other, however deep its own handlers go."""
    text = f"""
        def deep(n):
            try:
                deep(n + 1)
            finally:
                len([n])
        {kind} main(x: int):
            if x: deep(0)
            return x
        """
    batch = await play(text, {"x": 1}, {"x": 0}, {"x": 1}, {"x": 0})
    assert [one.state for one in batch.in_order] == ["failure", "success"] * 2
    assert batch.values[0]["name"] == "RecursionError"


@KINDS
async def test_asked_to_stop(opened, make_batch, kind):
    """`cancel_requested` says whether somebody asked to cancel this very job, while it runs."""
    text = f"""
        import hotpath
        {kind} main(x: int):
            before = hotpath.current_job().cancel_requested
            ask(x)
            return [before, hotpath.current_job().cancel_requested]
        """
    async with opened(text, name=f"polite_{kind[:3]}", concurrency=1) as runtime:
        batch = make_batch({"x": 0}, {"x": 1}, {"x": 2})
        sys.modules[f"polite_{kind[:3]}"].ask = lambda x: batch.canceling.add(1)
        await runtime.run(batch)
    assert batch.values == [[False, False], [True, True], [False, False]]


@KINDS
async def test_deadline_of_the_job(opened, make_batch, kind):
    """`deadline` is the job's own where it has one, else its script's."""
    text = f"""
        import hotpath, time
        {kind} main(): return hotpath.current_job().deadline - time.monotonic()
        """
    async with opened(text, timeout=50) as runtime:
        batch = make_batch({}, {})
        batch.timeouts = [None, 500]
        await runtime.run(batch)
    script, own = batch.values
    assert 0 < script <= 50 < own <= 500
