"""Alerts: what is watched, who hears of it, and where each stands."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hotpath.core.alert_channels import MOST as MOST_TEXT
from hotpath.core.alert_channels import parse_channel
from hotpath.core.alert_rules import parse_rule
from hotpath.core.alerting import Timing
from hotpath.documents import alert_document, word_document
from hotpath.store import alert_tests, alerts
from hotpath.store.alerts import MOST_CHANNELS, MOST_SECONDS
from hotpath.web.endpoints import PREFIX, Answer, Endpoint, reply
from hotpath.web.state import state_of
from hotpath.worker.alert_delivery import lacking

TEST_SECONDS = 25.0
"""Within which a test is answered."""
Seconds = Annotated[float, Meta(ge=0, le=MOST_SECONDS)]


class OneAlert(msgspec.Struct, forbid_unknown_fields=True):
    """An alert by its name."""

    name: Annotated[str, Meta(min_length=1, max_length=63, description="Name of the alert.")]


class AlertBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An alert as it is to be."""

    when: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1000,
            description="such as: workers under 2 in etl · waiting over 5m on etl-* · failures over 5% in "
            "10m of 20 · stranded · short · lost · deaf · disk",
        ),
    ]
    to: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=MOST_TEXT)]],
        Meta(
            min_length=1,
            max_length=MOST_CHANNELS,
            extra_json_schema={"format": "lines"},
            description="slack:$NAME · webhook:URL signed $NAME · email:ADDRESS via smtp://HOST:587 · "
            "command:/PATH; $NAME is a variable of whoever sends",
        ),
    ]
    hold: Annotated[Seconds, Meta(description="seconds that it has to be so")] = msgspec.field(
        default=0.0, name="for"
    )
    clear: Annotated[Seconds, Meta(description="seconds that it has to be over")] = 60.0
    cooldown: Annotated[
        float, Meta(ge=1, le=MOST_SECONDS, description="seconds between two words that it fires")
    ] = 1800.0


class SilenceBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """For how long."""

    seconds: Annotated[
        Annotated[float, Meta(gt=0, le=MOST_SECONDS)] | None,
        Meta(description="From now on; null: it may speak again."),
    ]


