"""Runs of flows through the library: their steps, answers to those that wait, retry, early results."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import attrs
import pytest
import trio
from flow_stage import FAILED, make_flows, mark, step
from store_stage import open_stage, outcomes

from hotpath.core.flow.tokens import ExpiredTokenError, ForgedTokenError, NotATokenError
from hotpath.core.notes import Early
from hotpath.errors import BadArgsError, NotSuspendedError, UnknownJobError, UsageError
from hotpath.model import State
from hotpath.store import completions

NOBODY = UUID(int=7)
FORM = {
    "type": "object",
    "properties": {"amount": {"type": "integer"}, "why": {"type": "string"}},
    "required": ["amount"],
}


@attrs.define(eq=False)
class Scene:
    """A client, and a worker that runs no flow but says what one would."""

    client: object
    flowing: object

    async def run_in_hand(self):
        """A run, the worker's session that has it, and its hand."""
        session, hand = await self.flowing.in_hand()
        return hand.ids[0], session, hand

    async def suspended(self, *keys, **value):
        """A run that is parked behind these steps."""
        run, session, hand = await self.run_in_hand()
        said = {"required": 1, "until": None, "form": None} | value
        noted = [(hand, 0, note) for key in keys for note in (step(run, key), mark(f"suspend:{key}", said))]
        assert await self.flowing.note(session, *noted) == [True]
        await self.flowing.park(session, hand, events=dict.fromkeys(keys, 0))
        return run

    async def ended(self, *steps, state=2, payload=FAILED):
        """A run that has ended, with these steps (made by `step`'s arguments)."""
        run, session, hand = await self.run_in_hand()
        for at, (key, more) in enumerate(steps):
            note = step(run, key, at=1_000_000 + at * 1000, **more)
            assert await self.flowing.note(session, (hand, 0, note)) == [True]
        await session.cycle([outcomes(hand, state=state, payload=payload)], None)
        return run

    async def events(self, run):
        """What was said to the run: (key, approved, payload, approver)."""
        recalled = await self.flowing.recall(run)
        return [
            (key, event.approved, event.payload, event.approver)
            for key, events in recalled.events.items()
            for event in events
        ]


@pytest.fixture
async def scene(database_url, client_of):
    """One in a fresh database."""
    async with open_stage(database_url) as stage, client_of() as client:
        yield Scene(client, await make_flows(stage))


# ---------------------------------------------------------------- looking


async def test_steps_are_left_out_of_lists(scene):
    """`jobs` has runs and ordinary jobs; steps come with `steps`, or alone with `parent`."""
    loose = await scene.client.enqueue("score", {"x": 1})
    run = await scene.ended(("a", {}), ("l[0]/b", {"state": 2, "outcome": FAILED}), ("l[1]/b", {}))
    assert {job.id for job in await scene.client.jobs()} == {run, loose}
    both = await scene.client.jobs(steps=True)
    assert [job.id for job in both] == sorted((job.id for job in both), reverse=True)
    assert sorted((job.kind, job.step or "") for job in both) == [
        ("flow", ""), ("script", ""), ("step", "a"), ("step", "l[0]/b"), ("step", "l[1]/b"),
    ]  # fmt: skip
    steps = await scene.client.jobs(parent=run)
    assert [(job.step, job.iteration, job.parent) for job in steps] == [
        ("l[1]/b", "1", run), ("l[0]/b", "0", run), ("a", "", run),
    ]  # fmt: skip
    assert type(steps[0].parent) is UUID
    (failed,) = await scene.client.jobs(parent=run, state="failure")
    assert failed == await scene.client.job(failed.id)
    assert {job.id for job in await scene.client.jobs(state="failure")} == {run}
    assert {job.id for job in await scene.client.jobs(state="failure", steps=True)} == {run, failed.id}
    assert await scene.client.jobs(parent=loose) == []
    with pytest.raises(UnknownJobError):
        await scene.client.jobs(parent=NOBODY)


async def test_pages_of_steps(scene):
    """The steps of a run come page by page, each once, the last begun first."""
    run = await scene.ended(*((f"l[{k}]/b", {}) for k in range(7)))
    found, before = [], None
    while page := await scene.client.jobs(parent=run, limit=3, before=before):
        found += [job.step for job in page]
        before = page[-1].id
    assert found == [f"l[{k}]/b" for k in reversed(range(7))]


