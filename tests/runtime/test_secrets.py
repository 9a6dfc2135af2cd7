"""A job with secret args leaves none of them behind: not in its log, its result, its error."""

from __future__ import annotations

import json

import pytest

from hotpath.model import MASK
from hotpath.runtime.capture import set_tee

SECRET = 'hunter2-"quoted"'
PASSWORD = {"type": "string", "writeOnly": True, "format": "password"}
SCHEMA = {"type": "object", "properties": {"key": PASSWORD, "how": {"type": "string"}}, "required": ["key"]}
KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
TEXT = """
    import logging, sys, warnings, hotpath

    {kind} main(key: hotpath.Secret, how: str = "result"):
        assert isinstance(key, str) and "quoted" in key
        if how == "result":
            return {{"key": key, "plain": "x", "nested": [f"Bearer {{key}}"], "raw": key.encode()}}
        if how == "log":
            print("key is", key, end=";")
            print(repr(key), key[:], [key[:]], file=sys.stderr)
            logging.warning("with %s", key)
            sys.stdout.buffer.write(key.encode() + b"\\n")
            for character in "one by one: " + key + "!":
                sys.stdout.write(character)
            sys.stdout.write(key[:5])
        if how == "error":
            try:
                raise KeyError(key[:])
            except KeyError as cause:
                raise ValueError(f"no {{key}}") from cause
        if how == "name":
            raise type(str(key), (Exception,), {{}})("x")
        if how == "retry":
            raise hotpath.RetryLater(1, f"not with {{key}}")
        if how == "unstorable":
            return {{"a": {{key}}, "b": object()}}
"""


@KINDS
async def test_nothing_is_left(play, kind):
    """Result, log and error of a job have the mask where the secret was, in whatever form it was written;
    the rest is as it was.
    """
    hows = ["result", "log", "error", "name", "retry", "unstorable"]
    batch = await play(TEXT.format(kind=kind), *({"key": SECRET, "how": how} for how in hows), schema=SCHEMA)
    result, log, error, name, retry, unstorable = batch.in_order
    assert result.value["key"] == MASK
    assert result.value["plain"] == "x"
    assert result.value["nested"] == [f"Bearer {MASK}"]
    assert MASK in result.value["raw"]
    assert log.log == (
        f"key is {MASK};Secret('{MASK}') {MASK} ['{MASK}']\nWARNING root: with {MASK}\n{MASK}\n"
        f"one by one: {MASK}!hunte"
    )
    assert error.value["message"] == f"no {MASK}"
    assert f"KeyError: '{MASK}'" in error.value["traceback"]
    assert error.value["kind"] == "exception"
    assert name.value["name"] == MASK
    assert retry.value["message"] == f"not with {MASK}"
    assert unstorable.value["name"] == "BadResultError"
    assert "hunter2" not in json.dumps([one.value for one in batch.ended])
    assert not [one.log for one in batch.ended if one.log and "hunter2" in one.log]


@KINDS
async def test_what_is_no_secret_stays(play, kind):
    """Without the schema's word nothing is masked: the same script, the same job."""
    batch = await play(
        TEXT.format(kind=kind),
        {"key": SECRET},
        {"key": SECRET, "how": "error"},
        {"key": SECRET, "how": "log"},
    )
    result, error, log = batch.in_order
    assert result.value["key"] == SECRET
    assert error.value["message"] == f"no {SECRET}"
    assert SECRET in log.log


@KINDS
async def test_each_its_own(play, kind):
    """A job's secrets are its own: what another one has for a secret is an ordinary word here."""
    text = f"""
        import hotpath
        {kind} main(key: hotpath.Secret, say: str):
            print(say)
            return say
        """
    jobs = [{"key": "first-key", "say": "second-key"}, {"key": "second-key", "say": "second-key"}]
    batch = await play(text, *jobs, schema=SCHEMA)
    assert [one.value for one in batch.in_order] == ["second-key", MASK]
    assert [one.log for one in batch.in_order] == ["second-key\n", f"{MASK}\n"]


@KINDS
async def test_wrong_args(play, kind):
    """What is wrong with a secret is said without it."""
    batch = await play(
        TEXT.format(kind=kind), {"key": [SECRET]}, {"key": 12345678}, {"how": SECRET, "x": 1}, schema=SCHEMA
    )
    messages = [value["message"] for value in batch.values]
    assert messages[:2] == ["field `key`: expected str, got list", "field `key`: expected str, got int"]
    assert "hunter2" not in str(messages)
    assert "1234" not in str(messages)


async def test_defaults(play):
    """A secret that the script has by default is one as well, wherever it comes from."""
    text = """
        import os, hotpath
        KEY = "from-the-" + "environment"
        def main(key: hotpath.Secret = KEY):
            print(key)
            return key[:]
        """
    batch = await play(text, {}, {"key": "from-the-job"}, schema=SCHEMA | {"required": []})
    assert batch.values == [MASK, MASK]
    assert [one.log for one in batch.in_order] == [f"{MASK}\n"] * 2


async def test_late_output(play, capsys):
    """What a job prints when it has ended goes to the worker's own output: masked."""
    text = """
        import contextvars, threading, time, hotpath, sys
        threads = []
        def say(key, event):
            event.wait(5)
            print("late", key)
            sys.stdout.buffer.write(b"bytes " + key.encode() + b"\\n")
        def main(key: hotpath.Secret, how: str = ""):
            if how == "wait":
                for thread, event in threads:
                    event.set()
                    thread.join()
                return
            event = threading.Event()
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(say, key, event))
            thread.start()
            threads.append((thread, event))
        """
    await play(text, {"key": SECRET}, {"key": "", "how": "wait"}, schema=SCHEMA)
    assert capsys.readouterr().out == f"late {MASK}\nbytes {MASK}\n"


@KINDS
async def test_live_text(play, kind):
    """What others are told while the job runs is masked, too, and stands where it says."""
    told = []
    set_tee(lambda token, text, position, now: told.append((position, text)))
    try:
        batch = await play(TEXT.format(kind=kind), {"key": SECRET, "how": "log"}, schema=SCHEMA)
    finally:
        set_tee(None)
    (job,) = batch.ended
    assert job.log == "".join(text for _, text in told)
    assert job.log.endswith(SECRET[:5])  # its beginning waited to the end
    assert all(job.log[at:].startswith(text) for at, text in told)
    assert MASK in job.log
