"""The configuration of a group: every field is checked where it is set, and named when it is wrong."""

import pytest

from hotpath.core.group_document import check_name, merged, read_config
from hotpath.core.groups import FIELDS, INIT_TIMEOUT, GroupConfig, masked
from hotpath.errors import UsageError
from hotpath.model import MASK

FULL = {
    "tags": [{"tag": "etl-*", "priority": 5}, "a", "!etl-slow"],
    "dedicated": ["f/x", "flow_x"],
    "processes": 2,
    "concurrency": 10,
    "env": {"REGION": "eu", "EMPTY": ""},
    "env_from_host": ["TOKEN"],
    "path": ["lib"],
    "init": "#!/usr/bin/env python3\nprint(1)\n",
    "init_timeout": 60.0,
    "periodic": [{"name": "clean", "every": 10.0, "text": "true"}],
    "grace": 5.0,
    "lease": 20.0,
    "max_jobs": 1000,
    "max_rss": 1 << 30,
    "slots": 4,
    "warm": 20,
    "alert_min_workers": 1,
}


def test_a_document_comes_back():
    """What is read is what is written, field by field, in one order; and there are no other fields."""
    assert list(FULL) == list(FIELDS)
    config = read_config(FULL)
    assert config.document() == FULL
    assert read_config(config.document()) == config
    assert read_config({}) == GroupConfig()
    assert config.init.language == "python"
    assert config.periodic[0].script.language == "shell"
    assert INIT_TIMEOUT == 300


def test_words_for_values():
    """Priorities, times and sizes may be written as people write them."""
    config = read_config(
        {"tags": "vip:5,a", "grace": "2m", "max_rss": "1G", "init": {"text": "x", "language": "python"}}
    )
    assert [(tag.pattern, tag.priority) for tag in config.tags] == [("vip", 5), ("a", 0)]
    assert (config.grace, config.max_rss) == (120.0, 1 << 30)
    assert config.document()["init"] == {"language": "python", "text": "x"}
    assert config.priority_of("vip") == 5
    assert config.priority_of("a") == 0


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"colour": 1}, "`colour` is unknown"),
        ({"tags": ["a", "!a"]}, "`tags` has both 'a' and '!a'"),
        ({"tags": ["!a:3"]}, "`tags`: '!a' excludes"),
        ({"tags": ["a:1", "a:2"]}, "`tags` has 'a' with two priorities"),
        ({"tags": ["a:99999"]}, "`tags`: the priority of 'a'"),
        ({"tags": [""]}, "`tags` must be text"),
        ({"tags": ["!!a"]}, "`tags`: '!!a' is no tag"),
        ({"tags": [{"tag": "a", "rank": 1}]}, "unknown key 'rank'"),
        ({"tags": 7}, "`tags` must be a list"),
        ({"dedicated": ["a\0"]}, "`dedicated` holds a NUL"),
        ({"processes": 0}, "`processes` must be a whole number from 1 to 1000, not 0"),
        ({"processes": True}, "`processes` must be a whole number"),
        ({"concurrency": "9"}, "`concurrency` must be a whole number"),
        ({"env": {"1A": "x"}}, "`env`: '1A' is no name"),
        ({"env": {"A": 1}}, "`env.A` must be text"),
        ({"env": {"A": "x\0"}}, "`env.A` holds a NUL"),
        ({"env": {"A": "\ud800"}}, "`env.A` holds half"),
        ({"env": {"DATABASE_URL": "x"}}, "`env`: DATABASE_URL is the worker's own"),
        ({"env": {"A": MASK}}, f"`env.A` is {MASK}"),
        ({"env_from_host": ["HOTPATH_DATABASE_URL"]}, "`env_from_host`: HOTPATH_DATABASE_URL"),
        ({"env": {"A": "x"}, "env_from_host": ["A"]}, "`env_from_host`: A is in `env` as well"),
        ({"init": {"text": "x", "language": "perl"}}, "`init`: language"),
        ({"init": ""}, "`init` must be text"),
        ({"init_timeout": 5}, "`init_timeout` is set, and there is no `init`"),
        ({"init": "x", "init_timeout": 0}, "`init_timeout` must be from 0.1"),
        ({"periodic": [{"name": "a", "text": "x"}]}, "`periodic`: a: `every` is missing"),
        (
            {"periodic": [{"name": "a", "every": 9.9, "text": "x"}]},
            "`periodic`: a: `every` must be from 10 to 86400",
        ),
        ({"periodic": [{"name": "a", "every": float("nan"), "text": "x"}]}, "`periodic`: a: `every` must be"),
        ({"periodic": [{"name": "a", "every": 10}]}, "`periodic`: a: must be text"),
        ({"periodic": [{"name": "a/b", "every": 10, "text": "x"}]}, "`periodic`: name must be"),
        ({"periodic": [{"name": "a", "every": 10, "text": "x"}] * 2}, "`periodic` has two scripts named 'a'"),
        ({"periodic": "a"}, "`periodic` must be a list"),
        ({"grace": "soon"}, "`grace` must be a time"),
        ({"lease": 0.5}, "`lease` must be from 1 to"),
        ({"max_rss": "1M"}, "`max_rss` must be a whole number from 16777216"),
        ({"slots": 0}, "`slots` must be"),
        ({"alert_min_workers": 0}, "`alert_min_workers` must be"),
    ],
)
def test_what_cannot_be(document, said):
    """What makes no sense or contradicts itself is refused, the field named."""
    with pytest.raises(UsageError) as refused:
        read_config(document)
    assert said in str(refused.value)
    assert str(refused.value).startswith("field `")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "x" * 101, None, "a\0"])
def test_names(name):
    """A group's name is a word."""
    with pytest.raises(UsageError, match="field `name`"):
        check_name(name)
    assert check_name("gpu-1.eu") == "gpu-1.eu"


def test_changes_leave_the_rest():
    """What is not given stays; `env` and `periodic` are changed by name; a mask is no change."""
    before = read_config(FULL)
    after = merged(before, {"env": {"B": "2", "REGION": MASK}, "processes": None}, ["env.EMPTY"])
    assert after.env == {"REGION": "eu", "B": "2"}
    assert after.processes is None
    assert after.tags == before.tags
    more = {"name": "more", "every": 20.0, "text": "false"}
    both = merged(before, {"periodic": [more]})
    assert [each.name for each in both.periodic] == ["clean", "more"]
    assert merged(both, {}, ["periodic.clean", "init"]).document()["periodic"] == [more]
    assert merged(before, {}, ["init"]).init_timeout is None
    for field in ("colour", "tags.a"):
        with pytest.raises(UsageError, match="--unset"):
            merged(before, {}, [field])


def test_values_of_the_environment_are_not_shown():
    """Not in what is shown, and not in what Python shows."""
    config = read_config(FULL)
    assert masked(config.document())["env"] == {"REGION": MASK, "EMPTY": MASK}
    assert "eu" not in repr(config)
