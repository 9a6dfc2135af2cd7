"""How times, durations and waits are put into words for people, wherever they are shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hotpath.store.flows import Wait


def wait_text(wait: Wait) -> str:
    """What a run waits for, for people."""
    since = "" if wait.since is None else f" since {clock(wait.since)}"
    until = "" if wait.until is None else f" until {clock(wait.until)}"
    match wait.kind:
        case "suspend":
            several = f" ({wait.said} of {wait.required})" if wait.required > 1 else ""
            ends = f",{until}" if until else ""
            return f"waits for approval of step {wait.key}{several}{since}{ends}"
        case "sleep":
            return f"sleeps{until} behind step {wait.key}"
        case "retry":
            return f"waits{until} to run step {wait.key} again"
    where = f"on tag {wait.tag}" if wait.state == "queued" else f"({wait.state})"
    return f"waits for step {wait.key} {where}: job {wait.job}"


def wait_briefly(wait: Wait) -> str:
    """What a run waits for behind a step that is shown beside it."""
    until = "" if wait.until is None else f"until {clock(wait.until)}"
    match wait.kind:
        case "suspend":
            return f"{wait.said} of {wait.required} approvals {until}".rstrip()
        case "child":
            return f"on tag {wait.tag}"
        case "retry":
            return f"{until} to run again"
    return until


def clock(when: datetime | None) -> str:
    """A time for people: ISO 8601 UTC to the millisecond."""
    return (
        "-"
        if when is None
        else when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def many(count: int, what: str, several: str | None = None) -> str:
    """So many of something, for people: `1 job`, `1,200 jobs`."""
    return f"{count:,} {what if count == 1 else several or what + 's'}"


def span(milliseconds: float | None) -> str:
    """A duration for people, with its unit."""
    if milliseconds is None:
        return "-"
    if milliseconds < 1000:
        return f"{milliseconds:.3g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
