"""`hotpath`: the commands there are, each loaded when it is called, and what becomes of their errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from hotpath import __version__
from hotpath.cli.options import Given, global_options
from hotpath.errors import HotpathError

COMMANDS = {
    "demo": ("hotpath.cli.demonstrate", "Run the main job on real input, beside the bare for-loop."),
    "dedicate": ("hotpath.cli.dedicate", "Run a worker that is dedicated to one script."),
    "worker": ("hotpath.cli.worker", "Run a normal worker: any script, by tag."),
    "run": ("hotpath.cli.run", "Run one job and print its result."),
    "push": ("hotpath.cli.push", "Put in many jobs: one JSON object a line."),
    "jobs": ("hotpath.cli.jobs", "List jobs, the newest first."),
    "job": ("hotpath.cli.job", "Show one job."),
    "logs": ("hotpath.cli.logs", "Print what a job printed."),
    "cancel": ("hotpath.cli.cancel", "Cancel jobs that wait or run."),
    "retry": ("hotpath.cli.retry", "Run jobs that have ended once more."),
    "resume": ("hotpath.cli.resume", "Approve, or not, what a flow's run waits for."),
    "status": ("hotpath.cli.status", "Show tags, workers and rates."),
    "top": ("hotpath.cli.top", "The same, live."),
    "history": ("hotpath.cli.history", "Show what queues were like over the last days."),
    "deploy": ("hotpath.cli.deploy", "Put the scripts' versions in the database."),
    "autoscale": ("hotpath.cli.autoscale", "Say how many workers each group needs; start and stop them."),
    "flow": ("hotpath.cli.flow", "Check flows, and draw them."),
    "scripts": ("hotpath.cli.scripts", "List the scripts' versions in the database."),
    "limit": ("hotpath.cli.limit", "Limit how many jobs of a script run at a time, or start within a time."),
    "tag": ("hotpath.cli.tag", "Pause tags, and resume them."),
    "schedule": ("hotpath.cli.schedule", "Have scripts run at times of their own."),
    "group": ("hotpath.cli.group", "Configure groups of workers."),
    "serve": ("hotpath.cli.serve", "Serve the HTTP API, the WebSocket and the page."),
    "alert": ("hotpath.cli.alert", "Be told when something is wrong."),
    "token": ("hotpath.cli.token", "Make, list and revoke the tokens that open the server."),
    "doctor": ("hotpath.cli.doctor", "Say what is wrong here, and how to mend it."),
    "retention": ("hotpath.cli.retention", "Say for how long jobs, results, args and logs are kept."),
    "prune": ("hotpath.cli.prune", "Drop what is not kept any more, or show what that would be."),
    "migrate": ("hotpath.cli.migrate", "Create or upgrade the database's schema."),
    "chaos": ("hotpath.cli.chaos", "Break everything while jobs run, then account for each."),
    "db": ("hotpath.cli.db", "Start, stop or look into the embedded PostgreSQL."),
}
"""Module of each command, which has it under the name `command`, and its line in the help."""

BROKEN_PIPE = 1  # as click and Python do
INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does it; a command that is not there is named, with the nearest."""
        if args and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean `hotpath {near[0]}`?" if near else "see `hotpath --help`"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="hotpath", message="%(prog)s %(version)s")
@global_options
def app(_given: Given) -> None:
    """A for-loop with a queue around it: dedicated workers on Trio and PostgreSQL."""
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Whatever it raises has become one line on stderr."""
    given = Given()
    try:
        code = app.main(list(arguments), prog_name="hotpath", standalone_mode=False, obj=given)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BaseException as error:  # noqa: BLE001 - the last place that can say something about it
        return _report(error, given)


def _report(error: BaseException, given: Given) -> int:
    """Say on stderr what went wrong; return the exit code."""
    leaves = list(_leaves(error))
    if any(isinstance(leaf, BrokenPipeError) for leaf in leaves):
        # Nobody reads on: no message, and none from Python either when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    chosen = min(leaves, key=_rank)
    trace = ""
    if given.debug and not isinstance(chosen, click.exceptions.Exit):
        import traceback

        if _is_json():
            trace = "".join(traceback.format_exception(error))
        else:
            traceback.print_exception(error)
    match chosen:
        case click.exceptions.Exit():
            return chosen.exit_code
        case SystemExit():
            return chosen.code if isinstance(chosen.code, int) else 1
        case KeyboardInterrupt() | click.Abort():
            return _say("interrupted", INTERRUPTED)
        case click.UsageError():
            return _say(_usage(chosen), 2)
        case click.ClickException():
            return _say(chosen.format_message(), 2)
        case HotpathError():
            return _say(str(chosen), chosen.exit_code, getattr(chosen, "traceback", "") or trace)
    text = f"unexpected {type(chosen).__name__}: {chosen}; run it again with --debug to see where"
    return _say(text, 1, trace)


def _rank(error: BaseException) -> int:
    """Which of several errors that came together is the one to tell."""
    kinds: tuple[type[BaseException] | tuple[type[BaseException], ...], ...] = (
        (KeyboardInterrupt, click.Abort),
        HotpathError,
        click.ClickException,
        Exception,
    )
    return next((rank for rank, kind in enumerate(kinds) if isinstance(error, kind)), len(kinds))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error


def _usage(error: click.UsageError) -> str:
    text = error.format_message().rstrip(".")
    text = text[:1].lower() + text[1:]
    if error.ctx is not None and "--help" not in text and "did you mean" not in text.lower():
        text += f"; see `{error.ctx.command_path} --help`"
    return text


def _say(text: str, code: int, trace: str = "") -> int:
    line = " ".join(text.split())
    if _is_json():
        return _log(line, code, trace)
    try:
        if trace:
            from hotpath.cli.output import safe

            print(safe(trace).rstrip(), file=sys.stderr)
        print(f"hotpath: {line}", file=sys.stderr, flush=True)
    except (OSError, UnicodeError):
        pass  # stderr is closed: the exit code still tells
    return code


def _is_json() -> bool:
    return os.environ.get("HOTPATH_LOG_FORMAT", "").lower() == "json"


def _log(line: str, code: int, trace: str) -> int:
    """The same for programs that read the log."""
    import logging

    from hotpath import program_log

    try:
        program_log.set_up({**os.environ, "HOTPATH_LOG_LEVEL": "error"})
        logging.getLogger("hotpath.cli").error(line, extra={"exit_code": code, "trace": trace})
    except (OSError, UnicodeError):
        pass
    return code
