"""Which line of a file each of many jobs is from: blank lines make none."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right

from hotpath.errors import HotpathError

_OF_JOB = re.compile(r"job (\d+) of \S+: (.+)", re.DOTALL)
"""How an error begins that is about one of many jobs, by its place among them from 0."""


class LineNumbers:
    """Told of each blank line as it is read."""

    def __init__(self) -> None:
        self._blank = array("Q")  # of each blank line, how many jobs came before it

    def blank(self, number: int) -> None:
        """The line of this number, from 1, makes no job."""
        self._blank.append(number - 1 - len(self._blank))

    def name(self, error: HotpathError, where: str = "") -> None:
        """Have an error that is about one of the jobs name its line, from 1."""
        if found := _OF_JOB.fullmatch(str(error)):
            place = int(found[1])
            line = place + 1 + bisect_right(self._blank, place)
            error.args = (
                f"{where}line {line}: {found[2]}; nothing was enqueued",
            )  # the same error, elsewhere
