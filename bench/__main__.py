"""`python -m bench`: list the scenarios, run some, draw stored runs."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import trio

import bench.scenarios  # noqa: F401 - importing it registers them
from bench.chart import chart
from bench.context import open_bench
from bench.registry import SCENARIOS, CheckFailed, Finding
from bench.results import describe_environment, document, store, stored_runs
from bench.table import heading, lines
from hotpath.errors import HotpathError


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Hotpath's benchmarks.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="scenarios to run, or `all`; none: list them"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the size: for a first look")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds of each arm (5; 2 with --quick)")
    parser.add_argument("--scale", type=float, default=1.0, metavar="F", help="factor on all sizes")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="store the run there, not in bench/results/"
    )
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="draw this run, or the stored ones")
    parser.add_argument("--database-url", metavar="URL", help="a server to use; must allow CREATE DATABASE")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name != "all" and name not in SCENARIOS]:
        parser.error(f"no scenario {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    if options.repeat is not None and options.repeat < 1:
        parser.error("--repeat must be at least 1")
    if options.scale <= 0:
        parser.error("--scale must be above 0")
    return options


async def run(options: argparse.Namespace) -> dict[str, list[Finding]]:
    """Run the scenarios; print each one's table as it is done, and store all in the end, or what there is."""
    names = list(SCENARIOS) if "all" in options.names else list(dict.fromkeys(options.names))
    found: dict[str, list[Finding]] = {}
    async with open_bench(
        quick=options.quick,
        repeat=options.repeat or (2 if options.quick else 5),
        scale=options.scale,
        database_url=options.database_url,
    ) as bench_:
        environment = await describe_environment(bench_)
        print(heading(environment), flush=True)
        try:
            for name in names:
                found[name] = await SCENARIOS[name].run(bench_)
                print("\n" + "\n".join(lines(name, found[name])), flush=True)
        finally:
            if found:
                stored = document(environment, found)
                print(f"\nstored in {store(stored, options.json)}", flush=True)
                if options.chart:
                    options.chart.write_text(chart([stored]), encoding="utf-8")
                    print(f"drawn in {options.chart}", flush=True)
    return found


def main(arguments: list[str]) -> int:
    """Exit code 1 when a check failed: its figures are not to be used."""
    options = parse(arguments)
    if not options.names:
        if options.chart:
            runs = stored_runs()
            options.chart.write_text(chart(runs), encoding="utf-8")
            print(f"{len(runs)} stored runs drawn in {options.chart}")
            return 0
        width = max(map(len, SCENARIOS))
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:<{width}}  {scenario.summary}")
        print("\npython -m bench NAME... | all  [--quick] [--repeat N] [--json FILE] [--chart FILE.svg]")
        return 0
    code = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server's directory goes then too
    try:
        trio.run(run, options)
    except* (CheckFailed, HotpathError) as group:
        for error in leaves(group):
            print(f"bench: FAILED: {error}", file=sys.stderr)
        code = 1
    except* KeyboardInterrupt:
        code = 130
    return code


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group, whatever groups they are in."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in leaves(member)]
    return [error]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
