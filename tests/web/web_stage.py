"""A real server in the process of a test, before a real and fresh database, and what tests do with it."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from hotpath.client import Client, open_client
from hotpath.model import Description, Settings
from hotpath.store.scripts import register_version
from hotpath.web.app import make_app
from hotpath.web.listener import Listener, open_sockets
from hotpath.web.options import ServeOptions
from hotpath.web.state import ServerState

SCRIPTS = {
    "add.py": '''
        """Numbers."""
        def main(x: int, y: int = 1) -> int:
            """Add two numbers."""
            print("adding", x, y)
            return x + y
    ''',
    "fail.py": """
        def main(x: int = 0):
            print("<b>no</b> \\x1b[31mred\\x1b[0m")
            raise ValueError(f"no {x}")
    """,
    "f/team/echo.py": """
        def main(**kwargs):
            return kwargs
    """,
}

# What the database knows of them; reading them in child processes takes half a second each.
DESCRIPTIONS = [
    Description(
        path="add", hash="a" * 64, is_async=False, settings=Settings(), summary="Add two numbers.",
        schema={
            "type": "object", "required": ["x"], "additionalProperties": False,
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 1}},
        },
    ),
    Description(
        path="fail", hash="b" * 64, is_async=False, settings=Settings(),
        schema={
            "type": "object", "properties": {"x": {"type": "integer", "default": 0}}, "required": [],
            "additionalProperties": False,
        },
    ),
    Description(
        path="f/team/echo", hash="c" * 64, is_async=False, settings=Settings(),
        schema={"type": "object", "properties": {}, "required": [], "additionalProperties": True},
    ),
]  # fmt: skip


@attrs.frozen
class Served:
    """A server that runs in this process."""

    url: str
    """Its address, such as `http://127.0.0.1:4711`."""
    client: Client
    """The server's own client of the library: what a test puts in by it, the server sees."""
    http: httpx.AsyncClient
    """A client of the HTTP API, with the server's address for its base."""
    state: ServerState
    done: trio.Event
    """Set when it has stopped; `state.stopping` has it begin to."""

    async def connect(self) -> trio.SocketStream:
        """A connection for bytes that no client would send."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return await trio.open_tcp_stream(host, int(port))

    async def put_in(self, script: str = "add", **args: Any) -> str:
        """A job's id."""
        return str(await self.client.enqueue(script, args or {"x": 1}))


def write_workspace(directory: Path) -> None:
    """Files of the scripts."""
    for name, source in SCRIPTS.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))


@asynccontextmanager
async def serving(database_url: str, workspace: Path, **options: Any) -> AsyncIterator[Served]:
    """Serve that database while the context lasts. `options` are those of `ServeOptions`."""
    chosen = ServeOptions(**{"port": 0, "grace": 0.5} | options)
    opened = open_client(database_url, workspace=workspace, registers=False)
    async with opened as client, trio.open_nursery() as nursery:
        async with client.database.connection() as connection:
            for description in DESCRIPTIONS:
                await register_version(connection, description)
        state = ServerState(client=client, options=chosen, nursery=nursery)
        done = trio.Event()

        async def run(task_status=trio.TASK_STATUS_IGNORED):
            listener = Listener(make_app(state), chosen)
            await listener.run(
                open_sockets(chosen), None, state.stopping, chosen.grace, task_status=task_status
            )
            done.set()

        (url,) = await nursery.start(run)
        try:
            async with httpx.AsyncClient(base_url=url, timeout=20) as http:
                yield Served(url, client, http, state, done)
        finally:
            state.stopping.set()
            with trio.move_on_after(chosen.grace + 1):
                await done.wait()
            nursery.cancel_scope.cancel()


async def until(holds: Callable[[], Any]) -> Any:
    """What `holds` says, as soon as it is true; the test's own minute bounds it."""
    while True:
        said = holds()
        if isinstance(said, Awaitable):
            said = await said
        if said:
            return said
        await trio.sleep(0.01)
