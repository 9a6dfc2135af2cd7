"""When an alert fires, repeats and is over; what rules and channels mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.alert_channels import WITHHELD, parse_channel
from hotpath.core.alert_rules import Found, Rule, Workers, judge, parse_rule, parse_span, span_text
from hotpath.core.alert_words import Said
from hotpath.core.alerting import (
    LONGEST_PAUSE,
    Phase,
    Standing,
    Timing,
    Word,
    advance,
    pause_after,
    resume,
)
from hotpath.errors import UsageError
from hotpath.scripts.load import SECRETS

# What is seen at each look: seconds since the one before, whether it is so, whether it is silenced.
LOOKS = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([True, True, False, None]), st.booleans()), max_size=60
)
TIMINGS = st.builds(Timing, hold=st.integers(0, 60), clear=st.integers(0, 60), cooldown=st.integers(1, 200))


@given(TIMINGS, LOOKS)
def test_what_is_said_and_when(timing, looks):
    """It fires after it was so for `hold` without a break, it is over after it was not for `clear`, two words
    that it fires are a cool-down apart, each that it is over follows one that it fires, and nothing but
    that is said in silence.
    """
    standing, now = Standing(), 0.0
    so_since = not_since = None
    said_at, is_said = None, False
    for pause, is_so, silenced in looks:
        now += pause
        if is_so is not None:
            so_since = (now if so_since is None else so_since) if is_so else None
            not_since = None if is_so else (now if not_since is None else not_since)
        before = standing
        standing, word = advance(standing, timing, now, is_so=is_so, silenced=silenced)
        if before.phase in (Phase.FINE, Phase.PENDING) and standing.phase is Phase.FIRING:
            assert so_since is not None
            assert now - so_since >= timing.hold
        if before.phase in (Phase.FIRING, Phase.CLEARING) and standing.phase is Phase.FINE:
            assert not_since is not None
            assert now - not_since >= timing.clear
        if word in (Word.FIRING, Word.STILL):
            assert standing.phase is Phase.FIRING
            assert not silenced
            assert said_at is None or now - said_at >= timing.cooldown
            assert (word is Word.STILL) is is_said
            said_at, is_said = now, True
        elif word is Word.RESOLVED:
            assert is_said
            assert standing.phase is Phase.FINE
            is_said = False
        if standing.phase is Phase.FINE:
            assert not is_said
        assert (standing.fired_at is None) is (standing.phase in (Phase.FINE, Phase.PENDING))
        assert standing.is_said is is_said


@given(TIMINGS, LOOKS)
def test_what_stays_so_is_said(timing, looks):
    """Whatever was before: who looks every second hears of it within `hold` and the cool-down, and when it is
    over within `clear`.
    """
    standing, now = Standing(), 0.0
    for pause, is_so, silenced in looks:
        now += pause
        standing, _ = advance(standing, timing, now, is_so=is_so, silenced=silenced)
    words = []
    for _ in range(int(timing.hold + timing.cooldown) + 2):
        now += 1
        standing, word = advance(standing, timing, now, is_so=True)
        words.append(word)
    assert {Word.FIRING, Word.STILL} & set(words)
    words = []
    for _ in range(int(timing.clear) + 2):
        now += 1
        standing, word = advance(standing, timing, now, is_so=False)
        words.append(word)
    assert words.count(Word.RESOLVED) == 1
    assert standing.phase is Phase.FINE


def test_a_clock_that_goes_back_does_not_silence_it():
    """It may say something once more, and goes on."""
    timing = Timing(hold=10, cooldown=100)
    standing, word = advance(
        Standing(phase=Phase.FIRING, fired_at=1000, said_at=1000), timing, 50, is_so=True
    )
    assert word is Word.FIRING
    assert standing.said_at == 50
    standing, word = advance(Standing(phase=Phase.PENDING, since=1000), timing, 50, is_so=True)
    standing, word = advance(standing, timing, 60, is_so=True)
    assert (standing.phase, word) == (Phase.FIRING, Word.FIRING)


def test_what_nobody_saw_is_not_taken_for_granted():
    """After a minute without a look it has to be so for as long again; what fires goes on."""
    pending = Standing(phase=Phase.PENDING, since=100)
    assert resume(pending, 500, 450) == pending
    assert resume(pending, 500, None) == pending
    assert resume(pending, 500, 400).since == 500
    assert resume(Standing(phase=Phase.CLEARING, since=100), 500, 400).since == 500
    firing = Standing(phase=Phase.FIRING, since=100, fired_at=100)
    assert resume(firing, 500, 100) == firing


def test_tries_become_rarer():
    """Up to ten minutes, for however long."""
    pauses = [pause_after(tries) for tries in range(1, 2000)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 5
    assert pauses[-1] == LONGEST_PAUSE


GOOD_RULES = {
    "workers under 2": Rule(kind="workers", under=2),
    "workers < 2 in etl": Rule(kind="workers", under=2, group="etl"),
    "short": Rule(kind="short"),
    "short in etl": Rule(kind="short", group="etl"),
    "waiting over 5m": Rule(kind="waiting", span=300),
    "waiting > 90s on etl-*,!etl-slow": Rule(kind="waiting", span=90, on=("etl-*", "!etl-slow")),
    "failures over 5%": Rule(kind="failures", rate=5, span=600, least=20),
    "failures over 0.5% in 1h of 100 on a, b": Rule(
        kind="failures", rate=0.5, span=3600, least=100, on=("a", "b")
    ),
    "  stranded ": Rule(kind="stranded"),
    "stranded on a": Rule(kind="stranded", on=("a",)),
    "lost": Rule(kind="lost"),
    "deaf": Rule(kind="deaf"),
    "disk": Rule(kind="disk"),
}


@pytest.mark.parametrize("text", GOOD_RULES)
def test_rules(text):
    """Are read as they are meant, and written as they are read."""
    rule = parse_rule(text)
    assert rule == GOOD_RULES[text]
    assert parse_rule(rule.text) == rule


BAD_RULES = {
    "": "is not a rule",
    "something": "is not a rule",
    "workers under": "write workers under N",
    "workers under 0": "workers under takes a whole number from 1 on",
    "workers under many": "not 'many'",
    "waiting over 5": "when: waiting over: '5' is not a span",
    "waiting over 15d": "from 1s to 14d",
    "waiting over 5m on ": "is not a rule",
    "waiting over 5m on a,,b": "when: on: '' is no tag",
    "waiting over 5m on !": "when: on: '!' is no tag",
    "failures over 100%": "from 0 to below 100",
    "failures over 5": "is not a rule",
    "failures over 5% in 30s": "from 1m to 1d",
    "failures over 5% of 0": "failures of takes a whole number",
    "lost on a": "is not a rule",
    "stranded on a\x00b": "is not a rule",
}


@pytest.mark.parametrize("text", BAD_RULES)
def test_bad_rules(text):
    """Are refused, and say what is wrong."""
    with pytest.raises(UsageError) as refusal:
        parse_rule(text)
    assert str(refusal.value).startswith("when: ")
    assert BAD_RULES[text] in str(refusal.value)


@given(st.integers(1, 14 * 86400))
def test_spans(seconds):
    """Are read as they are written."""
    assert parse_span(span_text(seconds), "for") == seconds


def test_judging():
    """Each kind of rule, by what was found."""
    found = Found(
        workers={None: Workers(alive=1, lost=1), "etl": Workers(alive=2, deaf=1)},
        waiting={"a": 400.0, "b": 10.0},
        ended={600.0: {"a": (3, 30), "b": (0, 70)}},
        stranded=[("a", "1 job of x: nobody")],
    )

    def is_so(text: str, what: Found = found) -> bool:
        return judge(parse_rule(text), what).is_so

    assert not is_so("workers under 3")
    assert is_so("workers under 4")
    assert not is_so("workers under 2 in etl")
    assert is_so("workers under 1 in nobody")
    assert not is_so("short")
    wants = Found(workers={"etl": Workers(alive=1, wanted=2), "b": Workers(alive=1)})
    assert is_so("short", wants)
    assert is_so("short in etl", wants)
    assert not is_so("short in b", wants)
    assert is_so("waiting over 5m")
    assert not is_so("waiting over 5m on !a")
    assert is_so("failures over 2%")
    assert not is_so("failures over 3%")
    assert is_so("failures over 9% on a")
    assert not is_so("failures over 9% of 31 on a")
    assert is_so("stranded")
    assert not is_so("stranded on b*")
    assert is_so("lost")
    assert is_so("deaf")
    nothing = Found()
    for text in GOOD_RULES:
        assert is_so(text, nothing) is text.startswith("workers")
    assert judge(parse_rule("waiting over 5m"), found).text == "the oldest job of tag a has waited for 7m"
    assert judge(parse_rule("failures over 2%"), found).text == (
        "3 of 100 jobs that ended in the last 10m failed: 3%"
    )


GOOD_CHANNELS = {
    "webhook:https://ops.example/hook?x=1": (),
    "https://ops.example/hook": (),
    "webhook:http://127.0.0.1:8080/ signed $HOOK_KEY": ("HOOK_KEY",),
    "webhook:$HOOK_URL signed $HOOK_KEY": ("HOOK_URL", "HOOK_KEY"),
    "slack:$SLACK": ("SLACK",),
    "email:ann@example.org,bob@example.org via smtp://mail.example:587": (),
    "email:ann@example.org via smtps://bot:$PW@mail.example from bot@example.org": ("PW",),
    "email:ann@example.org via $SMTP_URL": ("SMTP_URL",),
    "command:/usr/local/bin/page --team 'a b'": (),
}


@pytest.mark.parametrize("text", GOOD_CHANNELS)
def test_channels(text):
    """Are read, written as they are read, and name what they need of the environment."""
    channel = parse_channel(text)
    assert channel.references == GOOD_CHANNELS[text]
    assert parse_channel(channel.text) == channel


SECRET = "hunter2"
BAD_CHANNELS = {
    "": "is not a channel",
    "carrier-pigeon:x": "is not a channel",
    "webhook:": "is not a channel",
    "webhook:ftp://example.org": "needs an address",
    "webhook:https://": "needs an address",
    "webhook:https://h:99999/": "needs an address",
    "webhook:https://h/\u00e9": "needs an address",
    f"webhook:https://ann:{SECRET}@example.org/": "holds a password",
    "email:ann@example.org via smtp://bot:$HOTPATH_DATABASE_URL@mail.example": "would give",
    "webhook:$DATABASE_URL": "would give",
    "webhook:https://example.org/ signed $PGPASSWORD": "would give",
    f"webhook:https://example.org/ signed {SECRET}": "names its key by an environment variable",
    f"slack:https://hooks.example/{SECRET}": "holds a secret",
    "email:ann@example.org": "names no mail server",
    "email:ann via smtp://h": "'ann' is no e-mail address",
    "email:ann@example.org\r\nBcc:eve@example.org via smtp://h": "is no e-mail address",
    f"email:ann@example.org via smtp://bot:{SECRET}@mail.example": "holds a password",
    "email:ann@example.org via https://mail.example": "needs a server",
    "email:ann@example.org via smtp://bot@mail.example": "needs a server",
    "command:page": "by its whole path",
    "command:/usr/bin/../../tmp/x": "by its whole path",
    "command:/bin/sh 'a": "cannot be taken apart",
}


@pytest.mark.parametrize("text", BAD_CHANNELS)
def test_bad_channels(text):
    """Are refused, and what may be a secret is not shown again."""
    with pytest.raises(UsageError) as refusal:
        parse_channel(text)
    assert str(refusal.value).startswith("to: ")
    assert BAD_CHANNELS[text] in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_what_is_withheld_from_channels():
    """It is what user code does not get, either."""
    assert set(SECRETS) == WITHHELD


def test_words():
    """A line for people, a document for programs, and for Slack no mention and no link."""
    when = datetime(2026, 11, 27, 5, 40, tzinfo=UTC)
    said = Said(
        id=7, alert="late", word=Word.STILL, rule="waiting over 5m", finding="<!channel> & tag <a|b>",
        fired_at=when, said_at=when,
    )  # fmt: skip
    assert said.text == (
        "STILL FIRING late: <!channel> & tag <a|b> (since 2026-11-27T05:40:00Z) [waiting over 5m]"
    )
    assert json.loads(said.json)["state"] == "still firing"
    assert json.loads(said.slack)["text"].startswith("STILL FIRING late: &lt;!channel&gt; &amp; tag")
