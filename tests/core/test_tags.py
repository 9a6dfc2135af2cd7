"""Patterns of tags say the same in Python and in SQL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.tags import parse_patterns, refuse_unheard
from hotpath.errors import UsageError

TEXTS = st.text("ab*!%_\\-", min_size=1, max_size=5).filter(
    lambda text: not text.startswith("!!") and text != "!"
)


@pytest.mark.parametrize(
    ("patterns", "tag", "listens"),
    [
        (["a"], "a", True),
        (["a"], "ab", False),
        (["etl-*"], "etl-", True),
        (["etl-*"], "other", False),
        (["*", "!etl-*"], "etl-a", False),
        (["!etl-*"], "other", True),
        (["a.c"], "abc", False),
    ],
)
def test_examples(patterns: list[str], tag: str, listens: bool) -> None:
    """A pattern fits whole tags; an exclusion goes before it."""
    assert parse_patterns(patterns).listens(tag) is listens


def test_names_only() -> None:
    """Who names all tags has their names; who has a pattern has none."""
    assert parse_patterns(["a", "b", "a"]).names == ("a", "b")
    assert parse_patterns(["a", "b*"]).names is None


@pytest.mark.parametrize("texts", [[], [""], ["!"], ["a", "!!b"], ["a\0"], ["x" * 300]])
def test_refused(texts: list[str]) -> None:
    """What is no pattern is refused, and where it was given is named."""
    with pytest.raises(UsageError, match="--tags"):
        parse_patterns(texts)


@pytest.mark.parametrize(
    "texts", [["x", "!x"], ["a", "etl-x", "!etl-*"], ["etl-*", "!etl*"], ["!*"], ["*", "!a", "!*"]]
)
def test_excluded_wholly(texts: list[str]) -> None:
    """A name or pattern of which nothing is left is refused, with the exclusion that is to blame."""
    with pytest.raises(UsageError, match=r"WORKER_TAGS: '!.*' excludes all of '"):
        refuse_unheard(parse_patterns(texts), "WORKER_TAGS")


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS)
def test_what_is_refused_could_never_be_heard(patterns: list[str], tag: str) -> None:
    """Who is refused for one pattern would hear no tag that it fits."""
    exclusions = [text for text in patterns if text.startswith("!")]
    for text in patterns:
        if not text.startswith("!"):
            try:
                refuse_unheard(parse_patterns([text, *exclusions]))
            except UsageError:
                assert not parse_patterns([text, *exclusions]).listens(tag)
                assert not parse_patterns([text, *exclusions]).listens(text.replace("*", tag))


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS)
def test_exclusions_win(patterns: list[str], tag: str) -> None:
    """What is excluded by name is never listened to."""
    assert not parse_patterns([*patterns, f"!{tag.replace('!', '')}a"]).listens(f"{tag.replace('!', '')}a")
