"""Runs of flows on the command line: seeing them, answering them, running them again, canceling them."""

import re
from uuid import UUID

import pytest
import trio
from flow_stage import FAILED, make_flows, mark, step
from store_stage import open_stage, outcomes

from hotpath.core.notes import Early

FORM = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
FLOW = """
summary: one branch
value:
  modules:
    - id: br
      value:
        type: branchone
        default: []
        branches:
          - expr: "true"
            modules:
              - id: c
                value: {type: identity}
"""
ERROR = {"name": "E", "message": "no", "traceback": "", "kind": "exception"}


@pytest.fixture
def scene(database_url):
    """Plays what a worker would do with a new run: `scene(play)` calls `play(flowing, session, hand)`, and
    returns the run's id and what that returned.
    """

    def played(play):
        async def run():
            async with open_stage(database_url) as stage:
                flowing = await make_flows(stage)
                session, hand = await flowing.in_hand()
                return str(hand.ids[0]), await play(flowing, session, hand)

        return trio.run(run)

    return played


def suspends(*keys, **value):
    """The run is parked behind these steps."""

    async def play(flowing, session, hand):
        said = {"required": 1, "until": None, "form": None} | value
        run = hand.ids[0]
        noted = [(hand, 0, note) for key in keys for note in (step(run, key), mark(f"suspend:{key}", said))]
        await flowing.note(session, *noted)
        await flowing.park(session, hand, events=dict.fromkeys(keys, 0))

    return play


async def fails(flowing, session, hand):
    """The run fails in its loop's second iteration."""
    run = hand.ids[0]
    for at, (key, more) in enumerate(
        {"a": {}, "l[0]/b": {}, "l[1]/b": {"state": 2, "outcome": FAILED}}.items()
    ):
        note = step(run, key, at=1_000_000 + at * 1000, **more)
        await flowing.note(session, (hand, 0, note))
    error = FAILED[:-1] + b', "step": "b", "iteration": "1"}'
    await session.cycle([outcomes(hand, state=2, payload=error)], None)


async def sends(flowing, session, hand):
    """The run waits for a step that went through the queue; the step's id."""
    child = await flowing.send(session, hand, key="far")
    await flowing.park(session, hand, children=(child.bytes,))
    return str(child)


def test_run_and_its_steps(hotpath, scene):
    """`job` of a run tells where it failed and draws its steps; `job` of a step, whose it is; `jobs` has
    steps when it is asked for them.
    """
    run, _ = scene(fails)
    shown = hotpath("job", run)
    assert (shown.code, shown.err) == (0, "")
    assert re.search(r"^error +E: no \(exception\) in step b, iteration 1$", shown.out, re.MULTILINE)
    tree = shown.out.partition("\n\n")[2]
    assert [re.sub(r"(?<=\w)  .*", "", line) for line in tree.splitlines()] == [
        "├─ ✓ a", "└─ ✗ l: 2 iterations, 1 failed", "   ├─ ✓ [0] b", "   └─ ✗ [1] b",
    ]  # fmt: skip
    plain = hotpath("job", run, PYTHONIOENCODING="ascii").out.partition("\n\n")[2]
    assert plain.startswith("|- + a")
    assert "E: no" in tree
    (document,) = hotpath("job", run, "--json").documents
    assert (document["kind"], document["parent"], document["step"], document["iteration"]) == (
        "flow", None, None, None,
    )  # fmt: skip
    told = ("step", "iteration", "state", "error")
    assert [tuple(each[name] for name in told) for each in document["steps"]] == [
        ("a", "", "success", None), ("l[0]/b", "0", "success", None), ("l[1]/b", "1", "failure", ERROR),
    ]  # fmt: skip
    assert document["waits_for"] == []
    failed = document["steps"][-1]["id"]
    (one,) = hotpath("job", failed, "--json").documents
    assert (one["kind"], one["parent"], one["step"], one["iteration"]) == ("step", run, "l[1]/b", "1")
    assert "steps" not in one
    shown = hotpath("job", failed).out
    assert re.search(rf"^run +{run}$", shown, re.MULTILINE)
    assert re.search(r"^step +l\[1\]/b$", shown, re.MULTILINE)

    assert [job["id"] for job in hotpath("jobs", "--json").documents] == [run]
    assert len(hotpath("jobs", "--steps", "--json").documents) == 4
    listed = hotpath("jobs", "--parent", run, "--limit", "2").out.splitlines()
    assert listed[0].split()[:3] == ["ID", "STATE", "STEP"]
    assert [line.split()[1:3] for line in listed[1:]] == [["failure", "l[1]/b"], ["success", "l[0]/b"]]
    unknown = hotpath("jobs", "--parent", UUID(int=7))
    assert (unknown.code, unknown.out) == (1, "")


