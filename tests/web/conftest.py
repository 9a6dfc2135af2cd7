"""A real server in this process, on a free port of its own, before a real and fresh database."""

import sys
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from hypercorn.config import Config as HypercornConfig

from hotpath.client import Client, open_client
from hotpath.web.app import make_app
from hotpath.web.connections import MAX_MESSAGE, serve_app
from hotpath.web.options import ServeOptions
from hotpath.web.state import ServerState

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

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


@pytest.fixture
def workspace(tmp_path):
    """A directory with a few scripts."""
    for name, source in SCRIPTS.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
    return tmp_path


@asynccontextmanager
async def serving(database_url, workspace, **options):
    """Serve that database while the context lasts. `options` are those of `ServeOptions`."""
    chosen = ServeOptions(**{"port": 0, "grace": 0.5} | options)
    async with open_client(database_url, workspace=workspace) as client, trio.open_nursery() as nursery:
        state = ServerState(client=client, options=chosen, nursery=nursery)
        config = HypercornConfig()
        config.bind = [f"{chosen.host}:{chosen.port}"]
        config.graceful_timeout = chosen.grace
        config.loglevel = "WARNING"
        config.websocket_max_message_size = MAX_MESSAGE
        done = trio.Event()

        async def run(task_status=trio.TASK_STATUS_IGNORED):
            await serve_app(make_app(state), config, state.stopping.wait, task_status=task_status)
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


@pytest.fixture
def serve_fixture(database_url, workspace):
    """Opens servers of one fresh database, each for as long as an `async with` lasts."""

    @asynccontextmanager
    async def opened(**options):
        async with serving(database_url, workspace, **options) as served:
            yield served

    return opened


@pytest.fixture
async def served(serve_fixture):
    """A server of a fresh database."""
    async with serve_fixture() as served:
        yield served
