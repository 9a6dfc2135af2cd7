"""`hotpath logs`: what a job printed and logged, and prints."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from hotpath.cli.options import Given, JobId, common

if TYPE_CHECKING:
    from hotpath.client import Client
    from hotpath.store.logs import LogChunk

BRIEFLY = 1.0
"""Seconds that a job which runs is watched, to learn what it has printed so far."""
QUIET = 0.3
"""Seconds without a word of it after which that is all."""


@click.command("logs")
@click.argument("id", type=JobId())
@click.option("--follow", "-f", is_flag=True, help="Go on with what it prints, until it has ended.")
@click.option("--times", is_flag=True, help="Begin each line with the time at which it was printed (UTC).")
@click.option(
    "--server", metavar="URL", envvar="HOTPATH_SERVER_URL",
    help="With --follow: ask `hotpath serve` there. [HOTPATH_SERVER_URL; token: HOTPATH_TOKEN]",
)  # fmt: skip
@click.option("--attempt", type=click.IntRange(0), metavar="N", help="Only what its N-th attempt printed.")
@common
def command(
    given: Given, id: UUID, attempt: int | None, *, follow: bool, times: bool, server: str | None
) -> int:
    """Print what the job ID printed and logged; of one that runs, what it has printed so far.

    With --json: one document an attempt; with --follow or --times, one for each piece of the log.
    """
    if server is not None and follow:
        printer = Printer(given, id, attempt, times=times)
        return given.run(_follow_from, server, id, printer)
    return given.run(partial(_print, given, id, attempt, follow=follow, times=times))


async def _print(given: Given, job_id: UUID, only: int | None, *, follow: bool, times: bool) -> int:
    from hotpath.client import open_client
    from hotpath.errors import UsageError

    async with open_client(config=given.config) as client:
        job = await client.job(job_id)
        if only is not None and only > job.attempt and not (follow and job.finished_at is None):
            raise UsageError(f"--attempt: job {job_id} has had {job.attempt} attempts, not {only}")
        if follow:
            await _follow(client, job_id, Printer(given, job_id, only, times=times))
            return 0
        chunks = await (_so_far(client, job_id) if job.state == "running" else _stored(client, job_id))
    attempts = {chunk.attempt for chunk in chunks if only is None or chunk.attempt == only}
    if given.json and not times:
        _documents(job_id, chunks, sorted(attempts))
    else:
        printer = Printer(given, job_id, only, times=times, titled=len(attempts) > 1)
        for chunk in chunks:
            printer.add(chunk)
        printer.end()
    if job.finished_at is None:
        what = (
            "still runs: this is what it has printed so far" if job.state == "running" else "has not run yet"
        )
        if job.state == "queued" and chunks:
            what = "is to run again: this is what it has printed so far"
        print(f"hotpath: job {job_id} {what}; --follow waits for the rest", file=sys.stderr)
    return 0


def _documents(job_id: UUID, chunks: Sequence[LogChunk], attempts: Sequence[int]) -> None:
    from hotpath.cli.output import print_json

    for attempt in attempts:
        text = "".join(chunk.text for chunk in chunks if chunk.attempt == attempt)
        print_json({"id": job_id, "attempt": attempt, "log": text})


async def _follow(client: Client, job_id: UUID, printer: Printer) -> None:
    try:
        async with client.tail(job_id) as tail:
            async for chunk in tail:
                printer.add(chunk)
                sys.stdout.flush()
    finally:
        printer.end()


async def _follow_from(server: str, job_id: UUID, printer: Printer) -> int:
    """The same from a server, which needs no database here."""
    from hotpath.remote import open_remote

    try:
        async with (
            open_remote(server, os.environ.get("HOTPATH_TOKEN") or None) as remote,
            remote.subscribe("log", job=job_id) as events,
        ):
            async for event in events:
                if event["type"] in ("log", "gap"):
                    printer.add(_chunk(event))
                    sys.stdout.flush()
    finally:
        printer.end()
    return 0


def _chunk(event: dict[str, Any]) -> LogChunk:
    from hotpath.store.logs import LogChunk

    is_gap = event["type"] == "gap"
    return LogChunk(event["attempt"], event["at"], event["end"], event["text"], event["times"], is_gap)


async def _stored(client: Client, job_id: UUID) -> list[LogChunk]:
    from hotpath.store.logs import START, Position, read_log

    chunks: list[LogChunk] = []
    after: Position | None = START
    async with client.database.connection() as connection:
        while after is not None:
            page = await read_log(connection, job_id, after)
            chunks += page.chunks
            after = page.next
    return chunks


async def _so_far(client: Client, job_id: UUID) -> list[LogChunk]:
    """What is stored, and what a job that runs has printed besides."""
    import trio

    chunks: list[LogChunk] = []
    async with client.tail(job_id) as tail:
        with trio.move_on_after(BRIEFLY) as scope:
            async for chunk in tail:
                chunks.append(chunk)
                if not tail.has_more:
                    scope.deadline = min(scope.deadline, trio.current_time() + QUIET)
    return chunks


class Printer:
    """Writes the chunks of a log, one line under the other."""

    def __init__(
        self, given: Given, job_id: UUID, only: int | None, *, times: bool, titled: bool = False
    ) -> None:
        self._json = given.json
        self._job = job_id
        self._only = only
        self._times = times
        self._titled = titled
        """Whether the first attempt has a title, too."""
        self._attempt = 0
        self._at_start = True
        """Whether what comes next begins a line."""

    def add(self, chunk: LogChunk) -> None:
        """Write it."""
        from hotpath.cli.output import print_json, printable

        if self._only is not None and chunk.attempt != self._only:
            return
        if self._json:
            times = [(at, _time(when)) for at, when in chunk.times]
            print_json(
                {
                    "id": self._job, "attempt": chunk.attempt, "at": chunk.at, "end": chunk.end,
                    "text": chunk.text, "times": times, "gap": chunk.is_gap,
                }
            )  # fmt: skip
            return
        if chunk.attempt != self._attempt:
            self.end()
            if self._only is None and (self._titled or self._attempt):
                print(f"--- attempt {chunk.attempt} ---")
            self._attempt = chunk.attempt
        text = self._with_times(chunk) if self._times else chunk.text
        sys.stdout.write(printable(text))
        if text:
            self._at_start = text.endswith("\n")

    def _with_times(self, chunk: LogChunk) -> str:
        parts = []
        position, at_start, marks = chunk.at, self._at_start, list(chunk.times)
        when: int | None = None
        for line in _lines(chunk.text):
            while marks and marks[0][0] <= position:
                when = marks.pop(0)[1]
            if at_start:
                parts.append(f"{_time(when)} " if when is not None else " " * 25)
            parts.append(line)
            position += len(line)
            at_start = line.endswith("\n")
        return "".join(parts)

    def end(self) -> None:
        """End the line that was begun."""
        if not self._at_start and not self._json:
            sys.stdout.write("\n")
            self._at_start = True


def _lines(text: str) -> list[str]:
    """The text's lines; only a line feed ends one."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _time(milliseconds: int) -> str:
    when = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
