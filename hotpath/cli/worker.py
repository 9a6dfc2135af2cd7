"""`hotpath worker`: a normal worker, which runs any script by tag."""

from __future__ import annotations

import os
from typing import Any

import click

from hotpath.cli.options import Given, common, of_workers


@click.command("worker")
@click.option(
    "--tags",
    "-t",
    multiple=True,
    metavar="T,T",
    help="Tags to listen to: names, patterns (etl-*) and exclusions (!etl-slow), with commas between; may be "
    "repeated. [WORKER_TAGS, else all]",
)
@click.option(
    "--group",
    "-g",
    metavar="G",
    help="Worker group that it belongs to, whose options it has where no flag says otherwise. [WORKER_GROUP]",
)
@click.option("--slots", "-s", type=int, metavar="N", help="Processes that run jobs at a time. [1]")
@click.option("--drain", is_flag=True, help="Exit 0 when nothing is left to run in its tags.")
@click.option(
    "--warm", type=int, metavar="N", help="Processes kept warm, one script each. [32, --slots at least]"
)
@click.option(
    "--warm-memory",
    metavar="SIZE",
    help="Memory (512M, 2G) that they may take together. [half of what there is]",
)
@of_workers
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@common
def command(
    given: Given,
    *,
    tags: tuple[str, ...],
    group: str | None,
    slots: int | None,
    drain: bool,
    warm: int | None,
    warm_memory: str | None,
    grace: float | None,
    lease: float | None,
    max_jobs: int | None,
    max_rss: str | None,
    quiet: bool,
) -> int:
    """Run jobs of any script whose tag it listens to, in strict order, until stopped.

    Each script it meets is kept warm in a process of its own; the least recently used goes first.
    SIGTERM and Ctrl-C let running jobs finish; a second one gives them back at once.
    """
    from hotpath.worker.leaving import leave_quietly

    leave_quietly()
    from hotpath.core.tags import parse_patterns, refuse_unheard
    from hotpath.runtime.tracing import check
    from hotpath.worker.normal import supervise_normal
    from hotpath.worker.options import WARM, NormalOptions, parse_size

    check()
    where = "--tags"
    if not tags and os.environ.get("WORKER_TAGS"):
        tags, where = (os.environ["WORKER_TAGS"],), "WORKER_TAGS"
    chosen: dict[str, Any] = {
        "patterns": parse_patterns(",".join(tags).split(","), where) if tags else None,
        "slots": slots,
        "warm": warm,
        "warm_memory": None if warm_memory is None else parse_size(warm_memory, "--warm-memory"),
        "grace": grace,
        "lease": lease,
        "max_jobs": max_jobs,
        "max_rss": None if max_rss is None else parse_size(max_rss, "--max-rss"),
    }
    defaults: dict[str, Any] = {"patterns": parse_patterns(["*"]), "warm": max(WARM, slots or 1)}
    if chosen["patterns"] is not None:
        refuse_unheard(chosen["patterns"], where)
    chosen = {option: value for option, value in chosen.items() if value is not None}
    options = NormalOptions(
        workspace=given.config.workspace,
        group=group or os.environ.get("WORKER_GROUP") or None,
        drain=drain,
        json=given.json,
        quiet=quiet,
        given=frozenset(chosen),
        **defaults | chosen,
    )
    return given.run(supervise_normal, given.config, options)
