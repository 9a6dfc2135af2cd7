"""What alerts watch: rules as people write them, and whether they hold for what was found.

workers under 2                     live workers, of all groups together
workers under 2 in etl              of one group
short                               a group has fewer live ones than its `alert_min_workers`; `in GROUP` too
waiting over 5m on etl-*,!etl-slow  a job that is due has waited for longer, in a tag of these
failures over 5% in 10m of 20       of at least 20 jobs that ended in the last 10 minutes; `on TAGS` too
stranded                            jobs are due that nobody will run; `on TAGS` too
lost                                a worker is past its lease and was not told to have ended
deaf                                a worker that nothing can wake: it finds jobs by polling
disk                                the bound of the tables' size was met: days went, or it cannot be held
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from hotpath.core.tags import Patterns, parse_patterns
from hotpath.errors import UsageError

FORMS = (
    "workers under N [in GROUP]",
    "short [in GROUP]",
    "waiting over 5m [on TAGS]",
    "failures over 5% [in 10m] [of 20] [on TAGS]",
    "stranded [on TAGS]",
    "lost",
    "deaf",
    "disk",
)
MOST_WINDOW = 86_400.0
"""Seconds over which a rate of failures is taken, at most."""
MOST_SPAN = 14 * 86_400.0
NAMED = 5
"""Tags that a finding names; of more it says how many."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_ON = r"(?:\s+on\s+(?P<on>\S.*))?"
_RULES = {
    "workers": re.compile(r"workers\s+(?:under|<)\s*(?P<under>\S+)(?:\s+in\s+(?P<group>\S.*))?"),
    "short": re.compile(r"short(?:\s+in\s+(?P<group>\S.*))?"),
    "waiting": re.compile(rf"waiting\s+(?:over|>)\s*(?P<span>\S+){_ON}"),
    "failures": re.compile(
        r"failures\s+(?:over|>)\s*(?P<rate>\S+?)\s*%(?:\s+in\s+(?P<span>\S+))?(?:\s+of\s+(?P<least>\S+))?"
        rf"{_ON}"
    ),
    "stranded": re.compile(rf"stranded{_ON}"),
    "lost": re.compile("lost"),
    "deaf": re.compile("deaf"),
    "disk": re.compile("disk"),
}


@attrs.frozen(kw_only=True)
class Rule:
    """What an alert watches."""

    kind: str
    """`workers`, `short`, `waiting`, `failures`, `stranded`, `lost`, `deaf` or `disk`."""
    under: int = 0
    """Of `workers`: so many live ones are enough."""
    group: str | None = None
    span: float = 0.0
    """Of `waiting`: seconds that a job may wait once it is due; of `failures`: those that are looked at."""
    rate: float = 0.0
    """Of `failures`: percent."""
    least: int = 0
    """Of `failures`: jobs that have to have ended for a rate to mean something."""
    on: tuple[str, ...] | None = None
    """Patterns of tags; None: all."""

    @property
    def text(self) -> str:
        """The rule as it is written; `parse_rule` reads it."""
        on = f" on {','.join(self.on)}" if self.on else ""
        match self.kind:
            case "workers":
                return f"workers under {self.under}" + (f" in {self.group}" if self.group else "")
            case "waiting":
                return f"waiting over {span_text(self.span)}{on}"
            case "failures":
                return f"failures over {self.rate:g}% in {span_text(self.span)} of {self.least}{on}"
            case "short":
                return "short" + (f" in {self.group}" if self.group else "")
        return f"{self.kind}{on}"

    def means(self, tag: str) -> bool:
        """Whether it is about this tag."""
        return self.on is None or _patterns(self.on).listens(tag)


@attrs.frozen(kw_only=True)
class Workers:
    """Workers of one group."""

    alive: int = 0
    lost: int = 0
    deaf: int = 0
    wanted: int = 0
    """Live ones that its configuration wants at least."""


@attrs.frozen(kw_only=True)
class Found:
    """What there is to judge by, as far as any rule asks for it."""

    workers: Mapping[str | None, Workers] = attrs.field(factory=dict)
    """By group; None: those of none."""
    waiting: Mapping[str, float] = attrs.field(factory=dict)
    """By tag, for how many seconds the oldest job that is due has waited."""
    ended: Mapping[float, Mapping[str, tuple[int, int]]] = attrs.field(factory=dict)
    """By window in seconds and tag, how many jobs failed in it, and how many ended."""
    stranded: Sequence[tuple[str, str]] = ()
    """Tag, and what is wrong there in words."""
    disk: str = ""
    """How the bound of the tables' size was met, in words; empty: it was not."""


@attrs.frozen
class Finding:
    """Whether a rule holds now."""

    is_so: bool
    text: str
    """How it is, for people."""
    value: float
    """What is compared: workers, seconds, percent, how many."""


@functools.lru_cache(256)
def _patterns(on: tuple[str, ...]) -> Patterns:
    return parse_patterns(on, "when: on")


