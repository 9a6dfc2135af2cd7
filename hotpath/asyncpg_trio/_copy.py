"""COPY both ways: files, byte streams and records, held to the pace of whoever is slower."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
from asyncpg.protocol.protocol import NO_TIMEOUT

from ._cancel import drain_operation
from ._wire import AnsweredEarly, Wire

if TYPE_CHECKING:
    from ._connection import Connection
    from ._session import Session

# Seconds between two looks at the socket while a slow source is copied in.
_LOOK_EVERY = 0.1
# One read of a file that is copied in, as asyncpg does.
_FILE_CHUNK = 524_288


class _UserCodeFailed(Exception):
    """Carries whatever the user's source or sink raised, cancellation too, through the protocol."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class CopyMethods:
    """The COPY methods of ``Connection``."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _live(self) -> Session: ...

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
        columns: Iterable[str] | None = None,
        schema_name: str | None = None,
        where: str | None = None,
    ) -> str:
        """Copy records into a table by binary COPY and return its status, e.g. ``COPY 100``.

        All records are stored, or, on an error or a cancellation, none. ``where`` is SQL, as in asyncpg.
        """
        names = None if columns is None else list(columns)
        table = _table(table_name, schema_name, names)
        wanted = "*" if names is None else ", ".join(map(quote_ident, names))
        async with self._copying() as session:
            source: Any = records
            if isinstance(records, AsyncIterable):
                source = _Guarded(records, session.wire)
            # Tells the types of the columns, and with them how to encode the records.
            described = await session.prepare(
                f"SELECT {wanted} FROM {_table(table_name, schema_name)} LIMIT 1"  # noqa: S608 - quoted
            )
            described.attach()
            try:
                statement = f"COPY {table} FROM STDIN (FORMAT binary) {_where(where)}"
                status: str = await session.protocol.copy_in(
                    statement, None, None, source, described, NO_TIMEOUT
                )
                return status
            finally:
                described.detach()

    async def copy_to_table(
        self,
        table_name: str,
        *,
        source: Any,
        columns: Iterable[str] | None = None,
        schema_name: str | None = None,
        where: str | None = None,
        **options: Any,
    ) -> str:
        """Copy a path, a file-like object, an async iterable of bytes, or bytes into a table.

        ``options`` are those of COPY: ``format``, ``delimiter``, ``null``, ``header``, ``quote``, ``escape``,
        ``force_quote``, ``force_not_null``, ``force_null``, ``encoding``, ``freeze``.
        """
        table = _table(table_name, schema_name, columns)
        statement = f"COPY {table} FROM STDIN {_options(options)} {_where(where)}"
        async with _opened(source, "rb", "read") as (kind, opened), self._copying() as session:
            reader, data = None, None
            if kind == "file":
                reader = _Guarded(_FileChunks(opened), session.wire)
            elif isinstance(opened, AsyncIterable):
                reader = _Guarded(opened, session.wire)
            else:
                data = opened
            copy_in: Any = session.protocol.copy_in
            status: str = await copy_in(statement, reader, data, None, None, NO_TIMEOUT)
            return status

    async def copy_from_table(
        self,
        table_name: str,
        *,
        output: Any,
        columns: Iterable[str] | None = None,
        schema_name: str | None = None,
        **options: Any,
    ) -> str:
        """Copy a table to a path, a file-like object, or an async function that takes bytes.

        ``options`` as for ``copy_to_table``.
        """
        statement = f"COPY {_table(table_name, schema_name, columns)} TO STDOUT {_options(options)}"
        return await self._copy_out(statement, output)

    async def copy_from_query(self, query: str, *args: Any, output: Any, **options: Any) -> str:
        """Copy the rows of a query, as ``copy_from_table``; the server makes literals of ``args``."""
        if args:
            query = await self._with_literals(query, args)
        return await self._copy_out(f"COPY ({query}) TO STDOUT {_options(options)}", output)

    async def _copy_out(self, statement: str, output: Any) -> str:
        async with _opened(output, "wb", "write") as (kind, opened):
            if kind != "file" and not callable(opened):
                raise TypeError(
                    f"output must be a path, a file or an async function, not {type(opened).__name__}"
                )
            write = _file_writer(opened) if kind == "file" else opened

            async with self._copying() as session:
                failure: _UserCodeFailed | None = None

                async def sink(data: bytes) -> None:
                    nonlocal failure
                    try:
                        await write(data)
                    except BaseException as error:  # raised again by _copying
                        failure = _UserCodeFailed(error)
                        _, is_last, _ = session.wire.latest.result()
                        if not is_last:
                            raise failure from error
                        # The server has ended the COPY: the protocol would wait in vain for it to be stopped.

                session.wire.copying_out = True
                status: str = await session.protocol.copy_out(statement, sink, NO_TIMEOUT)
                if failure is not None:
                    raise failure
                return status

    @asynccontextmanager
    async def _copying(self) -> AsyncIterator[Session]:
        """Hold the session for one COPY, and see to it that COPY is over when the block is."""
        session = self._live()
        await trio.lowlevel.checkpoint_if_cancelled()
        wire = session.wire
        wire.take()
        try:
            yield session
        except _UserCodeFailed as failure:
            await _end_copy(session)
            raise failure.error from failure.error.__cause__
        except AnsweredEarly:
            wire.latest.result()  # raises what the server said
            raise
        except (Exception, trio.Cancelled):
            await _end_copy(session)
            raise
        except BaseException:
            session.terminate()
            raise
        finally:
            session.wire.copying_out = False
            wire.release()

    async def _with_literals(self, query: str, args: Sequence[Any]) -> str:
        """Put arguments into a query as literals that the server has quoted, each with its type."""
        connection: Connection = self  # type: ignore[assignment]
        statement = await connection.prepare(query)
        types = [
            f"{quote_ident(t.schema)}.{quote_ident(_catalog_name(t.name))}"
            for t in statement.get_parameters()
        ]
        casts = ", ".join(f"quote_nullable(${i}::{name}::text)" for i, name in enumerate(types, 1))
        literals = await connection.fetchrow(f"SELECT {casts}", *args)
        assert literals is not None
        return re.sub(r"\$(\d+)\b", lambda match: str(literals[int(match[1]) - 1]), query)


async def _end_copy(session: Session) -> None:
    """If the protocol wants a running COPY cancelled, have it done before anybody uses the session again."""
    waiter = session.take_cancel_waiter()
    if waiter is not None and not session.wire.lost:
        await drain_operation(session, waiter)


class _Guarded:
    """An async iterable whose every failure the protocol understands as one; see ``_UserCodeFailed``.

    It also looks now and then whether the server still wants more: between two big messages nobody else does.
    """

    def __init__(self, source: AsyncIterable[Any], wire: Wire) -> None:
        self._iterator = source.__aiter__()
        self._wire = wire
        self._look_at = time.monotonic() + _LOOK_EVERY

    def __aiter__(self) -> _Guarded:
        return self

    async def __anext__(self) -> Any:
        now = time.monotonic()
        if now > self._look_at:
            self._look_at = now + _LOOK_EVERY
            self._wire.receive()
            if self._wire.lost or self._wire.latest.done():
                raise AnsweredEarly
        try:
            return await self._iterator.__anext__()
        except StopAsyncIteration:
            raise
        except BaseException as error:
            raise _UserCodeFailed(error) from error


class _FileChunks:
    """A file-like object as an async iterable of bytes."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __aiter__(self) -> _FileChunks:
        return self

    async def __anext__(self) -> bytes:
        data: bytes
        if isinstance(self._file, io.BytesIO):
            data = self._file.read(_FILE_CHUNK)
        else:
            data = await trio.to_thread.run_sync(self._file.read, _FILE_CHUNK)
        if not data:
            raise StopAsyncIteration
        return data


