"""What is said of an alert, in the shapes that channels take."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import attrs

from hotpath.core.alerting import Word


@attrs.frozen(kw_only=True)
class Said:
    """A word that is to be delivered."""

    id: int
    """The same at each try: a receiver that has seen it has it twice."""
    alert: str
    word: Word
    rule: str
    """What the alert watches, as it is written."""
    finding: str
    """How it is."""
    fired_at: datetime | None
    said_at: datetime

    @property
    def text(self) -> str:
        """All of it in a line."""
        if self.word is Word.TEST:
            return f"TEST of alert {self.alert} ({self.rule}): {self.finding}"
        since = "" if self.fired_at is None else f" (since {_clock(self.fired_at)})"
        return f"{self.word.upper()} {self.alert}: {self.finding}{since} [{self.rule}]"

    @property
    def document(self) -> dict[str, Any]:
        """All of it for programs."""
        return {
            "id": self.id,
            "alert": self.alert,
            "state": self.word.value,
            "rule": self.rule,
            "finding": self.finding,
            "text": self.text,
            "fired_at": None if self.fired_at is None else _clock(self.fired_at),
            "said_at": _clock(self.said_at),
        }

    @property
    def json(self) -> bytes:
        """The document as JSON."""
        return json.dumps(self.document).encode()

    @property
    def slack(self) -> bytes:
        """What Slack and those like it take: text in which nothing is a link or a mention."""
        text = self.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return json.dumps({"text": text}).encode()

    @property
    def subject(self) -> str:
        """Of an e-mail."""
        return f"[hotpath] {self.word.upper()}: {self.alert}"


def _clock(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
