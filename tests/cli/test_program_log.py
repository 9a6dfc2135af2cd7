"""What the program says of itself: text or JSON, of the level that was asked for, and nothing secret."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging

import pytest

from hotpath import program_log
from hotpath.errors import UsageError

URL = "postgresql://ann:s3cr%2Ft-word@db.example/x?sslmode=require&sslpassword=key-word"


@pytest.fixture
def ours():
    """The program's logger, as it was before afterwards."""
    logger = logging.getLogger("hotpath")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


def written(ours, environ, say, **said):
    """What comes out."""
    stream = io.StringIO()
    program_log.set_up(environ, stream=stream, **said)
    say(ours.getChild("worker"))
    return stream.getvalue()


def fail(log):
    """An error with its traceback."""
    try:
        raise ConnectionError(f"no way to {URL}")
    except ConnectionError:
        log.exception("it broke", extra={"job": "0190", "tag": "t"})


def test_text(ours):
    """By default a line for people, from warnings up."""
    assert written(ours, {}, lambda log: log.info("unsaid")) == ""
    assert written(ours, {}, lambda log: log.warning("%d things\nmore", 3)) == "hotpath: 3 things\nmore\n"


def test_json(ours):
    """One object a line: when, how bad, who says it, what is known besides, and the traceback."""
    text = written(
        ours,
        {"HOTPATH_LOG_FORMAT": "json", "HOTPATH_LOG_LEVEL": "INFO", "HOTPATH_DATABASE_URL": URL},
        lambda log: (log.debug("unsaid"), log.info("said\nso"), fail(log)),
        worker="w-1",
    )
    first, second = map(json.loads, text.splitlines())
    assert dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(first.pop("time")) < dt.timedelta(minutes=1)
    assert first == {"level": "info", "logger": "hotpath.worker", "message": "said\nso", "worker": "w-1"}
    assert (second["level"], second["job"], second["tag"]) == ("error", "0190", "t")
    assert second["exception"].startswith("Traceback")
    assert "ConnectionError: no way to postgresql://ann:" in second["exception"]


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("knows", [True, False])
def test_nothing_secret(ours, format, knows):
    """Neither passwords, as they are known or as they stand in an address, nor tokens come out."""
    environ = {"HOTPATH_LOG_FORMAT": format}
    if knows:
        environ |= {"DATABASE_URL": URL, "PGPASSWORD": "pg-word"}
    text = written(
        ours,
        environ,
        lambda log: (
            fail(log),
            log.error("decoded %s", "s3cr/t-word pg-word" if knows else ""),
            log.error("token hp_abcdefghij23_%s, GET /resume/%s", "0123456789abcdef" * 4, "AbC-d_e" * 20),
        ),
        urls=(URL,),
    )
    assert "ann" in text
    assert "hp_abcdefghij23_***" in text
    for secret in ("s3cr", "t-word", "key-word", "pg-word", "0123456789abcdef", "AbC-d_e"):
        assert secret not in text, secret


REFUSED = [("HOTPATH_LOG_FORMAT", "xml"), ("HOTPATH_LOG_LEVEL", "loud"), ("HOTPATH_LOG_LEVEL", "5")]


def test_refused(hotpath, subtests):
    """A value that makes no sense is named, with those that do, and nothing is done."""
    for name, value in REFUSED:
        with subtests.test(ascii(name)[:60]):
            with pytest.raises(UsageError, match=f"{name} must be .* or (json|error), not '{value}'"):
                program_log.read_settings({name: value})
            done = hotpath("status", **{name: value})
            assert (done.code, done.out) == (2, "")
            assert done.error.startswith(f"{name} must be ")


def test_commands(hotpath):
    """A command's own error is one line of JSON, too, with the traceback of the script that it is about."""
    done = hotpath("run", "broken", HOTPATH_LOG_FORMAT="json", HOTPATH_LOG_LEVEL="nonsense-too")
    assert json.loads(done.err)["message"].startswith("HOTPATH_LOG_LEVEL must be")
    done = hotpath("run", "broken", HOTPATH_LOG_FORMAT="json")
    (line,) = done.err.splitlines()
    said = json.loads(line)
    assert (said["level"], said["logger"], said["exit_code"]) == ("error", "hotpath.cli", done.code)
    assert said["message"].startswith("broken cannot be imported: ModuleNotFoundError")
    assert "no_such_module" in said["exception"]


@pytest.mark.slow
def test_workers(hotpath, workspace):
    """Supervisor and worker processes write JSON as well, and say which worker it is about."""
    (workspace / "dies.py").write_text("import os\ndef main():\n    os._exit(7)\n")
    assert hotpath("push", "dies", stdin="{}\n").code == 0
    done = hotpath("dedicate", "dies", "--drain", "-q", HOTPATH_LOG_FORMAT="json", HOTPATH_LOG_LEVEL="info")
    said = [json.loads(line) for line in done.err.splitlines()]
    names = {line["worker"] for line in said if "is ready" in line["message"]}
    assert names
    assert all(line["worker"] for line in said)
    assert any("a job ended because" in line["message"] for line in said)