class AlertDocument(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An alert, and where it stands."""

    name: str
    when: str
    """What is watched."""
    to: list[str]
    """Who hears of it; `$NAME` is an environment variable of whoever sends."""
    hold: float = msgspec.field(name="for")
    """Seconds that it has to be so before it fires."""
    clear: float
    """Seconds that it has not to be so before it is over."""
    cooldown: float
    """Seconds from one word that it fires to the next."""
    state: str
    """`fine`, `pending`, `firing` or `clearing`."""
    since: datetime
    fired_at: datetime | None
    said_at: datetime | None
    """When it was last said to fire."""
    finding: str | None
    """What was found last; null: nobody has looked."""
    silent_until: datetime | None
    undelivered: int
    """Words that are still to be delivered."""
    problem: str | None
    """Why the last one that was not delivered was not."""
    set_at: datetime
    notes: list[str] = []
    """Of one that was set: what it names that nobody has heard of, what this server lacks to send it."""


class WordDocument(msgspec.Struct, kw_only=True):
    """What was said of an alert to one channel."""

    id: int
    channel: str
    word: str
    """`firing`, `still firing`, `resolved` or `test`."""
    finding: str
    said_at: datetime
    tries: int
    tried_by: str | None
    problem: str | None
    ended_at: datetime | None
    """When it was delivered or given up; null: it is still to be."""
    delivered: bool


class AlertList(msgspec.Struct):
    """Alerts by name."""

    alerts: list[AlertDocument]


class ShownAlert(msgspec.Struct):
    """An alert and what was said of it last."""

    alert: AlertDocument
    words: list[WordDocument]


class TestedChannel(msgspec.Struct, kw_only=True):
    """What became of a test."""

    channel: str
    delivered: bool
    tried_by: str | None
    """Host and process."""
    problem: str | None


class Tested(msgspec.Struct):
    """What became of a test, channel by channel."""

    channels: list[TestedChannel]


async def list_alerts(request: Request) -> Response:
    """The alerts, and where each stands."""
    async with state_of(request).database.connection() as connection:
        found = await alerts.list_alerts(connection)
    return reply(AlertList([_document(each) for each in found]))


async def get_alert(request: Request, asked: OneAlert) -> Response:
    """An alert, and what was said of it last."""
    async with state_of(request).database.connection() as connection:
        found = await alerts.get_alert(connection, asked.name)
        words = await alerts.last_words(connection, asked.name)
    return reply(
        ShownAlert(_document(found), [msgspec.convert(word_document(each), WordDocument) for each in words])
    )


async def put_alert(request: Request, asked: OneAlert, body: AlertBody) -> Response:
    """Make an alert, or change it.

    One that watches something else than before begins anew. What the rule names and nobody has heard of, and
    what this server lacks to send to a channel, is told in `notes`.
    """
    rule = parse_rule(body.when)
    channels = [parse_channel(each) for each in body.to]
    timing = Timing(hold=body.hold, clear=body.clear, cooldown=body.cooldown)
    async with state_of(request).database.connection() as connection:
        found = await alerts.set_alert(connection, asked.name, rule, channels, timing)
        notes = await alerts.unheard_of(connection, rule)
    notes += [f"{each} in this server" for one in channels for each in lacking(one, os.environ)]
    return reply(_document(found, list(dict.fromkeys(notes))))


async def delete_alert(request: Request, asked: OneAlert) -> Response:
    """Forget an alert; where it was said to fire, it is said to be over."""
    async with state_of(request).database.connection() as connection:
        found = await alerts.get_alert(connection, asked.name)
        await alerts.delete_alert(connection, asked.name)
    return reply(_document(found))


async def silence_alert(request: Request, asked: OneAlert, body: SilenceBody) -> Response:
    """Have an alert say nothing for a while; that it is over is said, if it was said to fire."""
    async with state_of(request).database.connection() as connection:
        found = await alerts.silence_alert(connection, asked.name, body.seconds)
    return reply(_document(found))


async def test_alert(request: Request, asked: OneAlert) -> Response:
    """Have a test sent to each channel of an alert, by whoever sends, and tell what became of it."""
    states = await alert_tests.run_test(state_of(request).database, asked.name, TEST_SECONDS)
    return reply(
        Tested([
            TestedChannel(
                channel=each.channel, delivered=each.delivered, tried_by=each.tried_by, problem=each.problem
            )
            for each in states
        ])
    )  # fmt: skip


def _document(alert: alerts.Alert, notes: list[str] | None = None) -> AlertDocument:
    return msgspec.convert(alert_document(alert) | {"notes": notes or []}, AlertDocument)


_PATH = PREFIX + "/alerts/{name}"
_EXAMPLE = {
    "when": "waiting over 5m on etl-*",
    "to": ["webhook:https://ops.example/hook signed $HOOK_KEY"],
    "for": 30,
}
TABLE = [
    Endpoint(
        method="GET", path=f"{PREFIX}/alerts", handler=list_alerts, scope="read", group="alerts",
        answers={200: Answer("The alerts, by name.", AlertList)},
    ),
    Endpoint(
        method="GET", path=_PATH, handler=get_alert, scope="read", group="alerts",
        problems=(404,), answers={200: Answer("The alert.", ShownAlert)},
    ),
    Endpoint(
        method="PUT", path=_PATH, handler=put_alert, scope="admin", group="alerts", example=_EXAMPLE,
        answers={200: Answer("It is set.", AlertDocument)},
    ),
    Endpoint(
        method="DELETE", path=_PATH, handler=delete_alert, scope="admin", group="alerts",
        problems=(404,), answers={200: Answer("It is forgotten.", AlertDocument)},
    ),
    Endpoint(
        method="POST", path=f"{_PATH}/silence", handler=silence_alert, scope="admin", group="alerts",
        example={"seconds": 7200}, problems=(404,), answers={200: Answer("It is silent.", AlertDocument)},
    ),
    Endpoint(
        method="POST", path=f"{_PATH}/test", handler=test_alert, scope="admin", group="alerts",
        problems=(404,), answers={200: Answer("What became of it.", Tested)},
    ),
]  # fmt: skip
