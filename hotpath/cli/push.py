"""`hotpath push`: a file of args, one JSON object a line, into the queue: all of them or none."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.core.line_numbers import LineNumbers
    from hotpath.core.schema import ArgsValidator

LINE_BYTES = 17 << 20
"""Length up to which a line is read: more than the 16 MiB that args may have."""
_BOM = b"\xef\xbb\xbf"
_SHOW_EVERY = 2000  # lines


@click.command("push")
@click.argument("name")
@click.argument("file", required=False, default="-")
@click.option(
    "--ids", metavar="FILE", help="Write the jobs' ids there, one a line, in order; `-` for stdout."
)
@click.option("--tag", "-t", metavar="T", help="Tag the jobs wait in. [the script's own]")
@click.option(
    "--priority", type=int, default=0, metavar="P", help="Larger first, -32768 to 32767. [the script's own]"
)
@click.option(
    "--job-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="End a run of a job that takes longer than S seconds. [the script's own]",
)
@common
def command(
    given: Given,
    name: str,
    file: str,
    ids: str | None,
    tag: str | None,
    priority: int,
    job_timeout: float | None,
) -> int:
    """Enqueue one job of the script NAME for each line of FILE (`-`: stdin), a JSON object with its args.
    NAME@HASH means one version of it.

    All or nothing: a bad line is named by its number, and nothing is enqueued. Blank lines are skipped.
    """
    if ids == "-" and given.json:
        raise click.UsageError("--ids - and --json both print to stdout; give --ids a file")
    return given.run(_push, given, name, file, ids, tag, priority, job_timeout)


async def _push(
    given: Given,
    name: str,
    file: str,
    ids: str | None,
    tag: str | None,
    priority: int,
    job_timeout: float | None,
) -> int:
    from hotpath.cli.output import print_json
    from hotpath.cli.run import resolve
    from hotpath.client import open_client
    from hotpath.core.line_numbers import LineNumbers
    from hotpath.errors import HotpathError
    from hotpath.store.jobs import check_options

    check_options(tag, priority, None, job_timeout)
    with _opened(file) as source, _written(ids) as write:
        async with open_client(config=given.config) as client:
            version = await resolve(client, name)
            script = version.description.path
            validator = await client.validator(script)
            where, numbers = "stdin" if file == "-" else file, LineNumbers()
            with _progress(source, sys.stderr) as advance:
                raws = read_lines(source, where, validator, numbers, advance)
                try:
                    found = await client.enqueue_json(
                        script, raws, tag=tag, priority=priority, timeout=job_timeout
                    )
                except HotpathError as error:
                    numbers.name(error, f"{where} ")
                    raise
        if write is not None:
            for job_id in found:
                write(f"{job_id}\n")
    if given.json:
        print_json({"enqueued": len(found)})
    elif ids != "-":
        print(f"enqueued {len(found):,} {'job' if len(found) == 1 else 'jobs'} of {script}")
    return 0


def read_lines(
    source: IO[bytes],
    where: str,
    validator: ArgsValidator,
    numbers: LineNumbers,
    advance: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """The args on each line, checked. Raises `BadArgsError` that names the line and the field."""
    from hotpath.errors import BadArgsError

    check = validator.check_json
    done = 0
    for number, line in enumerate(iter(partial(source.readline, LINE_BYTES), b""), 1):
        done += len(line)
        if number == 1 and line.startswith(_BOM):
            line = line[len(_BOM) :]
        line = line.strip()
        if line:
            try:
                yield check(line)
            except BadArgsError as error:
                raise BadArgsError(f"{where} line {number}: {error}; nothing was enqueued") from None
        else:
            numbers.blank(number)
        if advance is not None and number % _SHOW_EVERY == 0:
            advance(done)


@contextlib.contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    """The file to read, or stdin. Raises `UsageError` that says why it cannot be read."""
    from hotpath.errors import UsageError

    if file == "-":
        if sys.stdin is None:
            raise UsageError("there is no stdin to read; name a file")
        if sys.stdin.isatty():
            print("hotpath: reading JSON lines from the terminal; end with Ctrl-D", file=sys.stderr)
        yield sys.stdin.buffer
        return
    try:
        source = open(file, "rb", buffering=1 << 20)  # noqa: SIM115 - closed below; only opening it is guarded
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    with source:
        yield source


@contextlib.contextmanager
def _written(ids: str | None) -> Iterator[Callable[[str], Any] | None]:
    """What writes ids: to a file that appears when it is whole, or to stdout."""
    from hotpath.errors import UsageError

    if ids is None or ids == "-":
        yield None if ids is None else sys.stdout.write
        return
    path = Path(ids)
    direct = path.exists() and not path.is_file()  # a pipe or a device
    part = path if direct else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        target = open(part, "w", encoding="ascii")  # noqa: SIM115 - closed below; only opening it is guarded
    except OSError as error:
        raise UsageError(f"--ids: cannot write {ids}: {error.strerror}") from None
    try:
        with target:
            yield target.write
        if not direct:
            part.replace(path)
    except BaseException:
        if not direct:
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _progress(source: IO[bytes], stream: Any) -> Iterator[Callable[[int], None] | None]:
    """A bar on the terminal, if stderr is one, over the bytes of the file that were read."""
    if not stream.isatty():
        yield None
        return
    import stat

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    found = os.fstat(source.fileno())
    total = found.st_size if stat.S_ISREG(found.st_mode) else None
    columns = ("push", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    # Drawn by hand: a thread that draws would take the interpreter from the lines.
    with Progress(*columns, console=Console(file=stream), auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=total)

        def advance(done: int) -> None:
            progress.update(task, completed=done)
            progress.refresh()

        yield advance
