"""`hotpath schedule`: scripts that run at times of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.client import Client
    from hotpath.store.schedules import Schedule

CATCH_UP = ("none", "last", "all")
OVERLAP = ("allow", "skip", "queue_one")


@click.group("schedule")
def command() -> None:
    """Have scripts run at times of their own: one job a tick, however many servers there are."""


@command.command("set")
@click.argument("name")
@click.argument("args", required=False, metavar="[JSON]")
@click.option("--script", metavar="SCRIPT", help="Script or flow that is run; for a new one.")
@click.option("--cron", metavar="EXPR", help="Five fields, or six with seconds first: '30 2 * * MON-FRI'.")
@click.option("--every", metavar="SPAN", help="Interval from now on: 90s, 10m, 2h, 7d.")
@click.option("--at", metavar="TIME", help="Once: 2026-12-31T18:00, of the time zone unless it says Z.")
@click.option("--timezone", metavar="ZONE", help="Of --cron and --at, such as Europe/Berlin. [UTC]")
@click.option(
    "-a", "--arg", "pairs", multiple=True, metavar="KEY=VALUE", help="One arg of the jobs, as for run."
)
@click.option(
    "--catch-up", type=click.Choice(CATCH_UP), help="Ticks missed while nothing ran become jobs. [last]"
)
@click.option("--catch-up-within", metavar="SPAN", help="None that is older than that. [1d]")
@click.option("--overlap", type=click.Choice(OVERLAP), help="While the job before has not ended. [allow]")
@click.option("--tag", "-t", metavar="T", help="Tag the jobs wait in; '' for the script's own.")
@click.option("--priority", type=int, metavar="P", help="Of the jobs; 0 for the script's own.")
@click.option("--job-timeout", type=float, metavar="S", help="Of one run; 0 for the script's own.")
@common
def set_(
    given: Given,
    *,
    name: str,
    args: str | None,
    pairs: tuple[str, ...],
    job_timeout: float | None,
    **asked: Any,
) -> int:
    """Make the schedule NAME, or change what is given of one that is there.

    JSON is an object with the args of its jobs. What is not given stays as it is.
    """
    asked["timeout"] = job_timeout
    return given.run(_set, given, name, args, pairs, asked)


@command.command("list")
@click.option("--script", metavar="SCRIPT", help="Only those of this script.")
@common
def list_(given: Given, *, script: str | None) -> int:
    """List the schedules by name."""
    return given.run(_list, given, script)


@command.command("show")
@click.argument("name")
@click.option(
    "--next", "coming", type=click.IntRange(0, 1000), default=5, metavar="N", help="Ticks ahead. [5]"
)
@click.option("--last", type=click.IntRange(0, 1000), default=5, metavar="N", help="Ticks behind. [5]")
@common
def show(given: Given, *, name: str, coming: int, last: int) -> int:
    """Show one: what it does, its next ticks, and what became of the last."""
    return given.run(_show, given, name, coming, last)


@command.command("next")
@click.argument("name")
@click.option("-n", "count", type=click.IntRange(1, 1000), default=10, metavar="N", help="How many. [10]")
@common
def next_(given: Given, *, name: str, count: int) -> int:
    """Print the next ticks of NAME, one a line."""
    return given.run(_next, given, name, count)


@command.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@common
def pause(given: Given, *, names: tuple[str, ...]) -> int:
    """Let them not tick until they are resumed."""
    return given.run(_each, given, names, "pause_schedule", "paused")


@command.command("resume")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@common
def resume(given: Given, *, names: tuple[str, ...]) -> int:
    """Have them tick again, from now on: what came meanwhile is not caught up."""
    return given.run(_each, given, names, "resume_schedule", "resumed")


@command.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@common
def delete(given: Given, *, names: tuple[str, ...]) -> int:
    """Forget them; the jobs that they have put in stay."""
    return given.run(_each, given, names, "delete_schedule", "deleted")


@command.command("run")
@click.argument("name")
@common
def run(given: Given, *, name: str) -> int:
    """Put in a job of NAME now, whatever its times say, and print its id."""
    return given.run(_run, given, name)


@command.command("export")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--output", "-o", metavar="FILE", help="Write it there. [stdout]")
@common
def export(given: Given, *, names: tuple[str, ...], output: str | None) -> int:
    """Write schedules, by default all that are not over, as YAML for `import`: with the args of their jobs as
    they are.
    """
    return given.run(_export, given, names, output)


@command.command("import")
@click.argument("file", metavar="FILE")
@common
def import_(given: Given, *, file: str) -> int:
    """Set each schedule in FILE (YAML; `-`: stdin) as it stands there: all, or, if anything is wrong, none.

    Others are left alone.
    """
    from hotpath.cli.schedule_files import read_file

    return given.run(_import, given, read_file(file))


async def _set(
    given: Given, name: str, text: str | None, pairs: tuple[str, ...], asked: dict[str, Any]
) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client
    from hotpath.core.schedules import parse_span
    from hotpath.documents import schedule_document
    from hotpath.words import clock

    if asked["catch_up_within"] is not None:
        asked["catch_up_within"] = parse_span(asked["catch_up_within"], "--catch-up-within")
    async with open_client(config=given.config) as client:
        if text is not None or pairs:
            asked["args"] = await _args(client, name, asked["script"], text, pairs)
        schedule = await client.set_schedule(name, **asked)
        (schedule,) = await client.masked_schedules([schedule])
        listening = await _somebody(client)
    if given.json:
        print_json(schedule_document(schedule, 5))
        return 0
    said = "paused" if not schedule.enabled else f"next at {clock(schedule.next_at)}"
    print(printable(f"{schedule.name}: {schedule.script} {when(schedule)}; {said}"))
    if not listening:
        nobody = "neither a worker nor `hotpath serve` runs now: schedules tick while one of them does"
        click.echo(f"hotpath: {nobody}", err=True)
    return 0


async def _args(
    client: Client, name: str, script: str | None, text: str | None, pairs: tuple[str, ...]
) -> dict[str, Any]:
    """The args object that the command line means. Raises `BadArgsError`."""
    import msgspec

    from hotpath.cli.run import read_args
    from hotpath.store.scripts import current_version

    validator = await client.validator(script or (await client.schedule(name)).script)
    async with client.database.connection() as connection:
        version = await current_version(connection, script or (await client.schedule(name)).script)
    args: dict[str, Any] = msgspec.json.decode(validator.check_json(read_args(version, text, pairs)))
    return args


async def _somebody(client: Client) -> bool:
    """Whether a worker lives, whose supervisor has schedules tick, or a server."""
    from hotpath.store.servers import is_any_up

    if any(worker.state not in ("lost", "stopped") for worker in await client.workers()):
        return True
    async with client.database.connection() as connection:
        return await is_any_up(connection)


async def _list(given: Given, script: str | None) -> int:
    from hotpath.cli.output import print_json, print_table
    from hotpath.client import open_client
    from hotpath.documents import schedule_document
    from hotpath.words import clock

    rows: list[tuple[str, ...]] = []
    after = ""
    async with open_client(config=given.config) as client:
        while page := await client.schedules(script=script, after=after):
            after = page[-1].name
            for each in await client.masked_schedules(page):
                if given.json:
                    print_json(schedule_document(each))
                    continue
                rows.append((
                    each.name, each.state, each.script, when(each), clock(each.next_at), clock(each.last_at),
                    str(each.ticks), each.last_error or "",
                ))  # fmt: skip
    if not given.json:
        print_table(("NAME", "STATE", "SCRIPT", "WHEN", "NEXT", "LAST", "TICKS", "ERROR"), rows, right=[6])
    return 0


async def _show(given: Given, name: str, coming: int, last: int) -> int:
    from hotpath.cli.output import pretty_json, print_json, print_table, printable
    from hotpath.client import open_client
    from hotpath.documents import schedule_document, tick_document
    from hotpath.words import clock, span

    async with open_client(config=given.config) as client:
        schedule = await client.schedule(name)
        ticks = await client.ticks(schedule, last) if last else []
        (schedule,) = await client.masked_schedules([schedule])
    if given.json:
        print_json(schedule_document(schedule, coming) | {"last": [tick_document(each) for each in ticks]})
        return 0
    within = "" if schedule.catch_up == "none" else f", for {span(schedule.catch_up_within * 1000)}"
    counts = f"missed {schedule.missed}, skipped {schedule.skipped}, refused {schedule.refused}"
    lines = [
        ("schedule", f"{schedule.name} ({schedule.state})"),
        ("script", schedule.script),
        ("args", pretty_json(schedule.args)),
        ("when", when(schedule)),
        ("catch up", f"{schedule.catch_up}{within}"),
        ("overlap", schedule.overlap),
        ("jobs", _jobs(schedule)),
        ("ticks", f"{schedule.ticks}; {counts}"),
    ]
    if schedule.held_at is not None:
        lines.append(("held", f"the tick of {clock(schedule.held_at)} waits for the job before to end"))
    if schedule.last_error is not None:
        lines.append(("error", f"{clock(schedule.last_error_at)}: {schedule.last_error}"))
    lines += [("next", text) for text in _next_lines(schedule, coming)]
    for head, text in lines:
        print(printable(f"{head:<10}{text}"))
    if ticks:
        print()
        print_table(
            ("TICK", "JOB", "STATE", "STARTED", "DURATION"),
            [
                (
                    clock(each.at) + (" by hand" if each.by_hand else ""),
                    str(each.job or "-"),
                    "-" if each.state is None else each.state.value,
                    clock(each.started_at),
                    span(each.duration_ms),
                )
                for each in ticks
            ],
        )
    return 0


def _jobs(schedule: Schedule) -> str:
    from hotpath.words import span

    own = "the script's own"
    timeout = own if schedule.timeout is None else span(schedule.timeout * 1000)
    return f"tag {schedule.tag or own}, priority {schedule.priority or own}, time-out {timeout}"


def _next_lines(schedule: Schedule, count: int) -> list[str]:
    """The next ticks in UTC and, where that differs, by the schedule's own clock."""
    from hotpath.store.schedules import zone_of
    from hotpath.words import clock

    zone = zone_of(schedule.timezone)
    own = schedule.kind != "every" and schedule.timezone != "UTC"
    return [
        clock(at) + (f"  {at.astimezone(zone).isoformat(timespec='seconds')}" if own else "")
        for at in schedule.coming(count)
    ]


