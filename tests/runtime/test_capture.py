"""A job's log holds what that job wrote, all of it within bounds, and nothing of any other job (I9)."""

from __future__ import annotations

import io
import logging
import sys
import tracemalloc

import hypothesis
import pytest
from hypothesis import strategies as st

from hotpath.core.logtext import behind, span_of
from hotpath.runtime import joblog
from hotpath.runtime.capture import capturing
from hotpath.runtime.joblog import JobLog

KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
"""A synchronous and an async `main`: what holds for one runtime holds for the other."""


@KINDS
async def test_own_log(play, capsys, kind):
    """What a job prints is in its own log, in order over both streams and logging; a silent job has none."""
    text = f"""
        import logging, sys, warnings
        print("at import")
        {kind} main(x: int):
            if not x:
                return
            print("out", x, end="")
            print("!")
            logging.info("info %d", x)
            print("err", file=sys.stderr)
            sys.stdout.writelines(["a", "b\\n"])
            logging.getLogger("deep.er").warning("warned")
            logging.debug("unheard")
            sys.stdout.flush()
        """
    batch = await play(text, {"x": 1}, {"x": 0}, {"x": 2})
    assert [one.log for one in batch.in_order] == [
        "out 1!\nINFO root: info 1\nerr\nab\nWARNING deep.er: warned\n",
        None,
        "out 2!\nINFO root: info 2\nerr\nab\nWARNING deep.er: warned\n",
    ]
    assert capsys.readouterr().out == "at import\n"


async def test_interleaved_jobs(play):
    """Jobs that run at the same time, with tasks and threads of their own, keep their logs apart."""
    text = """
        import trio
        async def say(x, n):
            for _ in range(n):
                await trio.sleep(0)
                print(x, end="")
        async def main(x: int):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say, x, 5)
                nursery.start_soon(say, x, 5)
                await trio.to_thread.run_sync(print, x)
        """
    batch = await play(text, *({"x": x} for x in range(20)), concurrency=20)
    for one in batch.in_order:
        assert one.log.replace("\n", "") == str(one.index) * 11


async def test_late_thread(opened, make_batch, capsys):
    """What a job's thread prints after the job has ended goes to the worker's own output, not to the next
    job's log.
    """
    text = """
        import contextvars, threading
        gate, threads = threading.Event(), []
        def late():
            gate.wait(20)
            print("late")
        def main(x: int):
            if x == 0:
                threads.append(threading.Thread(target=contextvars.copy_context().run, args=(late,)))
                threads[0].start()
                print("first")
            else:
                gate.set()
                threads[0].join()
                print("second")
        """
    async with opened(text) as runtime:
        batch = make_batch({"x": 0}, {"x": 1})
        await runtime.run(batch)
    assert [one.log for one in batch.in_order] == ["first\n", "second\n"]
    assert capsys.readouterr().out == "late\n"


async def test_late_task(opened, make_batch, capsys):
    """What a task that outlives its job prints goes to the worker's own output, not to the next job's log."""
    text = """
        import trio
        gate, done = trio.Event(), trio.Event()
        async def late():
            await gate.wait()
            print("late")
            done.set()
        async def main(x: int):
            if x == 0:
                trio.lowlevel.spawn_system_task(late, context=__import__("contextvars").copy_context())
                print("first")
            else:
                gate.set()
                await done.wait()
                print("second")
        """
    async with opened(text, concurrency=1) as runtime:
        batch = make_batch({"x": 0}, {"x": 1})
        await runtime.run(batch)
    assert [one.log for one in batch.in_order] == ["first\n", "second\n"]
    assert capsys.readouterr().out == "late\n"


@KINDS
async def test_stream_of_a_job(play, kind):
    """In a job `sys.stdout` is a text stream that is no terminal, takes bytes by its buffer, and stays open
    for others.
    """
    text = f"""
        import sys
        {kind} main(x: int):
            out = sys.stdout
            out.buffer.write("é".encode()[:1])
            out.buffer.write("é".encode()[1:] + b"\\xff")
            out.write("|")
            try:
                out.write(3)
            except TypeError as error:
                print(error)
            out.close()
            out.reconfigure(line_buffering=True)
            return [out.isatty(), out.encoding, out.writable(), out.readable(), out.seekable(), out.closed,
                    out.write("four"), out.buffer.isatty()]
        """
    batch = await play(text, {"x": 1}, {"x": 2})
    for one in batch.in_order:
        assert one.value == [False, "utf-8", True, False, False, False, 4, False]
        assert one.log == "é\\xff|write() argument must be str, not int\nfour"


@KINDS
async def test_wrapped_stream(play, monkeypatch, kind):
    """A script may wrap `sys.stdout.buffer` in a text stream of its own: nothing is held back for the next
    job.
    """
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back afterwards
    text = f"""
        import io, sys
        sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
        {kind} main(x: int): print(x)
        """
    batch = await play(text, {"x": 1}, {"x": 2})
    assert [one.log for one in batch.in_order] == ["1\n", "2\n"]


@KINDS
async def test_text_that_no_database_holds(play, kind):
    """NUL and lone surrogates in a log are written out as escapes."""
    batch = await play(f"{kind} main(): print('a\\0b\\ud800c', '\\U0001f600')", {})
    assert batch.ended[0].log == "a\\x00b\\ud800c \U0001f600\n"
    batch = await play(f"{kind} main(): print('a\\0b', end=''); print('\\0\u20ac')", {})
    assert batch.ended[0].log == "a\\x00b\\x00\u20ac\n"


