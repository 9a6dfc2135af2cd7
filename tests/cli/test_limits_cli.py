"""`hotpath limit` and `hotpath tag` as people call them, and scripts whose limits contradict themselves."""

from __future__ import annotations

import pytest
import trio
from store_stage import open_stage

SCRIPT = "import hotpath\nhotpath.settings({})\ndef main(x: int = 0, who: str = '') -> int:\n    return x\n"


@pytest.fixture
def alone(workspace):
    """A workspace without scripts."""
    for file in workspace.glob("*.py"):
        file.unlink()
    return workspace


@pytest.fixture
def flow_x(database_url):
    """A database with the script `flow_x`."""

    async def prepare():
        async with open_stage(database_url):
            pass

    trio.run(prepare)


def test_a_limit_is_set_shown_and_cleared(hotpath, flow_x):
    """What is set holds and is shown with who said so; cleared, the script's own holds again."""
    done = hotpath("limit", "set", "flow_x", "--concurrency", "4", "--rate", "10/1m", "--key", "$args[x]")
    assert (done.code, done.out) == (0, "flow_x: 4 at a time and 10 starts in 60 s for each $args[x]\n")
    (shown,) = hotpath("limit", "show", "--json").documents
    (limit,) = shown["limits"]
    assert limit["limit"] == {"concurrency": 4, "rate": [10, 60.0], "key": "$args[x]"}
    assert (limit["is_set"], limit["said"], limit["running"], limit["started"]) == (True, None, 0, 0)
    assert "4 at a time" in hotpath("limit", "show", "flow_x").out
    assert hotpath("limit", "set", "flow_x", "--none").out == "flow_x: no limit\n"
    assert hotpath("limit", "clear", "flow_x").out == "flow_x: no limit, as its version says\n"
    assert "nothing was set" in hotpath("limit", "clear", "flow_x").out
    assert hotpath("limit", "show").out == "no script has a limit\n"


BAD_LIMITS = [
    (("flow_x",), "--concurrency or --rate"),
    (("flow_x", "--concurrency", "0"), "`limit.concurrency` must be a whole number from 1"),
    (("flow_x", "--rate", "5/0s"), "seconds of `limit.rate` must be"),
    (("flow_x", "--rate", "0/5s"), "jobs of `limit.rate` must be"),
    (("flow_x", "--rate", "many"), "is no rate"),
    (("flow_x", "--concurrency", "1", "--key", "all"), "`limit.key` must name a field"),
    (("flow_x", "--concurrency", "1", "--key", "$args[x"), "fields are written $args[name]"),
    (("flow_x", "--none", "--concurrency", "1"), "leave out --concurrency"),
    (("flow_y", "--concurrency", "1"), "did you mean 'flow_x'"),
]


def test_limits_that_cannot_be(hotpath, flow_x, subtests):
    """One line that names the field and what is expected."""
    for given, names in BAD_LIMITS:
        with subtests.test(ascii(given)[:60]):
            done = hotpath("limit", "set", *given)
            assert done.code in (1, 2)
            assert done.out == ""
            assert names in done.error


def test_tags_that_contradict_each_other(hotpath, flow_x):
    """A worker that would listen to nothing of what it was told does not start."""
    done = hotpath("worker", "--tags", "a,flow_x,!flow*", "--drain")
    assert done.code == 2
    assert "--tags: '!flow*' excludes all of 'flow_x'" in done.error


def test_tags_are_paused_listed_and_resumed(hotpath, flow_x):
    """A pause says until when and why; `status` shows it."""
    assert hotpath("tag", "list").out == "no tag is paused\n"
    done = hotpath("tag", "pause", "far/away", "--for", "2h", "--reason", "moving house")
    assert done.code == 0
    assert "moving house" in done.out
    assert "far/away: no script or job has this tag so far" in done.error
    assert hotpath("tag", "pause", "flow_x", "--for", "1s").err == ""
    assert "there are no patterns here" in hotpath("tag", "pause", "flow*", "--for", "1s").error
    for tag in ("flow_x", "flow*"):
        hotpath("tag", "resume", tag)
    assert hotpath("tag", "pause", "now", "--json").documents[0]["until"] is None
    (listed,) = hotpath("tag", "list", "--json").documents
    assert [one["tag"] for one in listed["paused"]] == ["far/away", "now"]
    status = hotpath("status").out
    assert "PAUSED" in status
    assert "moving house" in status
    assert hotpath("tag", "resume", "far/away").out == "far/away: resumed\n"
    assert hotpath("tag", "resume", "far/away").out == "far/away was not paused\n"
    assert hotpath("tag", "workspace", "here").out == "here\n"
    assert hotpath("tag", "workspace", "--json").documents == [{"workspace": "here"}]


