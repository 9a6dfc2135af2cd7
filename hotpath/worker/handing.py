"""How a supervisor hands what it has claimed to the process that is to run it: bytes on a pipe.

A message is two lengths, a head (MessagePack) and a body: the ids that the jobs have of their own, 16 bytes
each, then the args, a JSON array. Args may be megabytes, and hold any byte that JSON may: nothing is split by
lines here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from uuid import UUID

import msgspec

from hotpath.core.hand import Hand
from hotpath.store.claimed import hand_of
from hotpath.store.mixed import Segment

_LENGTHS = struct.Struct("<II")
_ID = 16


class _Head(msgspec.Struct, array_like=True, frozen=True):
    lease: int
    base: bytes
    lo: int
    hi: int
    has_ids: bool
    attempts: list[int] | None
    skip: bytes | None
    tag: str
    timeouts: list[int | None] | None
    alone: bool
    rated: bool
    more: bool


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(_Head).decode
FINISH = _LENGTHS.pack(0, 0)
"""Nothing more is to come soon."""


class _Ids(Sequence[UUID]):
    """Ids that are made when asked for: most jobs never ask."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def __len__(self) -> int:
        return len(self._raw) // _ID

    def __getitem__(self, index: int) -> UUID:  # type: ignore[override]  # a slice is never asked for
        at = index * _ID
        if not 0 <= at < len(self._raw):
            raise IndexError(index)  # iteration ends by it
        return UUID(bytes=self._raw[at : at + _ID])


def pack(segment: Segment, tag: str, *, more: bool) -> bytes:
    """A segment as the bytes to send; `more`: others come soon."""
    ids = b"".join([job.bytes for job in segment.ids]) if segment.ids is not None else b""
    head = _encode(
        _Head(
            segment.lease,
            segment.base.bytes,
            segment.lo,
            segment.hi,
            segment.ids is not None,
            segment.attempts,
            segment.skip,
            tag,
            segment.timeouts_ms,
            segment.alone,
            segment.rated,
            more,
        )
    )
    return b"".join((_LENGTHS.pack(len(head), len(ids) + len(segment.args)), head, ids, segment.args))


def hand_of_segment(segment: Segment, tag: str) -> Hand:
    """The segment as a lease in hand, where it is."""
    return hand_of(
        *(segment.lease, segment.base, segment.lo, segment.hi, segment.ids, segment.attempts),
        *(segment.skip, segment.args, tag, segment.timeouts_ms),
        alone=segment.alone,
    )


class Unpacker:
    """Puts together again what arrives in pieces."""

    def __init__(self) -> None:
        self._received = bytearray()

    def take(self, data: bytes | bytearray) -> Iterator[tuple[Hand | None, bool, bool]]:
        """What is complete now, whether a rate wants to know when it has begun, and whether more comes soon;
        None: nothing does.
        """
        received = self._received
        received += data
        while len(received) >= _LENGTHS.size:
            head_size, body_size = _LENGTHS.unpack_from(received)
            end = _LENGTHS.size + head_size + body_size
            if len(received) < end:
                return
            body_at = _LENGTHS.size + head_size
            head, body = bytes(received[_LENGTHS.size : body_at]), bytes(received[body_at:end])
            del received[:end]
            yield (None, False, False) if not head else _unpacked(_decode(head), body)


def _unpacked(head: _Head, body: bytes) -> tuple[Hand, bool, bool]:
    split = _ID * (head.hi - head.lo) if head.has_ids else 0
    hand = hand_of(
        head.lease,
        UUID(bytes=head.base),
        head.lo,
        head.hi,
        _Ids(body[:split]) if head.has_ids else None,
        head.attempts,
        head.skip,
        body[split:],
        head.tag,
        head.timeouts,
        alone=head.alone,
    )
    return hand, head.rated, head.more