def test_branches_in_the_tree(hotpath, scene, workspace):
    """Where the workspace has the flow, branches are called so; where its file is bad, the run is shown all
    the same.
    """

    async def branches(flowing, session, hand):
        await flowing.note(session, (hand, 0, step(hand.ids[0], "br[0]/c")))

    run, _ = scene(branches)
    assert "br: 1 iteration" in hotpath("job", run).out
    file = workspace / "flow_x.flow" / "flow.yaml"
    file.parent.mkdir()
    file.write_text(FLOW)
    assert "br: 1 branch" in hotpath("job", run).out
    file.write_text("[")
    assert "br: 1 iteration" in hotpath("job", run).out


def test_job_says_what_a_run_waits_for(hotpath, scene):
    """`job` of a parked run says what it waits for, in words and as JSON."""
    run, _ = scene(suspends("a", required=2, until=4_000_000_000_000_000, form=FORM))
    shown = hotpath("job", run).out
    assert re.search(
        r"^waiting +waits for approval of step a \(0 of 2\) since \S+Z, until 2096-10-02T07:06:40.000Z$",
        shown,
        re.MULTILINE,
    )
    assert re.search(r"^scheduled for  when it is woken$", shown, re.MULTILINE)
    assert "◷ a" in shown
    assert "waits: 0 of 2 approvals until 2096-10-02T07:06:40.000Z" in shown
    (wait,) = hotpath("job", run, "--json").documents[0]["waits_for"]
    assert wait.pop("since").endswith("Z")
    assert wait == {
        "kind": "suspend", "step": "a", "until": "2096-10-02T07:06:40Z", "required": 2, "answers": 0,
        "form": FORM,
    }  # fmt: skip

    async def sleeps(flowing, session, hand):
        until = {"until": 4_000_000_000_000_000}
        await flowing.note(session, (hand, 0, mark("sleep:a", until)), (hand, 0, mark("retry:b", until)))
        await flowing.park(session, hand, until_us=until["until"])

    shown = hotpath("job", scene(sleeps)[0]).out
    assert "sleeps until 2096-10-02T07:06:40.000Z behind step a" in shown
    assert "waits until 2096-10-02T07:06:40.000Z to run step b again" in shown
    run, child = scene(sends)
    shown = hotpath("job", run).out
    assert f"waits for step far on tag score: job {child}" in shown
    assert "◷ far  waits: on tag score" in shown
    (wait,) = hotpath("job", run, "--json").documents[0]["waits_for"]
    assert wait == {
        "kind": "child", "step": "far", "job": child, "script": "score", "tag": "score", "state": "queued",
    }  # fmt: skip


def test_resume(hotpath, scene):
    """`resume RUN` answers the run once, with a payload that its form takes, or says why not."""
    run, _ = scene(suspends("a", form=FORM))
    for payload, said in (
        (None, "`amount` is missing"),
        ('{"amount": "x"}', "field `amount`"),
        ("{x}", "JSON"),
    ):
        refused = hotpath("resume", run, *([payload] if payload else []))
        assert (refused.code, refused.out) == (1, "")
        assert said in refused.error
    done = hotpath("resume", run, '{"amount": 3}', "--approver", "Ann")
    assert (done.code, done.out, done.err) == (0, f"{run} approved behind step a\n", "")
    again = hotpath("resume", run, '{"amount": 3}')
    assert (again.code, again.out) == (1, "")
    assert "has its answer" in again.error
    assert "waits for approval" not in hotpath("job", run).out


