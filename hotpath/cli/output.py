"""How commands print: JSON for programs, aligned columns for people, nothing that could take over a
terminal.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

# Colours (SGR) may pass; others could move the cursor, change the title or make the terminal answer.
_UNSAFE = re.compile(r"\x1b\[[0-9;:]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_C1 = re.compile("[\x80-\x9f]")
_LONE = re.compile("[\ud800-\udfff]")


def safe(text: str) -> str:
    """`text` as a terminal may see it: colours stay, other control characters are shown as escapes."""

    def shown(match: re.Match[str]) -> str:
        found = match.group()
        return found if len(found) > 1 or found == "\r" else f"\\x{ord(found):02x}"

    return _UNSAFE.sub(shown, _LONE.sub("\N{REPLACEMENT CHARACTER}", text))


def printable(text: str, stream: Any = None) -> str:
    """`text` made `safe` if stdout (or `stream`) is a terminal; else as it is."""
    return safe(text) if (stream or sys.stdout).isatty() else text


def print_alarm(text: str) -> None:
    """A line that is not to be overlooked: on a terminal in red."""
    line = safe(text).replace("\n", " ")
    print(f"\x1b[1;31m{line}\x1b[0m" if sys.stdout.isatty() else line)


def to_json(value: Any) -> str:
    """One JSON document on one line; times as ISO 8601 UTC."""
    import msgspec

    return _escaped(msgspec.json.encode(value).decode())


def print_json(value: Any) -> None:
    """Print one JSON document on a line of its own."""
    print(to_json(value))


def pretty_json(value: Any) -> str:
    """JSON for people: indented on a terminal, else on one line."""
    import msgspec

    raw = msgspec.json.encode(value)
    return _escaped((msgspec.json.format(raw, indent=2) if sys.stdout.isatty() else raw).decode())


def _escaped(text: str) -> str:
    """JSON without the control characters that it need not escape, and terminals heed (C1)."""
    return text if text.isascii() else _C1.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Aligned columns; cut to the width of the terminal if there is one. `right`: columns to align on that
    side.
    """
    cells = [list(heads), *([safe(cell).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(heads))]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in cells:
        line = "  ".join(
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        print(line if room is None or len(line) <= room else line[: room - 1] + "…")
