"""Every check: `python3 dev.py check` runs this in its environment, as `.ci/run` does.

    python .ci/check.py whole|part PYTEST [ARGUMENT ...]

The rest of the line is the command that runs the tests, the whole suite or a part of it. Exits with 1 when a
check failed.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

CHECKS = [
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    ["lint-imports", "--no-logo"],
]
FAILED_TESTS = Path(".pytest_cache", "v", "cache", "lastfailed")  # JSON, its keys are tests
SOME_FAILED = 1  # pytest's exit code when tests ran and some failed; any other is no matter of weather
AGAIN_AT_MOST = 5  # tests; more than these are no weather either


def check(tests: list[str], *, whole: bool) -> int:
    """Run every check, even after one failed, and name those that did; `tests` is the command of the last."""
    failed = []
    unsteady: list[str] = []
    for command in [*CHECKS, tests]:
        code = announce(command)
        if command is tests and whole and code == SOME_FAILED:
            code, unsteady = try_again()
        if code:
            failed.append(f"{' '.join(command)} (exit {code})")
    print("\ncheck: " + ("failed: " + "; ".join(failed) if failed else "all passed"), flush=True)
    for test in unsteady:
        print(f"check: failed beside others, passed alone: {test}", flush=True)
    return 1 if failed else 0


def announce(command: list[str]) -> int:
    """Run `command` to its end under its own line, and return its exit code."""
    print(f"\n== {' '.join(command)}", flush=True)
    return run_to_end(command)


def try_again() -> tuple[int, list[str]]:
    """Run the few tests that failed once more, one by one; return the exit code, and the tests if all passed.

    Some thousand tests of processes and clocks beside each other on two cores: one that fails there and
    passes alone is named and passes the check (docs/decisions/0021); what is broken fails again.
    """
    try:
        tests = sorted(json.loads(FAILED_TESTS.read_text()))
    except (OSError, ValueError):
        return SOME_FAILED, []
    if not 0 < len(tests) <= AGAIN_AT_MOST:
        return SOME_FAILED, []
    code = announce(["pytest", *tests])
    return code, [] if code else tests


def run_to_end(command: list[str]) -> int:
    """Run `command` to its end; a signal to us ends it first, then us."""
    received: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if process:
            process.send_signal(number)  # and no wait here: the one below holds Popen's lock

    # before the command starts: one that came in between would end us and leave the command behind
    heeded = [it for it in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(it) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in heeded}
    try:
        with subprocess.Popen(command) as process:
            for number in received:
                process.send_signal(number)
            try:
                code = process.wait()
            except KeyboardInterrupt:
                process.wait()  # the terminal sent it to the whole group: let the command end in its own way
                sys.exit(130)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        sys.exit(128 + received[0])
    return code


if __name__ == "__main__":
    sys.exit(check(sys.argv[2:], whole=sys.argv[1] == "whole"))