async def test_steps_elsewhere(scene):
    """A step that waits in the queue, or runs with another worker, is a step all the same: left out of lists,
    and among the steps of its run.
    """
    run, session, hand = await scene.run_in_hand()
    child = await scene.flowing.send(session, hand, key="s[2]/far")
    other = await scene.flowing.scorer()
    for state in (State.QUEUED, State.RUNNING):
        if state is State.RUNNING:
            await scene.flowing.claim_child(other)
        assert {job.id for job in await scene.client.jobs()} == {run}
        assert {job.id for job in await scene.client.jobs(state=state)} <= {run}
        (job,) = await scene.client.jobs(parent=run)
        assert (job.id, job.state, job.kind, job.step) == (child, state, "step", "s[2]/far")
        assert (job.parent, job.iteration, job.script, job.args) == (run, "2", "score", {"x": 5})
        assert job == await scene.client.job(child)
        assert {job.id for job in await scene.client.jobs(steps=True)} == {run, child}
        (found,) = await scene.client.steps(run)
        assert (found.key, found.state) == ("s[2]/far", state)


async def test_many_steps_behind_a_page(scene):
    """I10: a page in front of which a run of 10,000 steps lies is read along the key."""
    jobs = [await scene.client.enqueue("score", {"x": k}) for k in range(3)]
    run = await scene.ended()
    async with scene.client.database.connection() as connection:
        await connection.execute(
            """insert into hotpath.job_done (id, scheduled_for, tag, script, priority, attempt, state,
                parent, step)
            select encode(overlay(uuid_send(gen_random_uuid()) placing substring(uuid_send($1) from 1 for 7)
                from 1), 'hex')::uuid, now(), 1, 1, 0, 1, 1, $1, 'l[' || k || ']/b'
            from generate_series(1, 10000) k""",
            run,
        )
        await connection.execute("analyze hotpath.job_done")
    with trio.fail_after(40):
        assert [job.id for job in await scene.client.jobs(limit=4)] == [run, *reversed(jobs)]
        assert len(await scene.client.jobs(parent=run, limit=50)) == 50
        assert await scene.client.jobs(state="success", limit=4) == []


async def test_waits_are_told(scene):
    """A run says what it waits for; one that waits for nothing says so; a run that is none is an error."""
    run = await scene.suspended("a", form=FORM, required=2)
    (wait,) = await scene.client.waits(run)
    assert (wait.kind, wait.key, wait.required, wait.said, wait.form) == ("suspend", "a", 2, 0, FORM)
    assert [each.key for each in await scene.client.steps(run)] == ["a"]
    assert await scene.client.waits(await scene.client.enqueue("score", {})) == []
    for ask in (scene.client.waits, scene.client.steps, scene.client.resume, scene.client.resume_token):
        with pytest.raises(UnknownJobError):
            await ask(NOBODY)


# ---------------------------------------------------------------- answers


async def test_resume(scene):
    """An approval is kept with its payload and who gave it, wakes the run, and counts once."""
    run = await scene.suspended("a")
    assert not await scene.flowing.due(run)
    assert await scene.client.resume(run, {"ok": [1, None]}, approver="Ann") == "a"
    assert await scene.flowing.due(run)
    assert await scene.events(run) == [("a", True, b'{"ok":[1,null]}', "Ann")]
    with pytest.raises(NotSuspendedError, match="has its answer"):
        await scene.client.resume(run)
    assert len(await scene.events(run)) == 1


async def test_disapprove(scene):
    """A disapproval needs no payload that fits the form, and ends the wait."""
    run = await scene.suspended("a", form=FORM, required=3)
    await scene.client.resume(run, approve=False)
    assert await scene.events(run) == [("a", False, b"null", None)]
    with pytest.raises(NotSuspendedError):
        await scene.client.resume(run, {"amount": 1})


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (None, "field `amount` is missing"),
        ({"amount": "much"}, "field `amount`: expected int, got str"),
        ({"amount": 1, "why": 2}, "field `why`"),
        ([1], "one JSON object"),
        ({"amount": 1, "why": "a\0b"}, "field `why`"),
    ],
)
async def test_payload_that_the_form_does_not_take(scene, payload, said):
    """A payload is checked against the form: what is wrong is named with the step, and nothing is said to the
    run.
    """
    run = await scene.suspended("a", form=FORM)
    with pytest.raises(BadArgsError, match="payload for step a") as refused:
        await scene.client.resume(run, payload)
    assert said in str(refused.value)
    assert await scene.events(run) == []
    await scene.client.resume(run, {"amount": 1})


