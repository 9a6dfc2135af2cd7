"""`hotpath demo`: see `hotpath.cli.demo`."""

from __future__ import annotations

from pathlib import Path

import click

from hotpath.cli.options import Given, common


@click.command("demo")
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@common
def command(given: Given, directory: Path | None) -> int:
    """Parse every .py file of the standard library, or of DIRECTORY, as jobs; compare with the for-loop.

    Then run a flow over files of its own, which waits for an approval; check its numbers.
    """
    from hotpath.cli.demo import run_demo

    return run_demo(directory, as_json=given.json, database_url=given.config.database_url)
