"""`hotpath dedicate`: a worker that keeps one script warm and runs its jobs."""

from __future__ import annotations

from typing import Any

import click

from hotpath.cli.options import Given, common, of_workers


@click.command("dedicate")
@click.argument("name")
@click.option("--processes", "-p", type=int, metavar="N", help="Worker processes. [the group's, else 1]")
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
@click.option(
    "--group",
    "-g",
    envvar="WORKER_GROUP",
    metavar="G",
    help="Worker group that it belongs to, whose options it has where no flag says otherwise. [WORKER_GROUP]",
)
@click.option("--drain", is_flag=True, help="Exit 0 when nothing is left to run.")
@of_workers
@click.option("--watch", is_flag=True, help="Deploy the script whenever it is saved, and swap it in.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@common
def command(
    given: Given,
    *,
    name: str,
    processes: int | None,
    concurrency: int | None,
    tags: tuple[str, ...],
    group: str | None,
    drain: bool,
    grace: float | None,
    lease: float | None,
    max_jobs: int | None,
    max_rss: str | None,
    watch: bool,
    quiet: bool,
) -> int:
    """Run the jobs of the script NAME (f/team/score, or the path of a .py file) until stopped. Another
    version that is deployed meanwhile takes over without a gap; jobs of pinned versions are run beside.

    SIGTERM and Ctrl-C let running jobs finish; a second one gives them back at once.
    """
    from hotpath.worker.leaving import leave_quietly

    leave_quietly()
    from hotpath.runtime.tracing import check
    from hotpath.worker.options import DedicateOptions, parse_size
    from hotpath.worker.supervisor import supervise

    check()
    chosen: dict[str, Any] = {
        "processes": processes,
        "concurrency": concurrency,
        "grace": grace,
        "lease": lease,
        "max_jobs": max_jobs,
        "max_rss": None if max_rss is None else parse_size(max_rss, "--max-rss"),
    }
    chosen = {option: value for option, value in chosen.items() if value is not None}
    options = DedicateOptions(
        name=name,
        workspace=given.config.workspace,
        tags=tags,
        group=group or None,
        drain=drain,
        watch=watch,
        json=given.json,
        quiet=quiet,
        given=frozenset(chosen),
        **chosen,
    )
    return given.run(supervise, given.config, options)
