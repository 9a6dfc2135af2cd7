"""What users get for their own tests."""

import pytest

from hotpath.errors import BadArgsError, ScriptImportError, UnknownScriptError
from hotpath.testing import run_job


async def test_run_job(workspace):
    """A job runs through the real runtime without a database: result, log and error are as they would be
    stored.
    """
    (workspace / "chatty.py").write_text(
        "async def main(n: int):\n    print('n is', n)\n    return {'tenth': 10 // n}\n"
    )
    done = await run_job("chatty", {"n": 5}, workspace)
    assert (done.state, done.result, done.error, done.log) == ("success", {"tenth": 2}, None, "n is 5\n")
    done = await run_job("chatty", {"n": 0}, workspace)
    assert (done.state, done.result, done.error["name"]) == ("failure", None, "ZeroDivisionError")
    assert (await run_job(workspace / "add.py", {"x": 1}, workspace)).result == 2


async def test_run_job_refuses_as_enqueue_does(workspace):
    """What could not be enqueued is raised."""
    with pytest.raises(BadArgsError, match="`x`"):
        await run_job("add", {"x": "1"}, workspace)
    with pytest.raises(UnknownScriptError):
        await run_job("nobody", {}, workspace)
    with pytest.raises(ScriptImportError):
        await run_job("broken", {}, workspace)
