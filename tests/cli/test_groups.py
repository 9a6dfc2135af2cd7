"""`hotpath group`: set, show, list, delete, export, import, diff."""

import json

from hotpath.model import MASK


def test_set_and_show(hotpath):
    """What is given is changed and nothing else; values of the environment are shown when asked for."""
    made = hotpath("group", "set", "gpu", "--tags", "vip:5,etl-*", "--env", "KEY=secret", "--processes", "2")
    assert made.code == 0, made.err
    assert made.out.startswith("made gpu: revision ")
    changed = hotpath(
        "group", "set", "gpu", "--env", "B=2", "--max-rss", "1G", "--unset", "processes", "--json"
    )
    (document,) = changed.documents
    assert document["change"] == "changed"
    assert document["config"] == {
        "tags": [{"tag": "vip", "priority": 5}, "etl-*"],
        "env": {"KEY": MASK, "B": MASK},
        "max_rss": 1 << 30,
    }
    assert hotpath("group", "set", "gpu", "--max-rss", "1G").out.startswith("unchanged")
    shown = hotpath("group", "show", "gpu")
    assert "secret" not in shown.out + shown.err
    assert "etl-*" in shown.out
    assert "secret" in hotpath("group", "show", "gpu", "--reveal").out
    assert "gpu" in hotpath("group", "list").out
    assert hotpath("group", "delete", "gpu").code == 0
    assert hotpath("group", "show", "gpu").error.startswith("no group 'gpu' is configured")


def test_remarks(hotpath):
    """What may not be meant is said where it is set: tags nobody knows, scripts of two groups, what this host
    lacks.
    """
    hotpath("deploy")
    hotpath("group", "set", "a", "--dedicated", "add")
    second = hotpath(
        "group",
        "set",
        "b",
        "--dedicated",
        "add,nobody",
        "--tags",
        "ad*,nope-*",
        "--env-from-host",
        "HOME,NOT_SET_HERE",
    )
    assert second.code == 0
    assert "'a' is dedicated to 'add' as well" in second.err
    assert "nobody has registered 'nobody'" in second.err
    assert "'nope-*': it fits no tag" in second.err
    assert "NOT_SET_HERE is not set here" in second.err
    assert "HOME is" not in second.err
    assert "'ad*'" not in second.err
    (again,) = hotpath("group", "set", "b", "--processes", "2", "--json").documents
    assert {each["field"] for each in again["remarks"]} == {"dedicated", "tags", "env_from_host"}
    (shown,) = hotpath("group", "show", "b", "--json").documents
    assert {each["field"] for each in shown["remarks"]} == {"dedicated", "tags"}


def test_flags_given_again(hotpath):
    """A flag that takes a list and is given again adds to it, as that of `dedicate` does."""
    lists = [("tags", "a"), ("dedicated", "add"), ("env-from-host", "HOME"), ("path", "lib")]
    again = [("tags", "b:3,!c"), ("dedicated", "nobody"), ("env-from-host", "PATH"), ("path", "more")]
    flags = [part for name, value in (*lists, *again) for part in (f"--{name}", value)]
    (made,) = hotpath("group", "set", "g", *flags, "--json").documents
    assert made["config"] == {
        "tags": ["a", {"tag": "b", "priority": 3}, "!c"],
        "dedicated": ["add", "nobody"],
        "env_from_host": ["HOME", "PATH"],
        "path": ["lib", "more"],
    }
    (emptied,) = hotpath("group", "set", "g", "--tags", "", "--json").documents
    assert "tags" not in emptied["config"]
    hotpath("autoscale", "set", "g", "--max", "2", "--tags", "a", "--tags", "b")
    assert hotpath("autoscale", "g", "--dry-run", "--json").documents[0]["patterns"] == ["a", "b"]


CANNOT_BE = [
    (["--processes", "0"], "field `processes`"),
    (["--tags", "a,!a"], "field `tags` has both"),
    (["--periodic", "a=5s:true"], "every` must be from 10"),
    (["--periodic", "a=5s"], "--periodic takes NAME=EVERY:TEXT"),
    (["--env", "A"], "--env takes NAME=VALUE"),
    (["--init", "@/not/there.sh"], "--init: /not/there.sh cannot be read"),
    (["--unset", "colour"], "--unset: there is no field 'colour'"),
    (["--grace", "soon"], "field `grace`"),
]


def test_what_cannot_be(hotpath, subtests):
    """It is refused in one line that names the field, and nothing is written."""
    for flags, said in CANNOT_BE:
        with subtests.test(ascii(flags)[:60]):
            done = hotpath("group", "set", "gpu", *flags)
            assert done.code == 2
            assert said in done.error
            assert hotpath("group", "list", "--json").out == ""


def test_files(hotpath, tmp_path):
    """What is exported is imported as it was; a difference is shown by field and is exit code 1."""
    file = tmp_path / "groups.yaml"
    script = tmp_path / "init.py"
    script.write_text("print(1)\nprint(2)\n")
    hotpath("group", "set", "a", "--init", f"@{script}", "--env", "KEY=secret", "--tags", "x:-3")
    hotpath("group", "set", "b", "--processes", "3")
    assert hotpath("group", "export", "-o", file).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    same = hotpath("group", "diff", file)
    assert (same.code, same.out) == (0, "")
    hotpath("group", "set", "a", "--env", "KEY=other")
    hotpath("group", "set", "b", "--processes", "4")
    hotpath("group", "set", "c", "--processes", "1")
    other = hotpath("group", "diff", file)
    assert other.code == 1
    assert "-processes: 4\n+processes: 3\n" in other.out
    assert "(another)" in other.out
    assert "secret" not in other.out
    assert "left alone: c" in other.err
    assert {(one["group"], one["field"]) for one in hotpath("group", "diff", file, "--json").documents} == {
        ("a", "env"),
        ("b", "processes"),
    }
    assert "+  KEY: secret" in hotpath("group", "diff", file, "--reveal").out
    assert hotpath("group", "import", file).code == 0
    assert hotpath("group", "diff", file).code == 0
    text = hotpath("group", "export", "a").out
    assert "init: |" not in text
    assert "language: python" in text
    assert hotpath("group", "import", "-", stdin=text).out.startswith("unchanged a")


def test_a_file_is_taken_whole_or_not_at_all(hotpath, tmp_path):
    """One wrong field, and nothing of the file is written."""
    file = tmp_path / "groups.yaml"
    for text, said in (
        ("groups:\n  a: {processes: 2}\n  b: {processes: none}\n", "group b: field `processes`"),
        ("groups:\n  a: {processes: 2}\n  'b c': {}\n", "group b c: field `name`"),
        ("groups:\n  a: {processes: 2}\n  b: 7\n", "group b: expected its fields"),
        (f"groups:\n  a: {{env: {{K: '{MASK}'}}}}\n", f"field `env.K` is {MASK}"),
        ("groups: [a]\n", "expected `groups:`"),
        ("a: {processes: 2}\n", "expected `groups:`"),
        ("groups: {a: [}\n", "line 1: not YAML"),
    ):
        file.write_text(text)
        done = hotpath("group", "import", file)
        assert done.code == 2
        assert said in done.error
    assert hotpath("group", "import", tmp_path / "none.yaml").error.count("cannot be read") == 1
    assert json.loads(hotpath("group", "export", "--json").out) == {"groups": {}}
