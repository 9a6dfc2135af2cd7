"""`hotpath alert` as a user has it: a server that looks and sends, a receiver, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "worker"))

from receivers import http_receiver


@pytest.fixture
def server(environment):
    """`hotpath serve`, which has the key."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hotpath", "serve", "--port", "0", "--json"],
        stdout=subprocess.PIPE, env=environment | {"HOOK_KEY": "hunter2"},
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    yield
    process.terminate()
    assert process.wait(40) == 0
    process.stdout.close()


def test_from_beginning_to_end(hotpath, server):
    """Set, tried, fired, listed, silenced, deleted; the server does what is to be done, with its key."""
    with http_receiver() as receiver:
        channel = f"webhook:{receiver.url} signed $HOOK_KEY"
        done = hotpath("alert", "set", "few", "--when", "workers under 2 in etl", "--to", channel)
        assert (done.code, done.out.splitlines()[0]) == (0, "alert    few")
        assert done.err.splitlines() == [
            "hotpath: note: no worker of group etl was ever there",
            "hotpath: note: $HOOK_KEY is not set here; whoever sends needs it",
        ]
        done = hotpath("alert", "test", "few")
        assert (done.code, done.out.splitlines()[1].split()[3:5]) == (0, ["delivered", done.out.split()[-2]])
        assert "x-hotpath-signature" in receiver.got[0][1]
        states = {json.loads(body)["state"] for _, _, body in receiver.got}
        assert "test" in states
        (alert,) = hotpath("alert", "list", "--json").documents
        assert (alert["when"], alert["to"], alert["for"]) == ("workers under 2 in etl", [channel], 0)
        assert "few" in hotpath("alert", "list").out
        assert "test (webhook, told)" in hotpath("alert", "show", "few").out
        assert hotpath("alert", "silence", "few", "--for", "2h", "--json").documents[0]["silent_until"]
        assert hotpath("alert", "silence", "few", "--off", "--json").documents[0]["silent_until"] is None
        receiver.statuses = [500] * 50
        done = hotpath("alert", "test", "few", "--json")
        (document,) = done.documents
        assert (done.code, document["delivered"]) == (1, False)
        assert document["problem"] == "http://127.0.0.1 answered 500"
        assert hotpath("alert", "delete", "few").out == "deleted few\n"
    done = hotpath("alert", "show", "few")
    assert (done.code, done.error) == (1, "there is no alert 'few'; `hotpath alert list` shows them")


@pytest.mark.slow
def test_nobody_sends(hotpath, monkeypatch):
    """A test says so where no supervisor and no server runs."""
    hotpath("alert", "set", "few", "--when", "lost", "--to", "webhook:http://127.0.0.1:9/")
    done = hotpath("alert", "test", "few", "--json")
    assert done.code == 1
    assert done.documents[0]["problem"].startswith("nobody has tried: a supervisor")


BAD_INPUT = [
    ({"--when": "waiting over soon"}, "when: waiting over: 'soon' is not a span"),
    ({"--when": "waiting over 5m on a,,b"}, "when: on: '' is no tag"),
    ({"--to": "slack:https://hooks.example/hunter2"}, "to: 'slack:...' holds a secret"),
    ({"--to": "pigeon"}, "to: 'pigeon' is not a channel"),
    ({"--for": "long"}, "for: 'long' is not a span"),
    ({"--cooldown": "0s"}, "cooldown: '0s' is not a span"),
    ({"NAME": "a b"}, "name: 'a b' is no name of an alert"),
]


def test_bad_input(hotpath, subtests):
    """Is refused in a line that names the field, and shows no secret."""
    for changed, said in BAD_INPUT:
        with subtests.test(ascii(changed)[:60]):
            given = {"NAME": "few", "--when": "lost", "--to": "https://ops.example"} | changed
            name = given.pop("NAME")
            flags = [part for pair in given.items() for part in pair]
            done = hotpath("alert", "set", name, *flags)
            assert done.code == 2
            assert done.error.startswith(said)
            assert "hunter2" not in done.err


def test_silence_wants_one_of_two(hotpath):
    """How long, or not at all."""
    assert hotpath("alert", "silence", "few").code == 2
    assert hotpath("alert", "silence", "few", "--for", "1h", "--off").code == 2
