"""`hotpath flow`, as a user runs it."""

import textwrap

import pytest

GOOD = """
value:
  modules:
    - id: a
      summary: Adds
      value: {type: script, path: add, input_transforms: {x: {type: javascript, expr: flow_input.x}}}
"""
BAD = """
value:
  modules:
    - id: a
      value: {type: script, path: add, input_transforms: {}}
    - id: b
      sleeep: 1
      value: {type: aiagent}
    - id: c
      value: {type: identity}
      stop_after_if: {expr: results.nope}
"""


@pytest.fixture
def flows(workspace):
    """The workspace, with a flow that is right, one that is wrong, and one that is code."""
    for name, text in (("good", GOOD), ("bad", BAD)):
        (workspace / f"{name}.flow").mkdir()
        (workspace / f"{name}.flow" / "flow.yaml").write_text(text)
    (workspace / "code.py").write_text(
        textwrap.dedent("""
            import hotpath
            async def main():
                await hotpath.sleep(1)
        """)
    )
    return workspace


def test_check(hotpath, flows):
    """Flows that are right are said to be, flow files and code alike."""
    done = hotpath("flow", "check", "good", "code", flows / "good.flow" / "flow.yaml")
    assert (done.code, done.out, done.err) == (0, "good: ok\ncode: ok\ngood: ok\n", "")


UNREADABLE = """
value:
  modules:
    - id: a
      value: {type: script, path: add, input_transforms: {x: {type: javascript, expr: "flow_input.x +* 2"}}}
"""


def test_unreadable_javascript_is_found_before_anything_runs(hotpath, workspace):
    """`dedicate`, `deploy` and `push` find JavaScript that is none as `flow check` does, in one line."""
    (workspace / "js.flow").mkdir()
    (workspace / "js.flow" / "flow.yaml").write_text(UNREADABLE)
    said = hotpath("flow", "check", "js").err.partition("js.flow/flow.yaml")[2].splitlines()[0]
    assert said.startswith(":5: step a: ")
    assert "SyntaxError" in said
    for command in (["dedicate", "js", "--drain"], ["push", "js"]):
        done = hotpath(*command, stdin=b'{"x": 1}')
        assert done.code != 0
        assert said in done.err
    deployed = {each["script"]: each for each in hotpath("deploy", "--json").documents}
    assert deployed["js"]["change"] == "failed"
    assert said in deployed["js"]["error"]


def test_check_says_all(hotpath, flows):
    """All that is wrong is said at once, each with file, line and step."""
    done = hotpath("flow", "check", "bad", "good", "nothing", "add")
    assert (done.code, done.out) == (1, "good: ok\n")
    lines = [line.partition("bad.flow/flow.yaml")[2] for line in done.err.splitlines()[:4]]
    assert lines[0] == ":4: step a: its script's `main` needs `x`: give it in `input_transforms`"
    assert lines[1].startswith(":7: step b: `sleeep` is unknown; known here are id, value, summary,")
    assert lines[2] == ":8: step b: `value.type` `aiagent` is not supported: AI agents do not run here"
    assert lines[3] == ":11: step c: `results.nope`: there is no step nope"
    assert done.err.splitlines()[4].startswith("hotpath: no script nothing")
    assert done.err.splitlines()[5].startswith("hotpath: add is a script and no flow")


def test_check_reads_javascript(hotpath, flows):
    """An expression that is no JavaScript is wrong; one that only fails when it runs is not."""
    module = "- {{id: {0}, value: {{type: identity}}, skip_if: {{expr: '{1}'}}}}\n"
    texts = ["flow_input.x +", "JSON.parse(flow_input.x)", "let a = 1; return a", "{a: 1}", "throw 5"]
    steps = [module.format(f"s{at}", text) for at, text in enumerate(texts)]
    (flows / "js.yaml").write_text("value:\n  modules:\n  " + "  ".join(steps))
    done = hotpath("flow", "check", flows / "js.yaml")
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert "js.yaml:3: step s0: `flow_input.x +`: SyntaxError" in line


def test_check_as_json(hotpath, flows):
    """With --json each flow is one document."""
    done = hotpath("flow", "check", "--json", "good", "bad", "nothing")
    good, bad, nothing = done.documents
    assert (done.code, done.err) == (1, "")
    assert good == {"flow": "good", "ok": True, "errors": []}
    assert not bad["ok"]
    places = [(each["line"], each["step"]) for each in bad["errors"]]
    assert places == [(4, "a"), (7, "b"), (8, "b"), (11, "c")]
    assert bad["errors"][0]["file"] == str(flows / "bad.flow" / "flow.yaml")
    assert nothing["errors"][0]["line"] is None


def test_graph(hotpath, flows):
    """A flow is drawn; one with faults, and a script, are refused with one line."""
    done = hotpath("flow", "graph", "good")
    assert done.code == 0
    assert done.out.startswith("flowchart TD\n")
    assert '["a: Adds<br/>add"]' in done.out
    for name, words in (("bad", "step b"), ("add", "is a script")):
        done = hotpath("flow", "graph", name)
        assert (done.code, done.out) == (1, "")
        assert words in done.error
    assert hotpath("flow", "graph", "good", "--format", "png").code == 2
    assert hotpath("flow").code == 0
