"""`hotpath dedicate`: a worker that keeps one script warm and runs its jobs."""

from __future__ import annotations

import signal

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
@click.option(
    "--lease",
    type=float,
    default=15.0,
    metavar="S",
    help="Seconds without a sign of life after which others take its jobs. [15]",
)
@click.option(
    "--max-jobs", type=int, metavar="N", help="Replace a process that has run N jobs by a warm one."
)
@click.option(
    "--max-rss", metavar="SIZE", help="Replace a process above this memory (512M, 2G) by a warm one."
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
    lease: float,
    max_jobs: int | None,
    max_rss: str | None,
    quiet: bool,
) -> int:
    """Run the jobs of the script NAME (f/team/score, or the path of a .py file) until stopped.

    SIGTERM and Ctrl-C let running jobs finish; a second one gives them back at once.
    """
    _stop_quietly()
    from hotpath.runtime.tracing import check
    from hotpath.worker.options import DedicateOptions, parse_size
    from hotpath.worker.supervisor import supervise

    check()
    options = DedicateOptions(
        name=name,
        workspace=given.config.workspace,
        processes=processes,
        concurrency=concurrency,
        tags=tags,
        group=group,
        drain=drain,
        grace=grace,
        lease=lease,
        max_jobs=max_jobs,
        max_rss=None if max_rss is None else parse_size(max_rss, "--max-rss"),
        json=given.json,
        quiet=quiet,
    )
    return given.run(supervise, given.config, options)


def _stop_quietly() -> None:
    """Until the supervisor heeds signals itself, SIGTERM ends a command that has done nothing: no error."""

    def leave(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
