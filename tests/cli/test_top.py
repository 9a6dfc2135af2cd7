"""`hotpath top`: what it shows where there is a terminal, and what it prints where there is none; from the
database and from a server alike.
"""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager

import pytest
import trio
from store_stage import open_stage, outcomes

from hotpath.cli.top_view import _shares


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, arguments, environment, columns, lines):
        self.fd, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hotpath", *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env=environment | {"TERM": "xterm"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - nothing else runs here
        )
        os.close(other)
        self.seen = ""

    def until(self, text):
        """Wait for a text on the screen."""
        deadline = time.monotonic() + 50
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen[-2000:]
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    break

    def press(self, keys):
        os.write(self.fd, keys)

    def end(self):
        """Its exit code, when all that it has said was seen."""
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    break  # nobody has its terminal any more
        return self.process.wait(20)


@pytest.fixture
def terminal(environment):
    """Starts commands that have a terminal."""
    made = []

    def start(*arguments, columns=100, lines=30, **changes):
        made.append(Terminal(arguments, environment | changes, columns, lines))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.wait()
        os.close(each.fd)


@contextmanager
def served(environment):
    """A server of that database, by its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hotpath", "serve", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        yield json.loads(process.stdout.readline())["urls"][0]
    finally:
        process.terminate()
        code = process.wait(40)
        process.stdout.close()
    assert code == 0


@pytest.fixture
def failed(database_url):
    """A job that failed, and two that wait."""

    async def prepare():
        async with open_stage(database_url) as stage:
            (job,) = await stage.loose()
            session = await stage.worker()
            hand = await stage.claim(session)
            error = b'{"name": "ValueError", "message": "no 7", "kind": "exception"}'
            await stage.flush(session, outcomes(hand, state=2, payload=error))
            await stage.loose(2)
            return str(job)

    return trio.run(prepare)


def test_without_a_terminal(hotpath, failed):
    """A table a second, N of them; with --json documents: tags, workers, what failed."""
    done = hotpath("top", "--count", "2")
    assert (done.code, done.out.count("2 waiting")) == (0, 2)
    assert "ValueError: no 7" in done.out
    one, other = hotpath("top", "--count", "2", "--json").documents
    assert one.keys() == other.keys() == {
        "now", "tags", "workers", "jobs_per_second", "failures", "stranded", "disk"
    }  # fmt: skip
    assert one["failures"][0]["id"] == failed
    assert {tag["tag"]: tag["waiting"] for tag in one["tags"]}["flow_x"] == 2


def test_server(hotpath, environment, terminal, failed):
    """The same from a server, which need not be asked for on the command line; q ends it with 0."""
    with served(environment) as url:
        elsewhere = {"HOTPATH_DATABASE_URL": "postgresql://127.0.0.1:1/nowhere", "HOTPATH_SERVER_URL": url}
        (document,) = hotpath("top", "--count", "1", "--json", **elsewhere).documents
        assert document["failures"][0]["id"] == failed
        top = terminal("top", **elsewhere)
        top.until("2 waiting")
        top.until(url)
        top.press(b"q")
        assert top.end() == 0


def test_interrupted(terminal, failed):
    """Ctrl-C ends it with 130, and the terminal is as it was: its screen, its cursor."""
    top = terminal("top", columns=60, lines=12)
    top.until("ERROR")
    top.press(b"\x03")
    assert top.end() == 130
    assert "\x1b[?1049l" in top.seen
    assert "\x1b[?25h" in top.seen


def test_no_server(hotpath):
    """A server that is not there, and a URL that is none, are one line each."""
    done = hotpath("top", "--server", "http://127.0.0.1:1", "--count", "1")
    assert (done.code, done.error) == (
        1,
        "no server of Hotpath at http://127.0.0.1:1 (Connection refused): start one with `hotpath serve`",
    )
    done = hotpath("top", "--server", "127.0.0.1:8765", "--count", "1")
    assert (done.code, "expected http://host:port" in done.error) == (2, True)


@pytest.mark.parametrize(
    ("wanted", "room", "shares"),
    [
        ([1, 1, 1], 30, [1, 1, 1]),
        ([0, 100, 3], 30, [None, 23, 3]),
        ([50, 50, 50], 12, [2, 2, 2]),
        ([5, 5, 5], 5, [None, 1, None]),
    ],
)
def test_shares(wanted, room, shares):
    """Small tables are whole, large ones share what is left; with their heads they fit."""
    found = _shares(wanted, room)
    assert [share is None for share in found] == [share is None for share in shares] or room < 9
    assert sum(share + 2 for share in found if share is not None) <= room
    if room >= 9:
        assert found == shares
