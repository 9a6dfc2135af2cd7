"""The lines of a body, in constant memory: what a request of many jobs is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio
from starlette.requests import Request

from hotpath.core.line_numbers import LineNumbers
from hotpath.core.storable import MAX_BYTES
from hotpath.errors import BadArgsError
from hotpath.web.problem import ProblemError, field_of
from hotpath.web.reading import next_chunk

LINE_BYTES = MAX_BYTES + (1 << 20)
"""Length up to which a line is read: more than the 16 MiB that args may have."""
PATIENCE = 30.0
"""Seconds without a byte after which a client has gone."""
TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_BOM = b"\xef\xbb\xbf"


def check_type(request: Request) -> None:
    """Refuse a body that does not say that it is lines of JSON. Raises `ProblemError`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in TYPES:
        raise ProblemError(
            415, "Unsupported Media Type", f"send {TYPES[0]}, one JSON object a line, and say so",
            type="unsupported-media-type",
        )  # fmt: skip


class Lines:
    """The checked lines of a request's body, as they arrive; blank ones are skipped.

    Raises `ProblemError` that names the line, and the field if one is wrong; `ClientDisconnect`.
    """

    def __init__(self, request: Request, check: Callable[[bytes], bytes]) -> None:
        self.number = 0
        """Lines read so far."""
        self.numbers = LineNumbers()
        self._request = request
        self._check = check
        self._ready: Iterator[bytes] = iter(())
        self._begun: list[bytes] = []
        self._size = 0
        self._ended = False

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> bytes:
        while True:
            for line in self._ready:
                self.number += 1
                if self.number == 1 and line.startswith(_BOM):
                    line = line[len(_BOM) :]
                line = line.strip()
                if line:
                    return self._checked(line)
                self.numbers.blank(self.number)
            if self._ended:
                raise StopAsyncIteration
            await self._read()

    def _checked(self, line: bytes) -> bytes:
        try:
            return self._check(line)
        except BadArgsError as error:
            detail = f"line {self.number}: {error}; nothing was enqueued"
            raise ProblemError(
                400, "The args are not accepted", detail, type="bad-args", line=self.number,
                field=field_of(str(error)),
            ) from None  # fmt: skip

    async def _read(self) -> None:
        """Some more of the body: the lines that end in it become ready."""
        with trio.move_on_after(PATIENCE) as waiting:
            chunk = await next_chunk(self._request)
        if waiting.cancelled_caught:
            raise ProblemError(
                408, "Request Timeout", f"nothing came for {PATIENCE:.0f} s; nothing was enqueued",
                type="request-timeout",
            )  # fmt: skip
        if not chunk:
            self._ended = True
            self._ready = iter((b"".join(self._begun),))
            self._begun = []
            return
        first, *rest = chunk.split(b"\n")
        self._begun.append(first)
        self._size += len(first)
        if self._size > LINE_BYTES:
            raise ProblemError(
                413, "Content Too Large",
                f"line {self.number + 1} is longer than {LINE_BYTES:,} bytes; nothing was enqueued",
                type="too-large", line=self.number + 1,
            )  # fmt: skip
        if rest:
            whole = b"".join(self._begun)
            self._begun = [rest.pop()]
            self._size = len(self._begun[0])
            self._ready = iter((whole, *rest))