@KINDS
async def test_log_of_a_failure(play, kind):
    """A job that raises keeps what it printed before."""
    batch = await play(f"{kind} main():\n    print('so far')\n    raise ValueError('x')", {})
    assert (batch.ended[0].state, batch.ended[0].log) == ("failure", "so far\n")


async def test_logging_of_its_own(play):
    """A script that configures logging itself keeps its format and level."""
    text = """
        import logging, sys
        logging.basicConfig(stream=sys.stdout, format="%(levelname)s|%(message)s", level=logging.DEBUG)
        def main(): logging.debug("mine")
        """
    root = logging.getLogger()
    handlers, level = root.handlers.copy(), root.level
    root.handlers = []  # pytest's: a worker's root logger has none
    try:
        batch = await play(text, {})
        root.handlers = []
        other = await play("import logging\ndef main(): logging.info('ours')", {})
    finally:
        root.handlers, root.level = handlers, level
    assert batch.ended[0].log == "DEBUG|mine\n"
    assert other.ended[0].log == "INFO root: ours\n"


async def test_leaves_no_trace(play):
    """After the last runtime closed, streams and logging are as they were before the first."""
    root = logging.getLogger()
    before = sys.stdout, sys.stderr, root.level, root.handlers.copy()
    await play("def main(): print()", {})
    assert (sys.stdout, sys.stderr, root.level, root.handlers) == before


def test_capture_nests():
    """Two runtimes in one process share the routers, whichever closes first."""
    real = sys.stdout
    first, second = capturing(), capturing()
    first.__enter__()
    router = sys.stdout
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.stdout is router is not real
    second.__exit__(None, None, None)
    assert sys.stdout is real


def test_output_of_no_job(monkeypatch):
    """Outside of a job text and bytes go to the real stream, in their order."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    with capturing():
        sys.stdout.write("a")
        sys.stdout.buffer.write(b"b")
        print("c", flush=True)
    assert raw.getvalue() == b"abc\n"


def test_output_of_no_job_to_a_stream_without_bytes(monkeypatch):
    """A real stream that has no buffer, as in a notebook, still takes bytes."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with capturing():
        sys.stdout.buffer.write(b"x\xff")
    assert sys.stdout.getvalue() == "x\\xff"


async def test_long_log(play):
    """Of a log of 20 MiB the first and the last 2.5 MiB are kept, and how much is missing is said."""
    text = """
        def main():
            line = "x" * 1023 + "\\n"
            for n in range(20 * 1024):
                print(n, line, end="")
        """
    batch = await play(text, {})
    log = batch.ended[0].log
    assert 5 << 20 <= len(log) < (5 << 20) + 100
    assert log.startswith("0 xxx")
    assert log.rstrip("x\n").endswith("\n20479 ")
    kept, notice = log.split("\n[hotpath: ")
    missing = int(notice.split()[0])
    written = sum(len(str(n)) + 1 + 1024 for n in range(20 * 1024))
    assert len(kept) + len(notice.partition("]\n")[2]) + missing == written


@pytest.mark.slow
def test_log_of_single_characters():
    """A log written one character at a time takes no more memory than one written in lines."""
    log = JobLog()
    tracemalloc.start()
    try:
        for _ in range(100_000):
            log.write("x")
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 1 << 20
    assert log.text() == "x" * 100_000


def test_memory_of_a_long_log():
    """However much is written, no more than the head and twice the tail are held."""
    log = JobLog()
    tracemalloc.start()
    try:
        for number in range(1_000):
            log.write(f"{number:065535}\n")
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 1.2 * (joblog.HEAD_BYTES + 2 * joblog.TAIL_BYTES)


@hypothesis.given(
    st.lists(st.text(st.sampled_from("aé€\U0001f600\ud800"), max_size=30), max_size=40), st.integers(1, 25)
)
def test_bounds_of_a_log(pieces, size):
    """Whatever is written: the head and the tail are the text's own, within their sizes, and the notice
    counts the rest.
    """
    before = joblog.HEAD_BYTES, joblog.TAIL_BYTES
    joblog.HEAD_BYTES = joblog.TAIL_BYTES = size
    try:
        log = JobLog()
        for piece in pieces:
            log.write(piece)
        text = log.text()
    finally:
        joblog.HEAD_BYTES, joblog.TAIL_BYTES = before
    whole = "".join(pieces)
    if text is None:
        assert not whole
        return
    head, notice, tail = text.partition("\n[hotpath: ")
    shown = whole.replace("\ud800", "\\ud800")
    assert span_of(text) == len(shown)
    for position in range(0, len(shown), 7):
        rest = behind(text, position)
        assert span_of(rest) == len(shown) - position
        if not notice or position >= len(shown) - len(tail.partition("here]\n")[2]):
            assert rest == shown[position:]
    if not notice:
        assert text == shown
        return
    missing, _, tail = tail.partition(" bytes of log are not kept here]\n")
    assert shown.startswith(head)
    assert shown.endswith(tail)
    kept = len(head.encode()) + len(tail.encode())
    assert kept + int(missing) == len(shown.encode())
    assert text.gap == (len(head), len(shown) - len(head) - len(tail), len(text) - len(head) - len(tail))
    assert size * 2 - 6 <= kept <= size * 2