@pytest.mark.parametrize("payload", [object(), float("nan"), "a\0b", {"x": "\ud800"}])
async def test_payload_that_cannot_be_stored(scene, payload):
    """Without a form any JSON will do, and nothing else."""
    run = await scene.suspended("a")
    with pytest.raises(BadArgsError, match="payload for step a"):
        await scene.client.resume(run, payload)
    assert await scene.events(run) == []


async def test_form_of_unknown_words(scene):
    """A form that says what we cannot check keeps nobody from answering."""
    run = await scene.suspended("a", form={"properties": {"x": {"enum": [1.5, {}]}}})
    await scene.client.resume(run, {"x": 1.5})


async def test_which_of_several(scene):
    """Of a run that waits behind several steps, the one is answered that is named: by key, or by id if that
    is enough.
    """
    run = await scene.suspended("l[0]/ask", "l[1]/ask", "boss")
    with pytest.raises(UsageError, match=r"boss, l\[0\]/ask, l\[1\]/ask"):
        await scene.client.resume(run)
    with pytest.raises(UsageError, match=r"l\[0\]/ask, l\[1\]/ask; say which"):
        await scene.client.resume(run, step="ask")
    with pytest.raises(NotSuspendedError, match="nobody, but of boss"):
        await scene.client.resume(run, step="nobody")
    assert await scene.client.resume(run, step="l[1]/ask") == "l[1]/ask"
    assert await scene.client.resume(run, step="ask") == "l[0]/ask"
    assert await scene.client.resume(run) == "boss"


async def test_not_suspended(scene):
    """Who resumes what is not suspended is told what it is."""
    loose = await scene.client.enqueue("score", {})
    ended = await scene.ended(("a", {}))
    (one,) = await scene.client.jobs(parent=ended)
    running, _, _ = await scene.run_in_hand()
    for job, said in (
        (loose, "not a run of a flow"),
        (ended, r"has ended \(failure\)"),
        (one.id, f"step a of run {ended}"),
        (running, "it is running"),
    ):
        with pytest.raises(NotSuspendedError, match=said):
            await scene.client.resume(job)
    late = await scene.suspended("a", until=1_000_000)
    with pytest.raises(NotSuspendedError):
        await scene.client.resume(late)


# ---------------------------------------------------------------- tokens


async def test_token_opens_once(scene):
    """A token answers the step it was made for, once; a second token of the step is another."""
    run = await scene.suspended("a", "b", required=2, form=FORM)
    first, second = [await scene.client.resume_token(run, "a") for _ in range(2)]
    with pytest.raises(BadArgsError, match="amount"):
        await scene.client.resume_by_token(first, {})
    said = await scene.client.resume_by_token(first, {"amount": 1}, approver="Ann")
    assert (said.run, said.key) == (run, "a")
    with pytest.raises(NotSuspendedError, match="used"):
        await scene.client.resume_by_token(first, {"amount": 2})
    await scene.client.resume_by_token(second, approve=False)
    assert await scene.events(run) == [("a", True, b'{"amount":1}', "Ann"), ("a", False, b"null", None)]


async def test_token_that_opens_nothing(scene):
    """Forged, cut, expired or senseless tokens are refused, each with its reason, and say nothing to the
    run.
    """
    run = await scene.suspended("a")
    token = await scene.client.resume_token(run)
    middle = len(token) // 2
    forged = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    for text, error in ((forged, ForgedTokenError), ("", NotATokenError), ("yes", NotATokenError)):
        with pytest.raises(error):
            await scene.client.resume_by_token(text)
    short = await scene.client.resume_token(run, expires=0.000_001)
    with pytest.raises(ExpiredTokenError):
        await scene.client.resume_by_token(short)
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="expires must be"):
            await scene.client.resume_token(run, expires=seconds)
    assert await scene.events(run) == []
    assert await scene.client.cancel(run)
    with pytest.raises(NotSuspendedError, match="has ended"):
        await scene.client.resume_by_token(token)


async def test_how_long_a_token_is_good(scene):
    """By default a token is good as long as the run waits, or a month."""
    until = 4_000_000_000_000_000
    run, endless = await scene.suspended("a", until=until), await scene.suspended("a")
    _, said = await scene.client.new_token(run)
    assert said.expires_us == until
    _, said = await scene.client.new_token(endless)
    days = (datetime.fromtimestamp(said.expires_us / 1e6, UTC) - datetime.now(UTC)).total_seconds() / 86400
    assert days == pytest.approx(30, abs=0.1)


