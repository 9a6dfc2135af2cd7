"""Keeping alerts: any supervisor and server looks at the rules every few seconds, one at a time, and delivers
what is to be said. Where there are no rules, nothing is asked.
"""

from __future__ import annotations

import logging
import os
import random
import socket

import attrs
import trio

from hotpath.store.alerts import (
    LOOK_EVERY,
    Taken,
    look_at_alerts,
    next_word,
    take_words,
    word_delivered,
    word_failed,
)
from hotpath.store.complete import Connection
from hotpath.store.database import Database
from hotpath.store.trouble import ANY_TROUBLE, is_weather
from hotpath.worker.alert_delivery import Delivery, DeliveryError, NotHereError
from hotpath.worker.changes import Changes

log = logging.getLogger("hotpath.worker")

WITHIN = 30.0
"""Seconds that one look may take."""
AT_ONCE = 4
"""Words that one process delivers at a time."""
COMPLAIN_EVERY = 300.0
"""Seconds between two complaints that alerts cannot be kept."""
NOT_HERE = (2.0, 6.0)
"""Seconds after which another process may try what this one lacks the means for."""
LEFT = (30.0, 90.0)
"""Seconds for which this one leaves such a channel to others, however many words there are for it."""


@attrs.define(eq=False)
class AlertKeeper:
    """One process's part of it."""

    database: Database
    delivery: Delivery = attrs.field(factory=Delivery)
    every: float = LOOK_EVERY
    name: str = attrs.field(factory=lambda: f"{socket.gethostname()}/{os.getpid()}")
    _any_rules: bool = False
    _due: float | None = None
    """Seconds until a word is to be tried; None: there is none."""
    _stirred: trio.Event = attrs.field(factory=trio.Event)
    _lacks: dict[str, float] = attrs.field(factory=dict)
    """Channels that this process lacks something for, and until when to leave them to others."""
    _complained: dict[str, float] = attrs.field(factory=dict)
    """What was complained of, and when."""

    async def run(self, changes: Changes) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(changes.heed, self.database, self._read)
            nursery.start_soon(self._look)
            nursery.start_soon(self._deliver)

    async def _read(self, connection: Connection) -> None:
        self._any_rules, self._due = await next_word(connection, self._lacking())
        self._stir()

    def _lacking(self) -> list[str]:
        """Channels that this process lacks something for, as far as it has just found out."""
        now = trio.current_time()
        self._lacks = {channel: until for channel, until in self._lacks.items() if until > now}
        return list(self._lacks)

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = trio.Event()

    def _complain(self, what: str, error: BaseException) -> None:
        """Say it, now and then, where it is no weather, of which others tell: nobody hears of anything as
        long as it is so.
        """
        now = trio.current_time()
        if is_weather(error) and not isinstance(error, trio.TooSlowError):
            log.debug(what, error)
        elif now - self._complained.get(what, -COMPLAIN_EVERY) >= COMPLAIN_EVERY:
            self._complained[what] = now
            log.warning(what, str(error) or type(error).__name__)

    async def _look(self) -> None:
        while True:
            while not self._any_rules:
                await self._stirred.wait()
            try:
                async with self.database.connection(within=WITHIN) as connection:
                    if await look_at_alerts(connection, self.every * 0.9):
                        self._due = 0.0
                        self._stir()
            except ANY_TROUBLE as error:
                self._complain("alerts cannot be looked at: %s", error)
            await trio.sleep(self.every * random.uniform(0.5, 1.0))

    async def _deliver(self) -> None:
        while True:
            stirred = self._stirred
            try:
                async with self.database.connection(within=WITHIN) as connection:
                    lacks = self._lacking()
                    self._any_rules, self._due = await next_word(connection, lacks)
                    words = []
                    if self._due is not None and self._due <= 0:
                        words = await take_words(connection, AT_ONCE, self.name, lacks)
                async with trio.open_nursery() as nursery:
                    for taken in words:
                        nursery.start_soon(self._try, taken)
            except ANY_TROUBLE as error:
                self._complain("words about alerts cannot be taken: %s", error)
                await trio.sleep(self.every)
                continue
            if not words:
                await self._rest(stirred)

    async def _rest(self, stirred: trio.Event) -> None:
        """Until the next word is due; as long as there are alerts, another process may put one in."""
        some = self._any_rules or self._due is not None or bool(self._lacks)
        longest = self.every if some else float("inf")
        with trio.move_on_after(max(min(self._due or longest, longest), 0.05)):
            await stirred.wait()

    async def _try(self, taken: Taken) -> None:
        said = taken.said
        problem, pause = None, None
        try:
            await self.delivery.deliver(taken.channel, said)
        except NotHereError as error:
            problem, pause = str(error), random.uniform(*NOT_HERE)
            self._lacks[taken.channel.text] = trio.current_time() + random.uniform(*LEFT)
        except DeliveryError as error:
            problem = str(error)
        if problem is not None:  # a receiver's words may be anything, and are to be stored
            problem = "".join(each if each.isprintable() else "?" for each in problem)
        given_up = False
        while True:
            try:
                async with self.database.connection(within=WITHIN) as connection:
                    if problem is None:
                        await word_delivered(connection, said.id)
                    else:
                        given_up = await word_failed(connection, taken, problem, pause)
                break
            except ANY_TROUBLE as error:
                # It was sent: whoever takes it next would send it again.
                log.debug("what became of a word about alert %s cannot be noted yet: %s", said.alert, error)
                await trio.sleep(1)
        where = taken.channel.kind
        if problem is None:
            log.info("alert %s: %s, told by %s", said.alert, said.word.value, where)
        elif given_up:
            log.error(
                "alert %s: %r was not told by %s and is given up: %s",
                said.alert,
                said.word.value,
                where,
                problem,
            )
        elif taken.tries in (1, 5) or taken.tries % 20 == 0:
            log.warning("alert %s: %r is not told by %s yet: %s", said.alert, said.word.value, where, problem)


async def keep_alerts(database: Database, changes: Changes) -> None:
    """Until cancelled."""
    await AlertKeeper(database).run(changes)
