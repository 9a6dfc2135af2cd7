"""`hotpath top`: the queue, live: tags, workers, and what failed lately."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import click
import trio

from hotpath.cli.options import Given, common

EVERY = 1.0
"""Seconds from one look to the next."""
QUIET = 4.0
"""Seconds without a word from the server after which the screen says so."""

Next = Callable[[], Awaitable[dict[str, Any]]]


@click.command("top")
@click.option(
    "--server", metavar="URL", envvar="HOTPATH_SERVER_URL",
    help="Ask `hotpath serve` there instead of the database. [HOTPATH_SERVER_URL; token: HOTPATH_TOKEN]",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1), metavar="N", help="Print N tables, one a second, and end.")
@common
def command(given: Given, *, server: str | None, count: int | None) -> int:
    """Show tags, workers and the latest failures, again every second. q ends it.

    Where there is no terminal, or with --count, a table is printed every second; with --json a document.
    """
    return given.run(_top, given, server, count)


async def _top(given: Given, server: str | None, count: int | None) -> int:
    async with _source(given, server) as look:
        if given.json or count is not None or not sys.stdout.isatty():
            await _print(given, look, count)
        else:
            await _show(look, server)
    return 0


@asynccontextmanager
async def _source(given: Given, server: str | None) -> AsyncIterator[Next]:
    """What gives the next document, when it is time for it."""
    if server is not None:
        from hotpath.remote import open_remote

        async with (
            open_remote(server, os.environ.get("HOTPATH_TOKEN") or None) as remote,
            remote.subscribe("top") as events,
        ):

            async def heard() -> dict[str, Any]:
                data: dict[str, Any] = (await anext(events))["data"]
                return data

            yield heard
        return

    import msgspec

    from hotpath.client import open_client
    from hotpath.web.glance import read_top

    due = 0.0
    async with open_client(config=given.config) as client:

        async def looked() -> dict[str, Any]:
            nonlocal due
            await trio.sleep_until(due)
            begun = trio.current_time()
            async with client.database.connection(within=10) as connection:
                document: dict[str, Any] = msgspec.to_builtins(await read_top(connection))
            due = max(begun + EVERY, trio.current_time() + EVERY / 2)
            return document

        yield looked


async def _print(given: Given, look: Next, count: int | None) -> None:
    from hotpath.cli.output import print_json

    done = 0
    while count is None or done < count:
        document = await look()
        if given.json:
            print_json(document)
        else:
            if done:
                print()
            _print_plain(document)
        sys.stdout.flush()
        done += 1


def _print_plain(document: dict[str, Any]) -> None:
    from hotpath.cli import top_view
    from hotpath.cli.output import print_table

    print(top_view.headline(document))
    for table in top_view.tables(document):
        if table.rows:
            print()
            print_table(table.heads, table.rows, right=table.right)


async def _show(look: Next, server: str | None) -> None:
    """Show it on the whole terminal until `q` is pressed."""
    from rich.console import Console
    from rich.live import Live

    from hotpath.cli.top_view import screen
    from hotpath.errors import DatabaseUnavailableError

    console = Console()
    document = await look()  # if that cannot be, it is said as any command says it
    with Live(console=console, screen=True, auto_refresh=False) as live, _single_keys() as has_keys:
        async with trio.open_nursery() as nursery:
            if has_keys:
                nursery.start_soon(_end_by_key, nursery.cancel_scope)
            trouble = ""
            while True:
                live.update(screen(document, console.size, source=server, trouble=trouble), refresh=True)
                try:
                    with trio.move_on_after(QUIET if server else float("inf")) as scope:
                        document = await look()
                    trouble = "no word from the server; still trying" if scope.cancelled_caught else ""
                except DatabaseUnavailableError as error:
                    trouble = str(error)
                    await trio.sleep(EVERY)


async def _end_by_key(scope: trio.CancelScope) -> None:
    while True:
        await trio.lowlevel.wait_readable(sys.stdin)
        keys = os.read(sys.stdin.fileno(), 64)
        if not keys or b"q" in keys or b"Q" in keys or b"\x04" in keys:
            scope.cancel(reason="q was pressed")
            return


@contextmanager
def _single_keys() -> Iterator[bool]:
    """Have keys come one by one, unseen; whether there are any."""
    if not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield True
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