# ---------------------------------------------------------------- retry, early results


async def test_retry_from_a_step(scene):
    """A run is run again from a step that is named by its key, or by its id where only one step has it."""
    steps = [("a", {}), ("l[0]/b", {}), ("l[1]/b", {}), ("s/c", {"state": 2, "outcome": FAILED})]
    run = await scene.ended(*steps)
    for name, said in (
        ("b", r"several steps called b have ended: l\[0\]/b, l\[1\]/b; say which"),
        ("l", r"l is no step that ran itself; give one within it: l\[0\]/b, l\[1\]/b"),
        ("z", "no step z that has ended"),
    ):
        with pytest.raises(UsageError, match=said):
            await scene.client.retry(run, from_step=name)
    assert (await scene.client.job(run)).state is State.FAILURE
    assert await scene.client.retry(run, from_step="c")
    assert not await scene.client.retry(run, from_step="c")
    assert [each.key for each in await scene.client.steps(run)] == ["a", "l[0]/b", "l[1]/b"]
    with pytest.raises(UnknownJobError):
        await scene.client.retry(NOBODY, from_step="c")


async def test_retry_that_cannot_be(scene):
    """A step is not retried alone, nor an ordinary job from a step: what to do instead is said."""
    run = await scene.ended(("a", {}))
    (one,) = await scene.client.jobs(parent=run)
    with pytest.raises(UsageError, match=f"step a of run {run}"):
        await scene.client.retry(one.id)
    other, session = await scene.client.enqueue("score", {}), await scene.flowing.scorer()
    await session.cycle([outcomes(await scene.flowing.claim_child(session))], None)
    with pytest.raises(UsageError, match="not a run of a flow"):
        await scene.client.retry(other, from_step="a")
    assert await scene.client.retry(run)
    assert await scene.client.steps(run) == []


@asynccontextmanager
async def awaited(function, *args):
    """Call it meanwhile; the list has its result."""
    results, done = [], trio.Event()

    async def call():
        results.append(await function(*args))
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        with trio.fail_after(40):
            yield results
            await done.wait()


@pytest.mark.parametrize("value", ["7", "null"])
async def test_early_result(scene, value, monkeypatch):
    """Who waits for a run's result has its early result before it ends; who waits for its end waits on."""
    monkeypatch.setattr(completions, "LAST_POLL", 0.05)
    run, session, hand = await scene.run_in_hand()
    async with awaited(scene.client.wait, run) as ends:
        async with awaited(scene.client.result, run) as results:
            with trio.fail_after(40):
                while scene.client.statistics().waiting < 2:  # noqa: ASYNC110 - the client tells nobody
                    await trio.sleep(0.001)
            assert results == []
            assert await scene.flowing.note(session, (hand, 0, Early(value.encode()))) == [True]
        assert results == [{"7": 7, "null": None}[value]]
        assert await scene.client.result(run) == results[0]
        assert ends == []
        await session.cycle([outcomes(hand, payload=b'"whole"')], None)
    assert [job.state for job in ends] == [State.SUCCESS]
    assert await scene.client.result(run) == "whole"


async def test_both_ends_of_a_run_are_awaited_at_once(scene, monkeypatch):
    """Who waits for a run's end and for its result, and has both looked at together, is answered in both."""
    monkeypatch.setattr(completions, "LAST_POLL", 0.0)  # so each look is at both, and marks both
    monkeypatch.setattr(completions, "_HOLD", 0.001)
    run, session, hand = await scene.run_in_hand()

    async def marked_until():
        return await scene.flowing.stage.connection.fetchval(
            "select max(until) from hotpath.waiter where job = $1", run
        )

    async with awaited(scene.client.wait, run) as ends, awaited(scene.client.result, run) as results:
        with trio.fail_after(40):
            while scene.client.statistics().waiting < 2:  # noqa: ASYNC110 - the client tells nobody
                await trio.sleep(0.001)
            for _ in range(2):  # the first may have begun before
                before = await marked_until()
                while await marked_until() == before:  # noqa: ASYNC110 - nor this
                    await trio.sleep(0.001)
        await session.cycle([outcomes(hand, payload=b'"whole"')], None)
    assert ([job.state for job in ends], results) == ([State.SUCCESS], ["whole"])
