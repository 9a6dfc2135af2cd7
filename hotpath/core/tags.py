"""Which tags a worker listens to: names, patterns with `*`, and exclusions that begin with `!`.

A worker listens to a tag if one of its patterns fits and none of its exclusions does. Exclusions alone mean
all but these. `hotpath.tag_listened` in SQL says the same; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from hotpath.errors import UsageError

MAX_BYTES = 255
WILD, EXCLUDES = "*", "!"


@attrs.frozen
class Patterns:
    """What a worker listens to."""

    texts: tuple[str, ...]
    """As they were given, without doubles."""
    _fitting: re.Pattern[str] = attrs.field(repr=False, eq=False)
    _excluded: re.Pattern[str] | None = attrs.field(repr=False, eq=False)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The tags, if they are all named; None: there are patterns among them."""
        if any(WILD in text or text.startswith(EXCLUDES) for text in self.texts):
            return None
        return self.texts

    def listens(self, tag: str) -> bool:
        """Whether a worker with these patterns takes jobs of this tag."""
        if self._excluded is not None and self._excluded.fullmatch(tag):
            return False
        return self._fitting.fullmatch(tag) is not None


def parse_patterns(texts: Iterable[str], where: str = "--tags") -> Patterns:
    """The patterns, checked. Raises `UsageError` that begins with `where`."""
    given = tuple(dict.fromkeys(text.strip() for text in texts))
    if not given:
        raise UsageError(f"{where} names no tag; give names or patterns with commas between, such as a,etl-*")
    for text in given:
        name = text.removeprefix(EXCLUDES)
        if not name or name.startswith(EXCLUDES) or not name.isprintable():
            raise UsageError(f"{where}: {text!r} is no tag and no pattern, such as a, etl-* or !etl-slow")
        if len(text.encode()) > MAX_BYTES:
            raise UsageError(f"{where}: {text[:40]!r}... is longer than {MAX_BYTES} bytes")
    excluded = [text[1:] for text in given if text.startswith(EXCLUDES)]
    fitting = [text for text in given if not text.startswith(EXCLUDES)] or [WILD]
    return Patterns(given, _expression(fitting), _expression(excluded) if excluded else None)


def refuse_unheard(patterns: Patterns, where: str = "--tags") -> None:
    """Refuse a name or pattern of which an exclusion leaves nothing. Raises `UsageError` that begins with
    `where`.
    """
    fitting = [text for text in patterns.texts if not text.startswith(EXCLUDES)] or [WILD]
    for text in fitting:
        # As a text: what fits it with its stars fits whatever they stand for.
        if not patterns.listens(text):
            excluded = next(
                each
                for each in patterns.texts
                if each.startswith(EXCLUDES) and _expression([each[1:]]).fullmatch(text)
            )
            raise UsageError(f"{where}: {excluded!r} excludes all of {text!r}: leave one of them out")


def _expression(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile(
        "|".join(".*".join(map(re.escape, pattern.split(WILD))) for pattern in patterns), re.DOTALL
    )
