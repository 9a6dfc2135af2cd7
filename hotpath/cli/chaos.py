"""`hotpath chaos`: shoot, freeze and cut off workers while jobs run, then account for every job."""

from __future__ import annotations

import secrets
import sys

import click

from hotpath.cli.options import Given, common


@click.command("chaos")
@click.argument("name", required=False)
@click.option("--minutes", "-m", type=float, default=1.0, metavar="M", help="How long faults go on. [1]")
@click.option("--seed", type=int, metavar="S", help="The same seed plans the same faults. [random]")
@click.option("--workers", type=int, default=4, metavar="N", help="`hotpath dedicate` commands. [4]")
@click.option("--processes", "-p", type=int, default=2, metavar="N", help="Processes of each. [2]")
@click.option("--jobs", type=int, metavar="N", help="Jobs that are put in. [700 a second]")
@click.option("--lease", type=float, metavar="S", help="Lease of the workers, in seconds. [15]")
@click.option("--every", type=float, default=3.2, metavar="S", help="Seconds between faults. [3.2]")
@click.option("--faults", metavar="A,B,..", help="Kinds of faults. [all; `--faults list` tells them]")
@click.option("--args", metavar="JSON|FILE", help="Args of NAME's jobs: an object, or a file of one a line.")
@click.option("--keep", is_flag=True, help="Keep the ledger, the logs and the private database.")
@click.option("--plan", is_flag=True, help="Print what would go wrong when, and do nothing.")
@common
def command(
    given: Given,
    *,
    name: str | None,
    minutes: float,
    seed: int | None,
    workers: int,
    processes: int,
    jobs: int | None,
    lease: float | None,
    every: float,
    faults: str | None,
    args: str | None,
    keep: bool,
    plan: bool,
) -> int:
    """Run the script NAME, or built-in jobs, with several workers while things go wrong; then check that each
    job that was put in has one right outcome.

    Uses a PostgreSQL of its own in a temporary directory, unless a database URL is given. The exit code is 1
    if anything was lost, doubled or wrong.
    """
    from hotpath.chaos.options import ChaosOptions, parse_args, parse_faults
    from hotpath.errors import UsageError
    from hotpath.worker.options import LEASE

    if faults == "list":
        return _list_faults()
    if args is not None and name is None:
        raise UsageError("--args is for the jobs of a script of yours: name it")
    options = ChaosOptions(
        name=name,
        minutes=minutes,
        seed=secrets.randbits(31) if seed is None else seed,
        workers=workers,
        processes=processes,
        jobs=jobs,
        lease=LEASE if lease is None else lease,
        every=every,
        faults=parse_faults(faults),
        args=parse_args(args),
        keep=keep,
    )
    if plan:
        return _print_plan(given, options)
    from hotpath.chaos.run import run_chaos
    from hotpath.cli.output import print_json

    report = given.run(run_chaos, given.config, options, _say)
    if given.json:
        print_json(report.document())
    else:
        _print(report)
    return report.exit_code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _list_faults() -> int:
    from hotpath.chaos.plan import MEANING
    from hotpath.cli.output import print_table

    print_table(("fault", "what happens"), list(MEANING.items()))
    return 0


def _print_plan(given: Given, options: object) -> int:
    import attrs

    from hotpath.chaos.options import ChaosOptions
    from hotpath.chaos.plan import make_plan
    from hotpath.cli.output import print_json, print_table

    assert isinstance(options, ChaosOptions)
    faults = make_plan(options.seed, options.seconds, options.every, options.faults, options.lease)
    if given.json:
        for fault in faults:
            print_json(attrs.asdict(fault))
        return 0
    rows = [(f"{fault.at:.1f}", fault.kind, fault.how, f"{fault.seconds:g}") for fault in faults]
    print_table(("at, s", "fault", "how", "lasts, s"), rows, right=(0, 3))
    return 0


def _print(report: object) -> None:
    from hotpath.chaos.report import FAULTY, MEANING, Report
    from hotpath.cli.output import print_table, safe

    assert isinstance(report, Report)
    print_table(("what", "how much"), report.lines())
    for name in FAULTY:
        if report.counts[name]:
            print(f"\nWRONG: {name.replace('_', ' ')}: {report.counts[name]:,} ({MEANING[name]})")
            for example in report.examples[name]:
                print(f"  {safe(example)}")
    if not report.exit_code:
        print(f"\nEvery one of {report.jobs:,} jobs has one outcome, and it is the right one.")
