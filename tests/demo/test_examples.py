"""The examples do what their docstrings say, run as jobs through the queue by a real worker."""

import hashlib
import json
import os
import socket
from pathlib import Path

import pytest
from warm import run_hotpath

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def run_local(database_url):
    """Run one job of an example with `hotpath run --local`, and give its exit code, result and stderr."""

    def run(script, args):
        environment = os.environ | {"HOTPATH_DATABASE_URL": database_url, "HOTPATH_WORKSPACE": str(EXAMPLES)}
        command = ("run", script, json.dumps(args), "--local")
        done = run_hotpath(*command, env=environment, cwd=EXAMPLES, seconds=100)
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr

    return run


@pytest.mark.slow
def test_flow_x_reads_a_file(run_local, tmp_path):
    """flow_x counts what is in a Python file, and names the longest function."""
    source = tmp_path / "one.py"
    source.write_text("import a, b\n\nasync def f():\n    def g():\n        pass\n\nclass C: pass\n")
    code, result, _ = run_local("flow_x", {"path": str(source)})
    assert code == 0
    assert result == {
        "functions": 2,
        "classes": 1,
        "imports": 2,
        "lines": 7,
        "longest_function": {"name": "f", "lines": 3},
    }


@pytest.mark.slow
def test_sentiment_uses_its_preloaded_words(run_local):
    """The word list of `preload()` is there, and a text without known words is neutral."""
    assert run_local("sentiment", {"text": "A wonderful, fast tool"})[1]["feeling"] == "positive"
    assert run_local("sentiment", {"text": "qwerty"})[1] == {"feeling": "neutral", "score": 0.0, "words": 0}


@pytest.mark.slow
def test_sentiment_refuses_an_empty_text(run_local):
    """The constraint in the signature is checked before anything is enqueued, and the field is named."""
    code, _, error = run_local("sentiment", {"text": ""})
    assert code == 1
    assert "text" in error


@pytest.mark.slow
def test_probe_ports_tells_open_from_closed(run_local):
    """A listening port is open, a free one is not."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert run_local("probe_ports", {"host": "127.0.0.1", "port": port})[1]["open"] is True
    assert run_local("probe_ports", {"host": "127.0.0.1", "port": port})[1]["open"] is False


@pytest.mark.slow
def test_checksum_in_a_folder(run_local, tmp_path):
    """A script in a folder is named by its path, and reads its settings from the file beside it."""
    file = tmp_path / "data"
    file.write_bytes(b"x" * 3_000_000)
    code, result, _ = run_local("f/reports/checksum", {"path": str(file)})
    assert code == 0
    assert result == hashlib.sha256(b"x" * 3_000_000).hexdigest()
