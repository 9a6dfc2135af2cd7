"""`hotpath dedicate`: a worker that keeps one script warm and runs its jobs."""

from __future__ import annotations

import click

from hotpath.cli.options import Given, common


@click.command("dedicate")
@click.argument("name")
@click.option("--processes", "-p", type=int, default=1, metavar="N", help="Worker processes. [1]")
@click.option(
    "--concurrency", "-c", type=int, metavar="C", help="Jobs at a time per process, for an async main."
)
@click.option(
    "--tag",
    "-t",
    "tags",
    multiple=True,
    metavar="T",
    help="Tag to listen to; may be repeated. [the script's own]",
)
@click.option("--group", "-g", metavar="G", help="Worker group that it belongs to.")
@click.option("--drain", is_flag=True, help="Exit 0 when nothing is left to run.")
@click.option(
    "--grace", type=float, default=30.0, metavar="S", help="Seconds that jobs get to finish at SIGTERM. [30]"
)
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@common
def command(
    given: Given,
    *,
    name: str,
    processes: int,
    concurrency: int | None,
    tags: tuple[str, ...],
    group: str | None,
    drain: bool,
    grace: float,
    quiet: bool,
) -> int:
    """Run the jobs of the script NAME (f/team/score, or the path of a .py file) until stopped.

    SIGTERM and Ctrl-C let running jobs finish; a second one gives them back at once.
    """
    from hotpath.worker.options import DedicateOptions
    from hotpath.worker.supervisor import supervise

    options = DedicateOptions(
        name=name,
        workspace=given.config.workspace,
        processes=processes,
        concurrency=concurrency,
        tags=tags,
        group=group,
        drain=drain,
        grace=grace,
        json=given.json,
        quiet=quiet,
    )
    return given.run(supervise, given.config, options)
