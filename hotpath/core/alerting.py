"""When an alert fires, repeats and is over: the states, without a clock.

    fine ──true──▶ pending ──true for `hold`──▶ firing ──false──▶ clearing ──false for `clear`──▶ fine
      ▲              │ false                      ▲                  │ true
      └──────────────┘                            └──────────────────┘

What is said: that it fires, once; that it still does, at most every `cooldown`; that it is over, if it was
said to fire. What fires again within the cool-down of the last word is said when that is over, if it fires
then still. While an alert is silenced nothing is said but that what was said before is over.
"""

from __future__ import annotations

import enum

import attrs

UNSEEN = 60.0
"""Seconds without a look after which nobody knows what was in between."""


class Phase(enum.StrEnum):
    """Where an alert stands."""

    FINE = "fine"
    PENDING = "pending"
    """What it watches is so, not yet for long enough."""
    FIRING = "firing"
    CLEARING = "clearing"
    """It fires, and what it watches is not so any more, not yet for long enough."""


class Word(enum.StrEnum):
    """What is said."""

    FIRING = "firing"
    STILL = "still firing"
    RESOLVED = "resolved"
    TEST = "test"


@attrs.frozen(kw_only=True)
class Timing:
    """How patient an alert is, in seconds."""

    hold: float = 0.0
    """What it watches has to be so for this long before it fires."""
    clear: float = 60.0
    """And not to be so for this long before it is over."""
    cooldown: float = 1800.0
    """From one word that it fires to the next."""


@attrs.frozen(kw_only=True)
class Standing:
    """Where one alert stands; times in seconds, on whatever clock."""

    phase: Phase = Phase.FINE
    since: float = 0.0
    """When this phase began."""
    fired_at: float | None = None
    """When it began to fire, if it does."""
    said_at: float | None = None
    """When it was last said that it fires, this time or before."""
    is_said: bool = False
    """Whether it was said that it fires this time."""


def advance(
    standing: Standing, timing: Timing, now: float, *, is_so: bool | None, silenced: bool = False
) -> tuple[Standing, Word | None]:
    """Where it stands when what it watches is so, or is not (None: nobody knows, and it stays where it is);
    and what is to be said.
    """
    if is_so is not None:
        standing = _moved(standing, timing, now, is_so=is_so)
    if standing.phase is Phase.FINE and standing.is_said:
        return attrs.evolve(standing, is_said=False), Word.RESOLVED
    said_at = standing.said_at
    # A clock that was set back does not keep it silent for longer than the cool-down.
    is_cool = said_at is None or now - said_at >= timing.cooldown or said_at > now
    if standing.phase is Phase.FIRING and is_cool and not silenced:
        word = Word.STILL if standing.is_said else Word.FIRING
        return attrs.evolve(standing, is_said=True, said_at=now), word
    return standing, None


def _moved(standing: Standing, timing: Timing, now: float, *, is_so: bool) -> Standing:
    phase = standing.phase
    elapsed = max(now - standing.since, 0.0)
    if phase is Phase.FINE and is_so:
        phase, elapsed = Phase.PENDING, 0.0
    elif phase is Phase.FIRING and not is_so:
        phase, elapsed = Phase.CLEARING, 0.0
    elif phase is Phase.PENDING and not is_so:
        phase = Phase.FINE
    elif phase is Phase.CLEARING and is_so:
        phase = Phase.FIRING
    if phase is Phase.PENDING and elapsed >= timing.hold:
        phase = Phase.FIRING
    elif phase is Phase.CLEARING and elapsed >= timing.clear:
        phase = Phase.FINE
    if phase is standing.phase:
        return attrs.evolve(standing, since=min(standing.since, now))
    fired_at = standing.fired_at
    if phase is Phase.FINE:
        fired_at = None
    elif phase is Phase.FIRING and fired_at is None:
        fired_at = now
    return attrs.evolve(standing, phase=phase, since=now, fired_at=fired_at)


def resume(standing: Standing, now: float, looked_at: float | None) -> Standing:
    """Where it stands for who looks again: when nobody has for long, nobody knows whether it was so all the
    time, and its patience begins anew.
    """
    is_long = looked_at is not None and now - looked_at > UNSEEN
    if is_long and standing.phase in (Phase.PENDING, Phase.CLEARING):
        return attrs.evolve(standing, since=now)
    return standing


FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds until the second try to deliver a word; and between tries, at most."""


def pause_after(tries: int) -> float:
    """Seconds until the next try to deliver what so many tries did not."""
    return min(FIRST_PAUSE * 2.0 ** min(max(tries - 1, 0), 30), LONGEST_PAUSE)