def test_resume_of_one_of_several(hotpath, scene):
    """`--step` says which; `--disapprove` refuses it."""
    run, _ = scene(suspends("l[0]/ask", "boss"))
    several = hotpath("resume", run)
    assert several.code == 2
    assert "boss, l[0]/ask" in several.error
    done = hotpath("resume", run, "--step", "ask", "--disapprove", "--json")
    assert done.documents == [{"id": run, "step": "l[0]/ask", "approved": False}]


def test_resume_by_token(hotpath, scene):
    """A token answers once; forged, cut, expired ones, and one of a run that has ended, do nothing."""
    run, _ = scene(suspends("a", required=5))
    token = hotpath("resume", run, "--token").out.strip()
    done = hotpath("resume", token, '"yes"')
    assert (done.code, done.out, done.err) == (0, f"{run} approved behind step a\n", "")
    (short,) = hotpath("resume", run, "--token", "--expires", "0.000001", "--json").documents
    assert (short["id"], short["step"]) == (run, "a")
    fresh = hotpath("resume", run, "--token", "--expires", "3600").out.strip()
    forged = ("B" if token[40] == "A" else "A").join((token[:40], token[41:]))
    for text, said in (
        (token, "used"),
        (forged, "forged"),
        (token[:20], "not a resume token"),
        (short["token"], "expired"),
    ):
        refused = hotpath("resume", text)
        assert (refused.code, refused.out) == (1, ""), said
        assert said in refused.error
    assert hotpath("cancel", run).out == f"{run} canceled\n"
    assert "has ended" in hotpath("resume", fresh).error
    assert "has ended (canceled)" in hotpath("resume", run).error
    assert "has ended (canceled)" in hotpath("resume", run, "--token").error


WRONGLY = [
    (["nonsense", "--token"], "--token takes the id of a run"),
    ([str(UUID(int=7)), "1", "--token"], "--token takes no JSON"),
    ([str(UUID(int=7)), "--expires", "3"], "--expires is of a token"),
    (["nonsense", "--step", "a"], "leave out --step"),
]


def test_resume_wrongly(hotpath, subtests):
    """Options that do not go together are wrong usage."""
    for arguments, said in WRONGLY:
        with subtests.test(ascii(arguments)[:60]):
            done = hotpath("resume", *arguments)
            assert (done.code, done.out) == (2, "")
            assert said in done.error


def test_resume_of_what_is_no_run(hotpath):
    """An ordinary job, and an id that nobody knows, are named as what they are."""
    job = hotpath("push", "add", "--ids", "-", stdin=b'{"x": 1}\n').out.strip()
    done = hotpath("resume", job)
    assert (done.code, "not a run of a flow" in done.error) == (1, True)
    assert hotpath("resume", UUID(int=7)).code == 1


def test_retry_from(hotpath, scene):
    """`retry RUN --from STEP` runs it again from there; an id that several steps have is refused with their
    keys, a step alone with what to do.
    """
    run, _ = scene(fails)
    several = hotpath("retry", run, "--from", "b")
    assert (several.code, several.out) == (2, "")
    assert "l[0]/b, l[1]/b" in several.error
    failed = hotpath("job", run, "--json").documents[0]["steps"][-1]["id"]
    alone = hotpath("retry", failed)
    assert (alone.code, alone.out) == (2, "")
    assert f"step l[1]/b of run {run}" in alone.error
    assert hotpath("retry", run, failed, "--from", "a").code == 2
    done = hotpath("retry", run, "--from", "l[1]/b")
    assert (done.code, done.out) == (0, f"{run} queued again from step l[1]/b\n")
    (document,) = hotpath("job", run, "--json").documents
    assert [each["step"] for each in document["steps"]] == ["a", "l[0]/b"]
    assert "has not ended (queued)" in hotpath("retry", run, "--from", "a").error


