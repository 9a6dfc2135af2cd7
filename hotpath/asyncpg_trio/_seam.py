"""The seam: which asyncpg this package fits, and the few names its compiled protocol takes from asyncio.

asyncpg's protocol is a compiled state machine that never starts a loop, but its bulk paths
(``executemany``, COPY) name four asyncio functions: ``wait_for``, ``timeout``, ``shield`` and ``sleep``.
Inside a Trio task they must not be called, so the protocol module's two namespaces are replaced, once, by
ones that answer themselves under Trio and hand everything else to the originals. asyncpg on asyncio in the
same process is not affected.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from types import ModuleType
from typing import Any, TypeVar

import asyncpg
import trio
from asyncpg.protocol import protocol

_T = TypeVar("_T")

# The series whose protocol internals were read and tested. Others may work and may not: refuse, do not guess.
TESTED_ASYNCPG = ("0.32",)


def check_asyncpg_version(version: str = asyncpg.__version__) -> None:
    """Raise ImportError unless ``version`` is of a series this package was tested with."""
    if ".".join(version.split(".")[:2]) not in TESTED_ASYNCPG:
        tested = ", ".join(f"{series}.x" for series in TESTED_ASYNCPG)
        message = f"asyncpg_trio was tested with asyncpg {tested}; found {version}: install a tested one"
        raise ImportError(message)


class _Namespace:
    """A module seen through a few replacements."""

    def __init__(self, original: ModuleType) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _Compat(_Namespace):
    """``asyncpg.compat`` as the protocol sees it."""

    async def wait_for(self, awaitable: Awaitable[_T], timeout: float | None) -> _T:  # noqa: ASYNC109
        if trio.lowlevel.in_trio_task():
            return await awaitable
        result: _T = await self._original.wait_for(awaitable, timeout)
        return result

    @contextlib.asynccontextmanager
    async def timeout(self, delay: float | None) -> AsyncIterator[None]:
        if trio.lowlevel.in_trio_task():
            yield
        else:
            async with self._original.timeout(delay):
                yield


class _Asyncio(_Namespace):
    """``asyncio`` as the protocol sees it."""

    def shield(self, awaitable: Awaitable[_T]) -> Awaitable[_T]:
        if trio.lowlevel.in_trio_task():
            return awaitable
        shielded: Awaitable[_T] = self._original.shield(awaitable)
        return shielded

    async def sleep(self, delay: float) -> None:
        # Under Trio the write gate that is awaited just before is the checkpoint; a second one, here, could
        # be cancelled where the protocol would forget to end what it began.
        if not trio.lowlevel.in_trio_task():
            await self._original.sleep(delay)


def install() -> None:
    """Put the replacements in place; calling it again changes nothing."""
    compiled: Any = protocol
    if not isinstance(compiled.compat, _Namespace):
        compiled.compat = _Compat(compiled.compat)
        compiled.asyncio = _Asyncio(compiled.asyncio)
