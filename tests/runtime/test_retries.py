"""Which failures run again, and when, as a runtime reports them."""

from __future__ import annotations

import pytest
import trio

import hotpath
import hotpath.testing
from hotpath.model import Retry

KINDS = pytest.mark.parametrize("kind", ["def", "async def"])
"""A synchronous and an async `main`: what holds for one runtime holds for the other."""

RAISING = """
    import hotpath, trio
    class Own(ConnectionError): ...
    {kind} main(what: str):
        print("tried", what)
        if what:
            raise eval(what)
        return what
    """


@KINDS
async def test_policy(opened, make_batch, kind):
    """A failure is reported for another attempt until the attempts are used up, with its error and log."""
    async with opened(RAISING.format(kind=kind), retry=Retry(3, delay=10, jitter=0)) as runtime:
        batch = make_batch(*[{"what": "ValueError('no')"}] * 4, {"what": ""})
        batch.attempts = [1, 2, 3, 4, 1]
        await runtime.run(batch)
    assert batch.delays == {0: 10, 1: 20}
    assert [one.state for one in batch.in_order] == ["retry", "retry", "failure", "failure", "success"]
    for one in batch.in_order[:4]:
        assert (one.value["name"], one.value["message"], one.value["kind"]) == (
            "ValueError",
            "no",
            "exception",
        )
        assert one.log == "tried ValueError('no')\n"


@KINDS
@pytest.mark.parametrize(
    ("what", "again"),
    [
        ("ConnectionResetError()", True),
        ("Own()", True),
        ("OSError()", False),
        ("SystemExit(1)", False),
        ("ExceptionGroup('g', [Own(), ExceptionGroup('h', [ConnectionError()])])", True),
        ("ExceptionGroup('g', [Own(), KeyError()])", False),
        ("hotpath.Discard('no')", False),
        ("ExceptionGroup('g', [Own(), hotpath.Discard('no')])", False),
    ],
)
async def test_on(play, kind, what, again):
    """With `on`, only what it names runs again, and a group if it names each of its parts; what is discarded
    does not.
    """
    batch = await play(RAISING.format(kind=kind), {"what": what}, retry=Retry(3, on=ConnectionError))
    assert list(batch.delays) == ([0] if again else [])
    assert batch.ended[0].value["kind"] == "exception"


@KINDS
async def test_retry_later(opened, make_batch, kind):
    """`RetryLater` says the delay itself: without a policy without end, else as long as its attempts last."""
    later = "hotpath.RetryLater(7, 'busy')"
    group = "ExceptionGroup('g', [hotpath.RetryLater(3), hotpath.RetryLater(9), KeyError()])"
    for retry, delays in ((None, {0: 7, 1: 7, 2: 9}), (Retry(2, on=KeyError), {0: 7, 2: 9})):
        async with opened(RAISING.format(kind=kind), retry=retry) as runtime:
            batch = make_batch({"what": later}, {"what": later}, {"what": group})
            batch.attempts = [1, 100, 1]
            await runtime.run(batch)
        assert batch.delays == delays
        assert (batch.values[0]["name"], batch.values[0]["message"]) == ("RetryLater", "busy")


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), 1e12, None, "5", True])
def test_delay_that_makes_no_sense(delay):
    """A delay that is no reasonable number of seconds is refused where it is written."""
    with pytest.raises(ValueError, match="RetryLater"):
        hotpath.RetryLater(delay)


@KINDS
async def test_what_never_runs_again(play, kind):
    """Args that do not fit and results that cannot be stored would not be better the next time."""
    text = f"{kind} main(x: int): return object()"
    batch = await play(text, {"x": "no"}, {"x": 1}, retry=Retry(5))
    assert [one.state for one in batch.in_order] == ["failure", "failure"]
    assert [one.value["kind"] for one in batch.in_order] == ["bad_args", "bad_result"]


@pytest.mark.parametrize(("on", "again"), [((), True), (TimeoutError, True), (KeyError, False)])
async def test_time_outs(play, autojump_clock, on, again):
    """A time-out follows the policy too, as a `TimeoutError`."""
    text = "import trio\nasync def main(): await trio.sleep(100)"
    batch = await play(text, {}, timeout=1, retry=Retry(2, on=on))
    assert batch.ended[0].state == ("retry" if again else "failure")
    assert batch.ended[0].value["kind"] == "timeout"


def test_in_the_tests_of_a_script(tmp_path):
    """`hotpath.testing.run_job` says that a failure would run again, and when; attempts and time-outs can be
    tried.
    """
    (tmp_path / "job.py").write_text(
        "import hotpath, time\n"
        "hotpath.settings(retry=hotpath.Retry(2, delay=4, jitter=0), timeout=60)\n"
        "def main(x: int):\n    while x: pass\n    raise hotpath.RetryLater(3)\n"
    )

    async def run(**how):
        return await hotpath.testing.run_job("job", {"x": how.pop("x", 0)}, tmp_path, **how)

    first, last = trio.run(run), trio.run(lambda: run(attempt=2))
    assert (first.state, first.retry_after, first.error["name"]) == ("failure", 3, "RetryLater")
    assert (last.state, last.retry_after) == ("failure", None)
    late = trio.run(lambda: run(x=1, timeout=0.1))
    assert (late.error["kind"], late.retry_after) == ("timeout", 4)
