"""Options that every command has, before or after its name, and what they add up to."""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import attrs
import click

if TYPE_CHECKING:
    from hotpath.config import Config

    Parameter = click.ParamType[Any]
else:
    Parameter = click.ParamType  # generic only from click 8.2 on

_T = TypeVar("_T")
_Function = TypeVar("_Function", bound=Callable[..., Any])


@attrs.define
class Given:
    """What was given on the command line for all commands."""

    workspace: str | None = None
    database_url: str | None = None
    debug: bool = False
    json: bool = False

    @functools.cached_property
    def config(self) -> Config:
        """The configuration, read when it is first needed. Raises `UsageError`."""
        from hotpath.config import read_config

        return read_config(self.workspace, os.environ, database_url=self.database_url, debug=self.debug)

    def run(self, function: Callable[..., Awaitable[_T]], *args: Any) -> _T:
        """Run an asynchronous function to its end, with the program's log set up. Raises `UsageError`."""
        import trio

        from hotpath import program_log

        program_log.set_up(urls=(self.database_url,) if self.database_url else ())
        result: _T = trio.run(function, *args)
        return result


def _options(function: _Function) -> _Function:
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.option(
            "--database-url",
            metavar="URL",
            help="Database to use; `embedded` for Hotpath's own. [HOTPATH_DATABASE_URL, DATABASE_URL]",
        ),
        click.option(
            "--workspace",
            "-w",
            metavar="DIR",
            help="Directory that scripts are found in. [HOTPATH_WORKSPACE, else the current directory]",
        ),
    ):
        function = option(function)
    return function


def global_options(function: _Function) -> Any:
    """Give a command `--workspace`, `--database-url` and `--debug`; it is called with the `Given`."""

    @functools.wraps(function)
    def called(*args: Any, workspace: Any, database_url: Any, debug: bool, **kwargs: Any) -> Any:
        given: Given = click.get_current_context().obj
        given.workspace = workspace or given.workspace
        given.database_url = database_url or given.database_url
        given.debug = debug or given.debug
        return function(given, *args, **kwargs)

    return _options(called)


def common(function: _Function) -> Any:
    """`global_options` and `--json`."""

    @functools.wraps(function)
    def called(given: Given, *args: Any, as_json: bool, **kwargs: Any) -> Any:
        given.json = as_json or given.json
        return function(given, *args, **kwargs)

    flag = click.option("--json", "as_json", is_flag=True, help="Print JSON: one document, or one a line.")
    return flag(global_options(called))


def of_workers(function: _Function) -> _Function:
    """Give a command the options that all workers have."""
    for option in (
        click.option(
            "--max-rss", metavar="SIZE", help="Replace a process above this memory (512M, 2G) by a warm one."
        ),
        click.option(
            "--max-jobs", type=int, metavar="N", help="Replace a process that has run N jobs by a warm one."
        ),
        click.option(
            "--lease",
            type=float,
            metavar="S",
            help="Seconds without a sign of life after which others take its jobs. [15]",
        ),
        click.option(
            "--grace", type=float, metavar="S", help="Seconds that jobs get to finish at SIGTERM. [30]"
        ),
    ):
        function = option(function)
    return function


class JobId(Parameter):
    """The id of a job."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        """The UUID that `value` is."""
        try:
            return value if isinstance(value, UUID) else UUID(value)
        except ValueError:
            self.fail(
                f"{value!r} is not the id of a job: ids are UUIDs, as `hotpath jobs` lists them", param, ctx
            )


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Since(Parameter):
    """A time: ISO 8601, or so long ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time that `value` means, with a time zone: the local one where it names none."""
        if isinstance(value, datetime):
            return value
        try:
            if value[-1:] in _UNITS and value[:-1].replace(".", "", 1).isdigit():
                return datetime.now(UTC) - timedelta(**{_UNITS[value[-1]]: float(value[:-1])})
            found = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a time: give 2026-01-31T12:00:00Z, or so long ago: 90s, 10m, 2h, 7d",
                param,
                ctx,
            )
        return found if found.tzinfo else found.astimezone()
