"""How a sentence feels, by a word list that is loaded once per worker process.

`preload()` runs before the first job; what it leaves in the module stays warm for all the jobs after it. In
real life this is where a model of two gigabytes is read from disk.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated

import msgspec

import hotpath

hotpath.settings(timeout=5.0)

log = logging.getLogger(__name__)
words: dict[str, int] = {}


def preload() -> None:
    """Read the word list that lies beside this file."""
    for line in Path(__file__).with_name("sentiment_words.txt").read_text(encoding="utf-8").splitlines():
        word, score = line.split()
        words[word] = int(score)


def main(text: Annotated[str, msgspec.Meta(min_length=1)], threshold: float = 0.0) -> dict[str, object]:
    """Score `text` from -1 to 1; what lies within `threshold` of 0 counts as neutral."""
    known = [words[word] for word in re.findall(r"[a-z']+", text.lower()) if word in words]
    if not known:
        log.warning("no word of %r is in the list", text)
    score = sum(known) / (5 * len(known)) if known else 0.0
    feeling = "neutral" if abs(score) <= threshold else "positive" if score > 0 else "negative"
    return {"feeling": feeling, "score": round(score, 3), "words": len(known)}
