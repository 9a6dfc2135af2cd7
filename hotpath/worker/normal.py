"""A normal worker: interchangeable, any script by tag, each that it meets kept warm (docs/workers.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from hotpath.config import Config
from hotpath.worker.dispatcher import Dispatcher
from hotpath.worker.group_options import with_group
from hotpath.worker.groups import enlist
from hotpath.worker.options import NormalOptions
from hotpath.worker.report import NormalReporter, Reporter
from hotpath.worker.stop import Stop
from hotpath.worker.supervisor import Supervisor, hold_database


async def supervise_normal(config: Config, options: NormalOptions) -> int:
    """Run a normal worker until SIGTERM or, to drain, until nothing is left in its tags. Returns the exit
    code.

    Raises HotpathError for a database that cannot be used.
    """
    stop, code = Stop(is_preparing=True), 0
    async with trio.open_nursery() as nursery:
        await nursery.start(stop.heed_signals)
        prepared: list[tuple[Supervisor, Callable[[Supervisor], Awaitable[object]]]] = []
        async with trio.open_nursery() as preparing:
            preparing.start_soon(_give_up, stop, preparing.cancel_scope)
            database = await nursery.start(hold_database, config)
            crew = await enlist(config, database, options, required=True)
            if crew is None:
                supervisor = Supervisor(config, database, options, stop)
                prepared.append((supervisor, _dispatcher(supervisor, options).run))
            else:
                supervisor = Supervisor(config, database, with_group(options, crew.configured), stop)
                crew.make_dispatcher = _dispatcher
                crew.enter(supervisor)
                await crew.gather()
                prepared.append((supervisor, crew.manage))
            preparing.cancel_scope.cancel(reason="prepared")
        stop.is_preparing = False
        if prepared:
            supervisor, manage = prepared[0]
            code = await supervisor.run(manage)
        else:
            Reporter(options).summary([], 0.0, drained=False)
        nursery.cancel_scope.cancel(reason="the supervisor is done")
    return code


def _dispatcher(house: Supervisor, options: NormalOptions) -> Dispatcher:
    return Dispatcher(house, options, NormalReporter(options))


async def _give_up(stop: Stop, scope: trio.CancelScope) -> None:
    await stop.asked.wait()
    scope.cancel(reason="asked to stop")
