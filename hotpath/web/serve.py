"""The server: Hypercorn's Trio worker around the application, from its start to SIGTERM."""

from __future__ import annotations

import signal
import sys
from typing import Any

import msgspec
import trio
from hypercorn.config import Config as HypercornConfig

from hotpath.client import open_client
from hotpath.config import Config
from hotpath.web.app import make_app
from hotpath.web.connections import MAX_MESSAGE, PING_SECONDS, serve_app
from hotpath.web.options import ServeOptions
from hotpath.web.state import ServerState

CONNECTIONS = 10
"""To the database, at a time; what many look at is read once (`hub.py`)."""


async def serve(config: Config, options: ServeOptions, *, json: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        opened = open_client(config=config, registers=False, connections=CONNECTIONS)
        async with opened as client, trio.open_nursery() as nursery:
            state = ServerState(client=client, options=options, nursery=nursery)
            await state.access.check_start()

            async def asked_to_stop() -> None:
                await anext(aiter(signals))
                state.stopping.set()

            server = HypercornConfig()
            server.bind = [f"{options.host}:{options.port}"]
            server.graceful_timeout = options.grace
            server.loglevel = "WARNING"
            server.include_server_header = False
            server.websocket_max_message_size = MAX_MESSAGE
            server.websocket_ping_interval = PING_SECONDS

            async def run(task_status: trio.TaskStatus[list[str]]) -> None:
                await serve_app(make_app(state), server, asked_to_stop, task_status=task_status)
                nursery.cancel_scope.cancel(reason="the server has stopped")

            _say(await nursery.start(run), json=json)
    return 0


def _say(urls: list[str], *, json: bool) -> None:
    message: dict[str, Any] = {"event": "ready", "urls": urls}
    text = msgspec.json.encode(message).decode() if json else f"hotpath: serving on {', '.join(urls)}"
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