def test_retry_of_several_goes_on(hotpath, scene):
    """Of several jobs, one that cannot be retried is named, and the others are retried all the same."""
    run, _ = scene(fails)
    failed = hotpath("job", run, "--json").documents[0]["steps"][-1]["id"]
    done = hotpath("retry", failed, run)
    assert (done.code, done.out) == (1, f"{run} queued again\n")
    assert "cannot be retried alone" in done.error
    assert hotpath("job", run, "--json").documents[0]["steps"] == []


def test_cancel_of_a_run(hotpath, scene):
    """`cancel` of a run cancels what is below it too."""
    run, child = scene(sends)
    assert hotpath("cancel", run).out == f"{run} canceled\n"
    states = {job["id"]: job["state"] for job in hotpath("jobs", "--steps", "--json").documents}
    assert states == {run: "canceled", child: "canceled"}


def test_early_result_is_no_end(hotpath, scene):
    """A run with an early result still runs for `job`."""

    async def answers(flowing, session, hand):
        await flowing.note(session, (hand, 0, Early(b"7")))

    run, _ = scene(answers)
    (document,) = hotpath("job", run, "--json").documents
    assert (document["state"], document["result"]) == ("running", None)


ASKS = """
summary: asks before it goes on
value:
  modules:
    - id: a
      value:
        type: rawscript
        language: python3
        content: |
          def main(x: int):
              return x + 1
        input_transforms:
          x: {type: javascript, expr: flow_input.x}
      suspend:
        required_events: 1
        resume_form:
          schema: {type: object, properties: {amount: {type: integer}}, required: [amount]}
    - id: b
      value:
        type: rawscript
        language: python3
        content: |
          def main(y, said):
              return [y, said]
        input_transforms:
          y: {type: javascript, expr: results.a}
          said: {type: javascript, expr: resume}
schema:
  type: object
  properties: {x: {type: integer}}
  required: [x]
"""


@pytest.mark.slow
def test_a_flow_from_start_to_end(hotpath, workspace):
    """A real worker parks the run, `resume` answers by the form that the flow has, the next worker ends it,
    and `retry --from` runs its last step again.
    """
    file = workspace / "asks.flow" / "flow.yaml"
    file.parent.mkdir()
    file.write_text(ASKS)
    run = hotpath("push", "asks", "--ids", "-", stdin=b'{"x": 1}\n').out.strip()
    assert hotpath("dedicate", "asks", "--drain", "--quiet").code == 0
    assert "waits: 0 of 1 approvals" in hotpath("job", run).out
    assert "field `amount`" in hotpath("resume", run, '{"amount": "x"}').error
    assert hotpath("resume", run, '{"amount": 5}').code == 0
    assert hotpath("dedicate", "asks", "--drain", "--quiet").code == 0
    (first,) = hotpath("job", run, "--json").documents
    assert (first["state"], first["result"]) == ("success", [2, {"amount": 5}])
    assert hotpath("retry", run, "--from", "b").code == 0
    assert hotpath("dedicate", "asks", "--drain", "--quiet").code == 0
    (again,) = hotpath("job", run, "--json").documents
    assert (again["state"], again["result"]) == ("success", first["result"])
    before, after = ({each["step"]: each["id"] for each in job["steps"]} for job in (first, again))
    assert before["a"] == after["a"]
    assert before["b"] != after["b"]
    assert [job["id"] for job in hotpath("jobs", "--json").documents] == [run]


@pytest.mark.slow
def test_run_here_of_a_flow_that_waits(hotpath, workspace):
    """`run --local` has nobody to go on with a run that waits: it says so, and leaves none behind."""
    file = workspace / "asks.flow" / "flow.yaml"
    file.parent.mkdir()
    file.write_text(ASKS)
    done = hotpath("run", "asks", "-a", "x=1", "--local")
    assert (done.code, done.out) == (1, "")
    assert "waits for approval of step a" in done.error
    assert [job["state"] for job in hotpath("jobs", "--json").documents] == ["canceled"]