def _file_writer(file: Any) -> Callable[[bytes], Awaitable[None]]:
    async def write(data: bytes) -> None:
        if isinstance(file, io.BytesIO):
            file.write(data)
        else:
            await trio.to_thread.run_sync(file.write, data)

    return write


@asynccontextmanager
async def _opened(target: Any, mode: str, method: str) -> AsyncIterator[tuple[str, Any]]:
    """Yield ("file", an open file) for paths and file-like objects, else ("other", the target itself)."""
    if isinstance(target, str | os.PathLike):
        file = await trio.to_thread.run_sync(open, target, mode)
        with file:
            yield "file", file
    else:
        yield ("file" if hasattr(target, method) else "other"), target


def quote_ident(name: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _quote_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _catalog_name(name: str) -> str:
    return "_" + name[:-2] if name.endswith("[]") else name


def _table(name: str, schema: str | None, columns: Iterable[str] | None = None) -> str:
    table = quote_ident(name) if schema is None else f"{quote_ident(schema)}.{quote_ident(name)}"
    return table if columns is None else f"{table} ({', '.join(map(quote_ident, columns))})"


def _where(condition: str | None) -> str:
    return f"WHERE {condition}" if condition else ""


_FLAGS = ("freeze", "header")
_COLUMN_LISTS = ("force_quote", "force_not_null", "force_null")
_LITERALS = ("format", "delimiter", "null", "quote", "escape", "encoding")


def _options(options: dict[str, Any]) -> str:
    """Return COPY's parenthesised options. Raises TypeError for one it does not have."""
    parts = []
    for name, value in options.items():
        if name not in _FLAGS + _COLUMN_LISTS + _LITERALS:
            raise TypeError(f"COPY has no option {name!r}")
        if value is None:
            continue
        if name in _FLAGS:
            parts.append(f"{name} {'true' if value else 'false'}")
        elif name in _LITERALS:
            parts.append(f"{name} {_quote_literal(value)}")
        elif value is True:
            parts.append(f"{name} *")
        elif value is not False:
            parts.append(f"{name} ({', '.join(map(quote_ident, value))})")
    return f"({', '.join(parts)})" if parts else ""
