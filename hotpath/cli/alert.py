"""`hotpath alert`: what is watched, and who hears of it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from hotpath.cli.options import Given, common

if TYPE_CHECKING:
    from hotpath.store.alerts import Alert

TEST_SECONDS = 45.0
"""Seconds to wait for what becomes of a test."""


@click.group("alert")
def command() -> None:
    """Be told when something is wrong: too few workers, jobs that wait, fail or are stranded."""


@command.command("set")
@click.argument("name")
@click.option(
    "--when", "rule", required=True, metavar="RULE",
    help="What is watched: 'workers under 2 [in GROUP]', 'short [in GROUP]', 'waiting over 5m "
    "[on TAGS]', 'failures over 5% [in 10m] [of 20] [on TAGS]', 'stranded [on TAGS]', 'lost', "
    "'deaf' or 'disk'. TAGS: names or patterns, commas between.",
)  # fmt: skip
@click.option(
    "--to", "channels", required=True, multiple=True, metavar="CHANNEL",
    help="Who hears of it; may be repeated: 'webhook:URL [signed $NAME]', 'slack:$NAME', 'email:ADDRESS,... "
    "via smtp://USER:$NAME@HOST:587 [from ADDRESS]', 'command:/PATH ARGUMENTS'.",
)  # fmt: skip
@click.option("--for", "hold", default="0s", metavar="SPAN", help="Has to be so for this long. [0s]")
@click.option("--clear", default="1m", metavar="SPAN", help="And over for this long. [1m]")
@click.option("--cooldown", default="30m", metavar="SPAN", help="Between two words that it fires. [30m]")
@common
def set_(
    given: Given, *, name: str, rule: str, channels: tuple[str, ...], hold: str, clear: str, cooldown: str
) -> int:
    """Make the alert NAME, or change it.

    $NAME is an environment variable of the supervisors and servers, which look at the rules and send: what is
    secret is there and not in the database. In a shell it wants single quotes.
    """
    from hotpath.core.alert_channels import parse_channel
    from hotpath.core.alert_rules import parse_rule, parse_span
    from hotpath.core.alerting import Timing
    from hotpath.store.alerts import set_alert, unheard_of
    from hotpath.worker.alert_delivery import lacking

    wanted = parse_rule(rule)
    where = [parse_channel(each) for each in channels]
    timing = Timing(
        hold=_span(hold, "for"), clear=_span(clear, "clear"), cooldown=parse_span(cooldown, "cooldown")
    )

    async def act(connection: Any) -> int:
        alert = await set_alert(connection, name, wanted, where, timing)
        notes = await unheard_of(connection, wanted)
        notes += [
            f"{each} here; whoever sends needs it" for one in where for each in lacking(one, os.environ)
        ]
        for note in dict.fromkeys(notes):
            click.echo(f"hotpath: note: {note}", err=True)
        _show(given, alert, [])
        return 0

    return given.run(_with_connection, given, act)


@command.command("list")
@common
def list_(given: Given) -> int:
    """List the alerts, where each stands, and what could not be delivered."""

    async def act(connection: Any) -> int:
        from hotpath.cli.output import print_json, print_table
        from hotpath.documents import alert_document
        from hotpath.store.alerts import list_alerts
        from hotpath.words import clock

        alerts = await list_alerts(connection)
        if given.json:
            for alert in alerts:
                print_json(alert_document(alert))
            return 0
        print_table(
            ("ALERT", "STATE", "SINCE", "RULE", "FOUND", "UNTOLD", "TO"),
            [
                (
                    alert.name,
                    alert.phase.value + (", silent" if alert.silent_until else ""),
                    clock(alert.since),
                    alert.rule,
                    alert.finding or "nobody has looked yet",
                    str(alert.undelivered or "-"),
                    ", ".join(each.partition(":")[0] for each in alert.channels),
                )
                for alert in alerts
            ],
            right=(5,),
        )
        return 0

    return given.run(_with_connection, given, act)


@command.command("show")
@click.argument("name")
@common
def show(given: Given, *, name: str) -> int:
    """Show the alert NAME, and what was said of it last."""

    async def act(connection: Any) -> int:
        from hotpath.store.alerts import get_alert, last_words

        alert = await get_alert(connection, name)
        _show(given, alert, await last_words(connection, name))
        return 0

    return given.run(_with_connection, given, act)


@command.command("delete")
@click.argument("name")
@common
def delete(given: Given, *, name: str) -> int:
    """Forget the alert NAME; where it was said to fire, it is said to be over."""

    async def act(connection: Any) -> int:
        from hotpath.cli.output import print_json
        from hotpath.store.alerts import delete_alert

        await delete_alert(connection, name)
        if given.json:
            print_json({"deleted": name})
        else:
            print(f"deleted {name}")
        return 0

    return given.run(_with_connection, given, act)


@command.command("silence")
@click.argument("name")
@click.option("--for", "span", metavar="SPAN", help="How long: 30m, 2h, 1d.")
@click.option("--off", is_flag=True, help="Let it speak again.")
@common
def silence(given: Given, *, name: str, span: str | None, off: bool) -> int:
    """Have the alert NAME say nothing for a while; that it is over is said, if it was said to fire."""
    from hotpath.core.alert_rules import parse_span

    if (span is None) is not off:
        raise click.UsageError("give --for SPAN, or --off")
    seconds = None if span is None else parse_span(span, "for", most=30 * 86400)

    async def act(connection: Any) -> int:
        from hotpath.store.alerts import silence_alert

        _show(given, await silence_alert(connection, name, seconds), [])
        return 0

    return given.run(_with_connection, given, act)


@command.command("test")
@click.argument("name")
@common
def test(given: Given, *, name: str) -> int:
    """Have a test sent to each channel of the alert NAME, by whoever sends, and tell what became of it.

    Exits 1 unless all were delivered.
    """
    return given.run(_test, given, name)


async def _test(given: Given, name: str) -> int:
    from hotpath.cli.output import print_json, print_table
    from hotpath.store.alert_tests import run_test
    from hotpath.store.database import open_database

    async with open_database(given.config) as database:
        states = await run_test(database, name, TEST_SECONDS)
    if given.json:
        for state in states:
            print_json({
                "channel": state.channel, "delivered": state.delivered, "tried_by": state.tried_by,
                "problem": state.problem,
            })  # fmt: skip
    else:
        print_table(
            ("CHANNEL", "TEST", "BY", "PROBLEM"),
            [
                (
                    state.channel,
                    "delivered" if state.delivered else "failed",
                    state.tried_by or "-",
                    state.problem or "-",
                )
                for state in states
            ],
        )
    return 0 if all(state.delivered for state in states) else 1


async def _with_connection(given: Given, act: Callable[[Any], Awaitable[int]]) -> int:
    from hotpath.store.database import open_database

    async with open_database(given.config) as database, database.connection() as connection:
        return await act(connection)


def _span(text: str, field: str) -> float:
    from hotpath.core.alert_rules import parse_span

    return 0.0 if text in ("0", "0s") else parse_span(text, field)


def _show(given: Given, alert: Alert, words: list[dict[str, Any]]) -> None:
    from hotpath.cli.output import print_json, printable
    from hotpath.core.alert_rules import span_text
    from hotpath.documents import alert_document, word_document
    from hotpath.words import clock

    if given.json:
        print_json(
            alert_document(alert) | ({"words": [word_document(each) for each in words]} if words else {})
        )
        return
    state = f"{alert.phase.value} since {clock(alert.since)}"
    lines = [
        ("alert", alert.name),
        ("state", state + (f", silent until {clock(alert.silent_until)}" if alert.silent_until else "")),
        ("when", alert.rule),
        ("found", alert.finding or "nobody has looked yet"),
        *(("to", each) for each in alert.channels),
        ("for", span_text(alert.hold)),
        ("clear", span_text(alert.clear)),
        ("cooldown", span_text(alert.cooldown)),
        *([("untold", f"{alert.undelivered}")] if alert.undelivered else []),
        *([("problem", alert.problem)] if alert.problem else []),
    ]
    for head, text in lines:
        print(printable(f"{head:<9}{text}"))
    for word in words:
        told = "told" if word["delivered"] else "given up" if word["ended_at"] else "to be told"
        kind = word["channel"].partition(":")[0]
        print(printable(f"{clock(word['said_at'])}  {word['word']} ({kind}, {told}): {word['finding']}"))
