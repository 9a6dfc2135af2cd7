"""Where logs go that have left the database: a bucket (S3 and what speaks its language, Azure, GCS) or a
directory, as `HOTPATH_LOG_STORE` says.

obstore does the speaking, by its synchronous calls in threads: there is no asyncio loop here. It reads the
credentials of each cloud where their own tools do (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...). It is imported
when the first object is read or written.
"""

from __future__ import annotations

import functools
import gzip
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import trio

from hotpath.errors import HotpathError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

SECONDS = 30.0
"""Within this time a store has to answer, tries and all."""
_THREADS = 4
_RETRIES = {"max_retries": 2}


class LogStoreError(HotpathError):
    """The object storage that logs are kept in cannot be reached, or does not have what it should."""


@attrs.define(eq=False)
class LogStore:
    """A place for objects, by name. May be used by any number of tasks."""

    location: str
    """Its address; holds no secret, or `config` would have refused it."""
    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(_THREADS), repr=False)
    _opened: Any = attrs.field(default=None, repr=False)

    async def put(self, name: str, data: bytes) -> None:
        """Store an object whole. Raises `LogStoreError`."""
        import obstore

        await self._do(lambda store: obstore.put(store, name, data), "written")

    async def read(self, name: str, at: int, size: int) -> bytes:
        """`size` bytes of an object from byte `at` on. Raises `LogStoreError`."""
        import obstore

        got = await self._do(lambda store: obstore.get_range(store, name, start=at, length=size), "read")
        return bytes(got)

    async def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are not there are no error. Raises `LogStoreError`."""
        import obstore

        def delete(store: ObjectStore) -> None:
            for name in names:
                try:
                    obstore.delete(store, name)
                except FileNotFoundError:
                    continue

        await self._do(delete, "deleted from")

    async def _do(self, call: Callable[[ObjectStore], T], what: str) -> T:
        def work() -> T:
            if self._opened is None:
                self._opened = _open(self.location)
            return call(self._opened)

        try:
            # Abandoned: what a call that goes on unseen has written, nobody refers to.
            return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
        except HotpathError:
            raise
        except Exception as error:
            # The library's own exceptions and several of Python's: whatever it is, the logs are not there.
            raise LogStoreError(f"the log store {self.location} cannot be {what}: {_line(error)}") from error


_MOVED: Final = 4  # texts, of 5 MiB at most
_read: OrderedDict[tuple[str, str, int], str] = OrderedDict()


async def read_moved(location: str, name: str, at: int, size: int) -> str:
    """Text of a log that has moved to the store at `location`; the last few are kept for who reads on.

    Raises `LogStoreError`.
    """
    key = (location, name, at)
    text = _read.pop(key, None)
    if text is None:
        raw = await open_log_store(location).read(name, at, size)
        try:
            text = gzip.decompress(raw).decode()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise LogStoreError(f"object {name} of the log store {location} is damaged: {error}") from error
    _read[key] = text
    while len(_read) > _MOVED:
        _read.popitem(last=False)
    return text


@functools.cache
def open_log_store(location: str) -> LogStore:
    """The store at this address, which `config` has checked. Nothing is asked of it yet."""
    return LogStore(location)


def _open(location: str) -> ObjectStore:
    from obstore.store import LocalStore, from_url

    if "://" not in location or location.startswith("file://"):
        return LocalStore(Path(location.removeprefix("file://")), mkdir=True)
    opener: Callable[..., ObjectStore] = from_url  # its overloads know each cloud's options, we none
    # http is what a store's own address asks for, or not: there is no going down to it.
    options = {"timeout": f"{SECONDS:.0f}s", "connect_timeout": "5s", "allow_http": True}
    return opener(location, client_options=options, retry_config=_RETRIES)


def _line(error: BaseException) -> str:
    text = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())
    return text[:300]
