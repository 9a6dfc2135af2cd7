"""A caller's args as they are read to be put in: what they raise is told apart from the database's errors."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Any

from hotpath.core.schema import ArgsValidator
from hotpath.store.seal import Contents

Args = Mapping[str, Any]


class SourceFailed(Exception):
    """Carries what a caller's iterable raised past the translation of database errors."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Source:
    """A caller's iterable whose errors stay the caller's: an OSError of a file is no trouble with the
    database.
    """

    def __init__(self, batches: Iterable[Contents]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Contents]:
        try:
            yield from self._batches
        except Exception as error:  # noqa: BLE001 - the caller's code raises what it likes
            raise SourceFailed(error) from None


class Encoded:
    """The args of an async iterable as JSON."""

    def __init__(self, args: AsyncIterable[Args], validator: ArgsValidator) -> None:
        self._source = aiter(args)
        self._encode = validator.encode

    def __aiter__(self) -> Encoded:
        return self

    async def __anext__(self) -> bytes:
        try:
            return self._encode(await anext(self._source))
        except StopAsyncIteration:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            raise SourceFailed(error) from None