async def _next(given: Given, name: str, count: int) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client
    from hotpath.documents import utc

    async with open_client(config=given.config) as client:
        schedule = await client.schedule(name)
    if given.json:
        print_json({"name": schedule.name, "next": [utc(at) for at in schedule.coming(count)]})
        return 0
    for line in _next_lines(schedule, count):
        print(line)
    if schedule.state != "active":
        click.echo(printable(f"hotpath: {schedule.name} is {schedule.state}"), err=True)
    return 0


async def _export(given: Given, names: tuple[str, ...], output: str | None) -> int:
    from hotpath.cli.output import print_json
    from hotpath.cli.schedule_files import to_file
    from hotpath.cli.yaml_files import write_file
    from hotpath.client import open_client
    from hotpath.documents import schedule_document

    found: list[Schedule] = []
    async with open_client(config=given.config) as client:
        if names:
            found = [await client.schedule(name) for name in names]
        else:
            while page := await client.schedules(after=found[-1].name if found else ""):
                found += page
    if output is not None:
        write_file(output, to_file(found))
    elif given.json:
        for each in found:
            print_json(schedule_document(each))
    else:
        print(to_file(found), end="")
    return 0


async def _import(given: Given, documents: dict[str, dict[str, Any]]) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client
    from hotpath.errors import HotpathError
    from hotpath.store import schedules as store

    async with open_client(config=given.config) as client:
        for script in sorted({each["script"] for each in documents.values() if "script" in each}):
            await client.validator(script)  # which registers one that the workspace has
        async with client.database.connection() as connection, connection.transaction():
            for name, document in sorted(documents.items()):
                fields = {key: value for key, value in document.items() if key != "paused"}
                try:
                    await store.set_schedule(connection, name, fields, replace=True)
                    act = store.pause_schedule if document.get("paused") else store.resume_schedule
                    await act(connection, name)
                except HotpathError as error:
                    error.args = (f"schedule {name}: {error}",)  # the same error, which says whose it is
                    raise
    if given.json:
        print_json({"set": sorted(documents)})
    else:
        print(printable(f"set {', '.join(sorted(documents)) or 'nothing'}"))
    return 0