BAD_PAUSES = [
    (("a", "--for", "soon"), "is no time"),
    (("a", "--for", "0s"), "is no time"),
    (("a", "--until", "2020-01-01T00:00:00Z"), "until must be a time to come"),
    (("a", "--until", "2020-01-01", "--for", "1s"), "--until and --for"),
    (("",), "tag must be 1 to 255"),
    (("a", "--reason", "x" * 1001), "reason must be text of at most"),
]


def test_pauses_that_cannot_be(hotpath, flow_x, subtests):
    """One line that names the field."""
    for given, names in BAD_PAUSES:
        with subtests.test(ascii(given)[:60]):
            done = hotpath("tag", "pause", *given)
            assert (done.code, done.out) == (2, "")
            assert names in done.error


BAD_SETTINGS = [
    ("limit=0", "`limit.concurrency` must be a whole number from 1 to"),
    ("limit=hotpath.Limit()", "`limit` must say `concurrency` or `rate`"),
    ("limit=hotpath.Limit(rate=(5, 0))", "seconds of `limit.rate`"),
    ("limit=hotpath.Limit(rate=(0, 5))", "jobs of `limit.rate`"),
    ("limit=hotpath.Limit(rate=5)", "`limit.rate` must be [jobs, seconds]"),
    ("limit=hotpath.Limit(concurrency=1, key='x')", "`limit.key` must name a field"),
    ("limit={'places': 3}", "unknown setting `limit.places`"),
    ("unique=hotpath.Unique('')", "`unique.key` must be text"),
    ("unique=hotpath.Unique('$args[x]', while_='soon')", "`unique.while` must be queued, unfinished or"),
    ("unique=hotpath.Unique('$args[x]', on_conflict='x')", "`unique.on_conflict` must be one of"),
    ("unique='$args[x]', debounce=5", "leave one of them out"),
    ("debounce=0", "seconds of `debounce.seconds`"),
    ("debounce=hotpath.Debounce(5, longest=1)", "`debounce.longest` must be at least"),
    ("expires=-1", "seconds of `expires`"),
    ("expires=5, on_expire='burn'", "`on_expire` must be one of fail, cancel"),
    ("on_expire='fail'", "which is not given"),
    ("tag='gpu-$args.size'", "`tag` has '$args.size'"),
]


@pytest.mark.slow
def test_settings_that_cannot_be(hotpath, workspace, subtests):
    """They are refused where they are said, naming the setting."""
    for said, names in BAD_SETTINGS:
        with subtests.test(ascii(said)[:60]):
            (workspace / "odd.py").write_text(SCRIPT.format(said))
            done = hotpath("run", "odd")
            assert done.code != 0
            assert names in done.err


