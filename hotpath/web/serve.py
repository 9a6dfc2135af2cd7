"""The server, from its start to SIGTERM."""

from __future__ import annotations

import logging
import signal
import sys
from typing import Any

import msgspec
import trio

from hotpath.client import open_client
from hotpath.config import Config
from hotpath.program_log import read_settings
from hotpath.store.servers import Standing
from hotpath.store.trouble import is_weather
from hotpath.web.app import make_app
from hotpath.web.listener import Listener, open_sockets, tls_context
from hotpath.web.options import ServeOptions
from hotpath.web.requests import log as requests_log
from hotpath.web.standing import stand
from hotpath.web.state import ServerState
from hotpath.worker import leaving
from hotpath.worker.alerts import keep_alerts
from hotpath.worker.beside import keep_up
from hotpath.worker.house import keep_house
from hotpath.worker.keeping import Keeping
from hotpath.worker.pulse import Weather
from hotpath.worker.ticker import Ticker

CONNECTIONS = 12
"""To the database, at a time: four are the hub's, which reads once what many look at. What may take long has
few (`ServerState`), so that some are always there for the rest."""
SLACK_SECONDS = 0.5
"""What is not done so long after the grace is not waited for."""

log = logging.getLogger("hotpath.web")


async def serve(config: Config, options: ServeOptions, *, json: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, a second of which ends it at once; returns the exit code.

    Raises `HotpathError` when it cannot listen, `UsageError` when nobody could log in.
    """
    tls = tls_context(options)
    if options.access_log:
        _show_requests()
    sockets = open_sockets(options)  # before the database is opened: a port in use is known at once
    try:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            leaving.heed()
            opened = open_client(config=config, registers=False, connections=CONNECTIONS)
            async with opened as client, trio.open_nursery() as nursery:
                state = ServerState(client=client, options=options, nursery=nursery)
                await state.access.check_start()
                if not options.is_loopback and not state.access.is_secure:
                    log.warning(
                        "tokens travel in the clear: give --certfile, or --public-url with TLS before it"
                    )
                nursery.start_soon(state.changes.follow, state.database)
                nursery.start_soon(keep_up, "keeping house", keep_house, state.database, _note)
                ticker, keeping = (
                    Ticker(state.database, state.changes),
                    Keeping(state.database, state.changes),
                )
                nursery.start_soon(keep_up, "ticking of schedules", ticker.run)
                nursery.start_soon(keep_up, "retention", keeping.run)
                nursery.start_soon(keep_up, "keeping alerts", keep_alerts, state.database, state.changes)
                listener = Listener(make_app(state), options)

                async def run(task_status: trio.TaskStatus[list[str]]) -> None:
                    await listener.run(sockets, tls, state.stopping, options.grace, task_status=task_status)
                    nursery.cancel_scope.cancel(reason="the server has stopped")

                urls = await nursery.start(run)
                _say(urls, json=json)
                standing = Standing(
                    address=", ".join(urls),
                    is_loopback=options.is_loopback,
                    is_open=options.is_open,
                    is_secure=state.access.is_secure,
                )
                nursery.start_soon(keep_up, "being known to the doctor", stand, state.database, standing)
                await anext(aiter(signals))
                state.stopping.set()
                nursery.cancel_scope.deadline = trio.current_time() + options.grace + SLACK_SECONDS
                await anext(aiter(signals))
                nursery.cancel_scope.cancel(reason="told to stop twice")
    finally:
        leaving.heed_no_more()
        for each in sockets:
            each.close()
    return 0


def _show_requests() -> None:
    """Write the log of requests to stderr: with the time where the program's own log does not say it."""
    requests_log.setLevel(logging.INFO)
    if read_settings().format == "text":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        requests_log.addHandler(handler)
        requests_log.propagate = False


_refused = Weather("some of the housekeeping cannot be done")


def _note(trouble: BaseException) -> None:
    if is_weather(trouble):
        log.debug("the house cannot be kept just now: %s", trouble)
    else:
        _refused.bad(trouble)


def _say(urls: list[str], *, json: bool) -> None:
    message: dict[str, Any] = {"event": "ready", "urls": urls}
    text = msgspec.json.encode(message).decode() if json else f"hotpath: serving on {', '.join(urls)}"
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