async def _each(given: Given, names: tuple[str, ...], method: str, done: str) -> int:
    from hotpath.cli.output import print_json, printable
    from hotpath.client import open_client
    from hotpath.documents import schedule_document
    from hotpath.store.schedules import UnknownScheduleError

    code = 0
    async with open_client(config=given.config) as client:
        for name in names:
            try:
                found = await getattr(client, method)(name)
            except UnknownScheduleError as error:
                click.echo(printable(f"hotpath: {error}"), err=True)
                code = 1
                continue
            if not given.json:
                print(printable(f"{done} {name}"))
            elif found is None:
                print_json({"name": name, "deleted": True})
            else:
                print_json(schedule_document((await client.masked_schedules([found]))[0]))
    return code


async def _run(given: Given, name: str) -> int:
    from hotpath.cli.output import print_json
    from hotpath.client import open_client

    async with open_client(config=given.config) as client:
        job = await client.run_schedule(name)
    if given.json:
        print_json({"schedule": name, "id": job})
    else:
        print(job)
    return 0


def when(schedule: Schedule) -> str:
    """Its timing, for people."""
    from datetime import datetime

    from hotpath.store.schedules import zone_of
    from hotpath.words import span

    if schedule.kind == "every":
        return f"every {span(float(schedule.expression) * 1000)}"
    zone = "" if schedule.timezone == "UTC" else f" {schedule.timezone}"
    if schedule.kind == "at":
        at = datetime.fromisoformat(schedule.expression).astimezone(zone_of(schedule.timezone))
        return f"at {at.isoformat(timespec='seconds')}{zone}"
    return f"cron {schedule.expression}{zone}"