def test_settings_from_a_file(hotpath, workspace):
    """`NAME.script.yaml` says the same."""
    (workspace / "even.py").write_text(SCRIPT.format("limit=9"))
    (workspace / "even.script.yaml").write_text(
        "limit: {concurrency: 3, rate: [10, 2.5], key: '$args[who]'}\n"
        "unique: {key: '$args[x]', while: queued, on_conflict: reject}\nexpires: 60\non_expire: cancel\n"
        "tag: at-$args[who]\n"
    )
    assert hotpath("dedicate", "even", "--drain", "--tag", "x").code == 0
    (shown,) = hotpath("limit", "show", "even", "--json").documents
    assert shown["limits"][0]["limit"] == {"concurrency": 3, "rate": [10, 2.5], "key": "$args[who]"}
    run = ("run", "even", "--timeout", "0.01", "-a", "x=1")
    assert "args.who is missing, and the tag at-$args[who]" in hotpath(*run).error
    assert hotpath(*run, "-a", "who=me").code == 1  # nobody runs it
    assert "has the unique key" in hotpath(*run, "-a", "who=me").error
    assert hotpath(*run, "-a", "who=me", "--unique", "mine").code == 1
    (first, second) = hotpath("jobs", "--json").documents
    assert {first["tag"], second["tag"]} == {"at-me"}
    changed = hotpath("limit", "set", "even", "--concurrency", "4", "--key", "$args[x]")
    assert "`limit.key` was $args[who]: jobs that wait keep" in changed.error
    misspelt = hotpath("limit", "set", "even", "--concurrency", "4", "--key", "$args[x.id]-$args[whose.id]")
    assert "`limit.key`: $args[x.id] is no field of the script's args (there are x)" in misspelt.err
    misspelt = hotpath("limit", "set", "even", "--concurrency", "4", "--key", "$args[x]-$args[whom]")
    assert "$args[whom] is no field of the script's args (did you mean $args[who]?); jobs" in misspelt.err


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("limit=hotpath.Limit(concurrency=1, key='$args[whom]')", "`limit.key`: $args[whom] is no field"),
        ("unique='$args[whom]'", "`unique.key`: $args[whom] is no field"),
        ("debounce=hotpath.Debounce(1, key='$args[x]-$args[y]')", "`debounce.key`: $args[y] is no field"),
        ("tag='t-$args[who.name]'", "`tag`: $args[who.name] is no field"),
    ],
)
def test_fields_that_the_args_cannot_have(hotpath, workspace, said, names):
    """What a tag or a key is made of has to be there: refused where it is deployed, with the nearest."""
    (workspace / "even.py").write_text(SCRIPT.format(said))
    done = hotpath("deploy", workspace)
    assert done.code == 1
    assert f"even: {names}" in done.err
    assert "(did you mean $args[who]?)" in done.err or "(there are " in done.err


def test_a_key_that_changes_under_waiting_jobs(hotpath, alone):
    """Jobs that wait keep their keys: that is told where the text is changed, and nowhere else."""
    workspace = alone
    keyed = "limit=hotpath.Limit(concurrency=1, key='$args[{0}]'), unique='$args[{0}]'"
    (workspace / "even.py").write_text(SCRIPT.format(keyed.format("x")))
    assert hotpath("deploy", workspace).err == ""
    (workspace / "even.py").write_text(SCRIPT.format(keyed.format("who")))
    assert hotpath("deploy", workspace).err == "", "nothing waits"
    assert hotpath("run", "even", "-a", "who=me", "--timeout", "0.01").code == 1
    (workspace / "even.py").write_text(SCRIPT.format(keyed.format("x")))
    done = hotpath("deploy", workspace)
    assert done.code == 0
    for name in ("limit.key", "unique.key"):
        assert f"hotpath: even: `{name}` was $args[who]: jobs that wait keep the keys" in done.err
    assert hotpath("deploy", workspace).err == ""
    assert "`limit.key` was $args[x]" in hotpath("deploy", "--rollback", "even").err
    said = hotpath("limit", "set", "even", "--concurrency", "2", "--key", "$args[x]").err
    assert "`limit.key` was $args[who]" in said
    assert hotpath("limit", "set", "even", "--concurrency", "3", "--key", "$args[x]").err == ""
    (workspace / "even.py").write_text("def main(who: str) -> str:\n    return who\n")
    assert "even: `limit.key`: $args[x] is no field of the script's args" in hotpath("deploy", workspace).err


def test_settings_that_a_flow_does_not_heed(hotpath, alone):
    """A flow whose steps' scripts have settings that are about jobs of their own is remarked."""
    workspace = alone
    part = SCRIPT.format("unique='$args[x]', limit=hotpath.Limit(concurrency=1)")
    (workspace / "part.py").write_text(part)
    (workspace / "fl.flow").mkdir()
    value = "{{type: script, path: part, input_transforms: {{}}{}}}"
    step = f"value:\n  modules:\n    - id: a\n      value: {value}\n"
    (workspace / "fl.flow" / "flow.yaml").write_text(step.format(""))
    done = hotpath("deploy", workspace, "--json")
    (remarks,) = (each["remarks"] for each in done.documents if each["script"] == "fl")
    about = [remark.partition(" is not heeded")[0] for remark in remarks]
    assert about == ["`unique` of part", "`limit` of part"]
    (workspace / "fl.flow" / "flow.yaml").write_text(step.format(", tag_override: 'own-$args[y]'"))
    assert "step a: `tag_override`: $args[y] is no field" in hotpath("deploy", workspace).err
    (workspace / "fl.flow" / "flow.yaml").write_text(step.format(", tag_override: own"))
    err = hotpath("deploy", workspace).err
    assert ("`unique` of part" in err, "`limit` of part" in err) == (True, False)
