"""Notes on their way into the database: in front of a statement that makes them durable, or durable alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from hotpath.core.notes import Notes
from hotpath.store.flows import write_notes
from hotpath.store.trouble import DATA_ERRORS

if TYPE_CHECKING:
    from hotpath.store.work import WorkerSession
    from hotpath.worker.clock import DatabaseClock

NOT_UNIQUE = "23505"
"""SQLSTATE of a second row with one key."""


class NotesRefusedError(Exception):
    """The database refuses notes that were to go ahead of a flush: none of either was written."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.why = why


@attrs.define(eq=False)
class Pen:
    """Some notes, to be written in front of a statement, each time that is tried."""

    notes: Notes
    clock: DatabaseClock
    accepted: Sequence[bool] = ()
    """By job, what the last try said."""
    _tried: bool = False

    async def __call__(self, session: WorkerSession, *, durable: bool = False) -> None:
        """Write them; if not durable themselves, they are with what follows."""
        try:
            await self.write(session, durable=durable)
        except DATA_ERRORS as error:
            raise NotesRefusedError(error) from error

    async def write(self, session: WorkerSession, *, durable: bool = True) -> None:
        """Write them."""
        again = self.notes.again or self._tried
        self._tried = True
        try:
            self.accepted = await write_notes(
                session.connection,
                session.worker,
                attrs.evolve(self.notes, again=True) if again else self.notes,
                clock_offset_us=self.clock.offset_us or 0,
                durable=durable,
            )
        except Exception as error:
            if (
                getattr(error, "sqlstate", None) == NOT_UNIQUE
            ):  # a runtime's mistake, and not to be waited out
                raise ValueError(f"two steps have one id ({error})") from error
            raise