def parse_rule(text: str) -> Rule:
    """The rule that people write. Raises `UsageError`."""
    words = " ".join(text.split())
    kind = words.partition(" ")[0]
    pattern = _RULES.get(kind)
    match = pattern.fullmatch(words) if pattern is not None and words.isprintable() else None
    if match is None:
        forms = "; ".join(form for form in FORMS if pattern is None or form.startswith(kind))
        raise UsageError(f"when: {words[:100]!r} is not a rule; write {forms}")
    said = match.groupdict()
    on = parse_patterns(said["on"].split(","), "when: on").texts if said.get("on") else None
    match kind:
        case "workers":
            return Rule(kind=kind, under=_whole(said["under"], "workers under", 1), group=said["group"])
        case "waiting":
            return Rule(kind=kind, span=parse_span(said["span"], "when: waiting over", most=MOST_SPAN), on=on)
        case "failures":
            rate = _rate(said["rate"])
            span = parse_span(said["span"] or "10m", "when: failures in", least=60, most=MOST_WINDOW)
            least = _whole(said["least"] or "20", "failures of", 1)
            return Rule(kind=kind, rate=rate, span=span, least=least, on=on)
        case "short":
            return Rule(kind=kind, group=said["group"])
    return Rule(kind=kind, on=on)


def parse_span(text: str, where: str, *, least: float = 1.0, most: float = MOST_SPAN) -> float:
    """A span such as `90s`, `5m`, `2h` or `1d` in seconds. Raises `UsageError` that begins with `where`."""
    match = _SPAN.fullmatch(text)
    seconds = float(match[1]) * _UNITS[match[2]] if match and len(text) < 20 else -1.0
    if not least <= seconds <= most:
        low, high = span_text(least), span_text(most)
        raise UsageError(f"{where}: {text[:40]!r} is not a span such as 90s, 5m or 2h, from {low} to {high}")
    return seconds


def span_text(seconds: float) -> str:
    """Seconds as `parse_span` reads them, in the largest unit that fits."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:.10g}s"


def judge(rule: Rule, found: Found) -> Finding:
    """Whether the rule holds for what was found."""
    match rule.kind:
        case "workers":
            return _workers(rule, found)
        case "waiting":
            return _waiting(rule, found)
        case "failures":
            return _failures(rule, found)
        case "stranded":
            texts = [text for tag, text in found.stranded if rule.means(tag)]
            return Finding(bool(texts), _listed(texts) or "no jobs are stranded", len(texts))
        case "short":
            return _short(rule, found)
        case "disk":
            return Finding(
                bool(found.disk), found.disk or "the tables are within their bound", bool(found.disk)
            )
    count = sum(getattr(workers, rule.kind) for workers in found.workers.values())
    what = "past their lease" if rule.kind == "lost" else "that nothing can wake"
    return Finding(count > 0, f"{_many(count, 'worker')} {what}", count)


def _workers(rule: Rule, found: Found) -> Finding:
    groups = found.workers.values() if rule.group is None else [found.workers.get(rule.group, Workers())]
    alive = sum(group.alive for group in groups)
    where = "" if rule.group is None else f" in group {rule.group}"
    return Finding(alive < rule.under, f"{_many(alive, 'live worker')}{where}, {rule.under} wanted", alive)


def _short(rule: Rule, found: Found) -> Finding:
    groups = {name or "": group for name, group in found.workers.items() if rule.group in (None, name)}
    texts = [
        f"group {name} has {_many(group.alive, 'live worker')}, {group.wanted} wanted"
        for name, group in sorted(groups.items())
        if group.alive < group.wanted
    ]
    return Finding(bool(texts), _listed(texts) or "no group has fewer workers than it wants", len(texts))


def _waiting(rule: Rule, found: Found) -> Finding:
    ages = {tag: age for tag, age in found.waiting.items() if rule.means(tag)}
    late = sorted((tag for tag, age in ages.items() if age > rule.span), key=lambda tag: (-ages[tag], tag))
    if not late:
        longest = max(ages.values(), default=0.0)
        text = f"the oldest job that is due has waited for {_rounded(longest)}" if ages else "no job is due"
        return Finding(False, text, longest)
    texts = [f"the oldest job of tag {tag} has waited for {_rounded(ages[tag])}" for tag in late]
    return Finding(True, _listed(texts), ages[late[0]])


def _failures(rule: Rule, found: Found) -> Finding:
    pairs = [pair for tag, pair in found.ended.get(rule.span, {}).items() if rule.means(tag)]
    failed, ended = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    rate = 100 * failed / ended if ended else 0.0
    text = f"{failed:,} of {_many(ended, 'job')} that ended in the last {span_text(rule.span)} failed"
    return Finding(ended >= rule.least and rate > rule.rate, f"{text}: {rate:.3g}%", rate)


def _whole(text: str, what: str, least: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise UsageError(f"when: {what} takes a whole number from {least} on, not {text[:40]!r}")
    return int(text)


def _rate(text: str) -> float:
    if not re.fullmatch(r"\d{1,3}(\.\d{1,3})?", text) or not float(text) < 100:
        raise UsageError(f"when: failures over takes percents from 0 to below 100, not {text[:40]!r}")
    return float(text)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _rounded(seconds: float) -> str:
    return span_text(round(seconds) if seconds < 120 else round(seconds / 60) * 60)


def _listed(texts: Sequence[str]) -> str:
    def parts() -> Iterator[str]:
        yield from texts[:NAMED]
        if len(texts) > NAMED:
            yield f"and {len(texts) - NAMED:,} more"

    return "; ".join(parts())
