"""Alerts in the database: one looks at a time, moves and words go together, each word is taken once and
again by another if its taker dies.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from store_stage import NAME, Stage
from test_plans import FEW, explain, pages

from hotpath.core.alert_channels import parse_channel
from hotpath.core.alert_rules import parse_rule
from hotpath.core.alerting import Phase, Timing, Word
from hotpath.core.tally import FAILURE, SIZE, SUCCESS
from hotpath.errors import UsageError
from hotpath.store import alerts, history, workers
from hotpath.store.workers import Counts

HOOK = "webhook:http://127.0.0.1:9/"
AT_ONCE = Timing(hold=0, clear=0, cooldown=3600)


async def make(stage: Stage, rule: str, name: str = "it", *, to: tuple[str, ...] = (HOOK,), **timing: Any):
    """An alert that fires at once and is over at once."""
    patience = Timing(**{"hold": 0, "clear": 0, "cooldown": 3600} | timing)
    channels = [parse_channel(each) for each in to]
    return await alerts.set_alert(stage.connection, name, parse_rule(rule), channels, patience)


async def look(stage: Stage, name: str = "it") -> alerts.Alert:
    """The alert, after a look."""
    assert await alerts.look_at_alerts(stage.connection, 0) is not None
    return await alerts.get_alert(stage.connection, name)


async def words(stage: Stage, name: str = "it") -> list[str]:
    """What was said of it, in order."""
    return [row["word"] for row in reversed(await alerts.last_words(stage.connection, name))]


async def test_it_fires_and_is_over(stage: Stage):
    """Each is said once to each channel; what stays so is not said again within the cool-down."""
    await make(stage, "workers under 1", to=(HOOK, "slack:$SLACK"))
    assert (await look(stage)).phase is Phase.FIRING
    alert = await look(stage)
    assert (alert.finding, alert.undelivered) == ("0 live workers, 1 wanted", 2)
    assert alert.fired_at is not None
    await stage.worker()
    alert = await look(stage)
    assert (alert.phase, alert.fired_at) == (Phase.FINE, None)
    assert await words(stage) == ["firing"] * 2 + ["resolved"] * 2
    taken = await alerts.take_words(stage.connection, 10, "me")
    assert {(each.said.word, each.channel.kind) for each in taken} == {
        (Word.FIRING, "webhook"), (Word.FIRING, "slack")
    }  # fmt: skip


async def test_one_looks(stage: Stage):
    """Of many that try at once one does, and what it says is said once."""
    await make(stage, "workers under 1")
    said = []

    async def attempt(connection: Any) -> None:
        said.append(await alerts.look_at_alerts(connection, 5))

    connections = [await stage.connect() for _ in range(8)]
    async with trio.open_nursery() as nursery:
        for connection in connections:
            nursery.start_soon(attempt, connection)
    assert sorted(said, key=str) == [1, *[None] * 7]
    assert await words(stage) == ["firing"]
    assert await alerts.look_at_alerts(stage.connection, 5) is None
    other = connections[0]
    async with stage.connection.transaction():
        assert await alerts.look_at_alerts(stage.connection, 0) == 0
        assert await alerts.look_at_alerts(other, 0) is None  # without waiting for who is at it


async def test_a_look_that_breaks_off_moves_nothing(stage: Stage):
    """Where it stands and what is said of it are one transaction."""
    await make(stage, "workers under 1")
    with pytest.raises(ZeroDivisionError):
        async with stage.connection.transaction():
            await alerts.look_at_alerts(stage.connection, 0)
            raise ZeroDivisionError
    assert (await alerts.get_alert(stage.connection, "it")).phase is Phase.FINE
    assert await words(stage) == []
    assert (await look(stage)).phase is Phase.FIRING
    assert await words(stage) == ["firing"]


async def test_words_are_taken_once_and_in_order(stage: Stage):
    """By whoever comes; what was taken and is not delivered comes again, ever later; of a channel the later
    word waits for the earlier one.
    """
    await make(stage, "workers under 1")
    await look(stage)
    await stage.worker()
    await look(stage)
    taken = []

    async def take(connection: Any) -> None:
        taken.extend(await alerts.take_words(connection, 10, "somebody"))

    connections = [await stage.connect() for _ in range(6)]
    async with trio.open_nursery() as nursery:
        for connection in connections:
            nursery.start_soon(take, connection)
    (first,) = taken
    assert (first.said.word, first.tries) == (Word.FIRING, 1)
    assert await alerts.take_words(stage.connection, 10, "me") == []
    # Whoever took it has died: a while later it is anybody's.
    await stage.connection.execute("update hotpath.alert_word set next_at = now() where tries = 1")
    (again,) = await alerts.take_words(stage.connection, 10, "me")
    assert (again.said.id, again.tries) == (first.said.id, 2)
    # The one that was late cannot put off what another one tries now.
    assert not await alerts.word_failed(stage.connection, first, "late")
    assert (await alerts.word_states(stage.connection, [first.said.id]))[0].problem is None
    assert not await alerts.word_failed(stage.connection, again, "answered 500")
    (state,) = await alerts.word_states(stage.connection, [first.said.id])
    assert (state.problem, state.ended, state.tried_by) == ("answered 500", False, "me")
    assert (await alerts.get_alert(stage.connection, "it")).problem == "answered 500"
    any_rules, seconds = await alerts.next_word(stage.connection)
    assert any_rules
    assert seconds is not None
    await stage.connection.execute("update hotpath.alert_word set next_at = now()")
    (again,) = await alerts.take_words(stage.connection, 10, "me")
    await alerts.word_delivered(stage.connection, again.said.id)
    (last,) = await alerts.take_words(stage.connection, 10, "me")
    assert last.said.word is Word.RESOLVED


async def test_who_comes_while_a_word_is_taken_does_not_take_it_too(stage: Stage):
    """Nor waits for who takes it."""
    await make(stage, "workers under 1")
    await look(stage)
    other = await stage.connect()
    async with stage.connection.transaction():
        assert len(await alerts.take_words(stage.connection, 10, "me")) == 1
        with trio.fail_after(20):
            assert await alerts.take_words(other, 10, "another") == []
    assert await alerts.take_words(other, 10, "another") == []


async def test_what_nobody_takes_is_given_up(stage: Stage):
    """After a day, and said so; a test at once."""
    await make(stage, "workers under 1")
    await look(stage)
    (taken,) = await alerts.take_words(stage.connection, 10, "me")
    await alerts.put_test(stage.connection, "it")
    (test,) = await alerts.take_words(stage.connection, 10, "me")
    assert test.said.word is Word.TEST  # it does not wait for the other one
    await alerts.word_delivered(stage.connection, test.said.id)
    await stage.connection.execute("update hotpath.alert_word set said_at = now() - interval '25 hours'")
    assert await alerts.word_failed(stage.connection, taken, "answered 500")
    assert (await alerts.get_alert(stage.connection, "it")).undelivered == 0
    (word,) = await alerts.put_test(stage.connection, "it")
    (taken,) = await alerts.take_words(stage.connection, 10, "me")
    assert taken.said.id == word
    assert await alerts.word_failed(stage.connection, taken, "answered 500")


async def test_each_rule_finds_what_it_watches(stage: Stage):
    """In real tables: workers, waiting jobs, failures, what is stranded, lost and deaf."""
    for name, rule in (
        ("workers", "workers under 1 in etl"), ("waiting", f"waiting over 1m on {NAME}"),
        ("elsewhere", "waiting over 1m on other"), ("failures", "failures over 10% in 5m of 10"),
        ("stranded", "stranded"), ("lost", "lost"), ("deaf", "deaf"), ("disk", "disk"),
    ):  # fmt: skip
        await make(stage, rule, name)

    async def firing() -> set[str]:
        await alerts.look_at_alerts(stage.connection, 0)
        found = await alerts.list_alerts(stage.connection)
        return {alert.name for alert in found if alert.phase is Phase.FIRING}

    assert await firing() == {"workers"}
    await stage.loose(1)
    await stage.connection.execute(
        "update hotpath.job_queue set id = '01900000-0000-7000-8000-000000000000', "
        "scheduled_for = now() - interval '2 minutes'"
    )
    counts = [0] * SIZE
    counts[SUCCESS], counts[FAILURE] = 8, 2
    said = Counts(keeper=1, script=stage.script, tag=stage.tag, counts=counts)
    await workers.heartbeat(stage.connection, {}, 15, counts=[said])
    assert await firing() == {"workers", "waiting", "failures", "stranded"}
    lost, deaf = await stage.worker(), await stage.worker()
    await stage.kill(lost)
    await stage.connection.execute(
        "update hotpath.worker set deaf = true, worker_group = 'etl' where id = $1", deaf.worker
    )
    assert await firing() == {"waiting", "failures", "lost", "deaf"}
    await stage.connection.execute("update hotpath.pruning set disk_at = now(), disk_dropped = '{20261101}'")
    assert "disk" in await firing()
    await stage.connection.execute(
        "update hotpath.pruning set disk_at = now() - interval '2 hours', disk_held = true, disk_bound = 1"
    )
    assert "disk" not in await firing()
    await stage.connection.execute("update hotpath.pruning set disk_held = false, disk_bytes = 2000")
    assert "disk" in await firing()
    alert = await alerts.get_alert(stage.connection, "disk")
    assert alert.finding == "the tables take 2,000 bytes, and their bound of 1 cannot be held"


async def test_groups_that_are_short_of_workers(stage: Stage):
    """By what their configuration wants; what a normal worker keeps warm is not counted as workers."""
    await make(stage, "short in etl")
    await make(stage, "workers under 2 in etl", "two")
    assert (await look(stage)).phase is Phase.FINE
    await stage.connection.execute(
        "insert into hotpath.worker_group (name, config) values ('etl', '{\"alert_min_workers\": 2}')"
    )
    alert = await look(stage)
    assert (alert.phase, alert.finding) == (Phase.FIRING, "group etl has 0 live workers, 2 wanted")
    for _ in range(3):
        await stage.worker()
    await stage.connection.execute("update hotpath.worker set worker_group = 'etl', tags = '{}'")
    assert (await look(stage)).phase is Phase.FIRING
    await stage.connection.execute("update hotpath.worker set patterns = array['*']")
    assert (await look(stage)).phase is Phase.FINE
    assert (await alerts.get_alert(stage.connection, "two")).phase is Phase.FINE


async def test_changes(stage: Stage):
    """One that watches something else begins anew, and what was said to fire is said to be over; another
    cool-down leaves it where it is; each change is told to who heeds them.
    """
    before = await stage.connection.fetchval("select n from hotpath.config_revision")
    await make(stage, "workers under 1")
    await look(stage)
    await make(stage, "workers under 1", cooldown=60)
    assert (await alerts.get_alert(stage.connection, "it")).phase is Phase.FIRING
    alert = await make(stage, "workers under 2")
    assert (alert.phase, alert.fired_at) == (Phase.FINE, None)
    assert await words(stage) == ["firing", "resolved"]
    await look(stage)
    await alerts.delete_alert(stage.connection, "it")
    assert await words(stage) == ["resolved"]  # what was not delivered yet is not any more
    assert await stage.connection.fetchval("select n from hotpath.config_revision") == before + 4
    with pytest.raises(alerts.UnknownAlertError, match="there is no alert 'it'"):
        await alerts.delete_alert(stage.connection, "it")


async def test_silence(stage: Stage):
    """Nothing is said while it lasts, and what is so is said behind it."""
    await make(stage, "workers under 1")
    alert = await alerts.silence_alert(stage.connection, "it", 3600)
    assert alert.silent_until is not None
    assert (await look(stage)).phase is Phase.FIRING
    assert await words(stage) == []
    assert (await alerts.silence_alert(stage.connection, "it", None)).silent_until is None
    await look(stage)
    assert await words(stage) == ["firing"]


async def test_a_gap_without_looks(stage: Stage):
    """Does not count as if it had been so all the time."""
    await make(stage, "workers under 1", hold=30)
    assert (await look(stage)).phase is Phase.PENDING
    await stage.connection.execute(
        "update hotpath.alert set since = now() - interval '1 hour', looked_at = now() - interval '1 hour'"
    )
    assert (await look(stage)).phase is Phase.PENDING
    await stage.connection.execute("update hotpath.alert set since = now() - interval '1 minute'")
    assert (await look(stage)).phase is Phase.FIRING


async def test_a_rule_of_a_newer_program_harms_nobody(stage: Stage):
    """Neither it nor a channel of one keeps the others from being looked at."""
    await make(stage, "workers under 1")
    await make(stage, "workers under 1", "new")
    await stage.connection.execute(
        "update hotpath.alert set rule = 'moon over 5', channels = '{pigeon:x}' where name = 'new'"
    )
    assert (await look(stage)).phase is Phase.FIRING
    await alerts.put_test(stage.connection, "new")
    taken = await alerts.take_words(stage.connection, 10, "me")
    assert [each.said.alert for each in taken] == ["it"]


BAD_NAMES = ["", "a b", "-a", "ä", "a" * 64, "a/b"]


async def test_bad_names(stage: Stage, subtests):
    """Are refused."""
    for name in BAD_NAMES:
        with subtests.test(ascii(name)[:60]), pytest.raises(UsageError, match=r"^name: "):
            await make(stage, "lost", name)


async def test_bad_times_and_channels(stage: Stage):
    """Are refused, and the field is named."""
    for timing, field in (({"hold": -1}, "for"), ({"clear": 1e9}, "clear"), ({"cooldown": 0}, "cooldown")):
        with pytest.raises(UsageError, match=f"^{field}: "):
            await make(stage, "lost", **timing)
    with pytest.raises(UsageError, match=r"^to: "):
        await make(stage, "lost", to=())
    with pytest.raises(UsageError, match=r"^for: "):
        await alerts.silence_alert(stage.connection, "it", 0)


async def test_what_a_rule_names_and_nobody_knows(stage: Stage):
    """Is told to who sets it."""
    await stage.loose(1)
    rules = {
        f"waiting over 1m on {NAME[:3]}*": 0,
        "waiting over 1m on nowhere-*": 1,
        "workers under 1 in x": 1,
    }
    for text, count in rules.items():
        assert len(await alerts.unheard_of(stage.connection, parse_rule(text))) == count


async def test_the_rights_of_a_worker_are_enough(stage: Stage):
    """To look at alerts and queues, and to deliver; those of a reader to see how it was."""
    await stage.connection.execute("set role hotpath_worker")
    for rule in ("short", "workers under 1", "waiting over 5m", "stranded", "disk", "failures over 5%"):
        await make(stage, rule, rule.split()[0])
    assert await alerts.look_at_alerts(stage.connection, 0) == 1
    (taken,) = await alerts.take_words(stage.connection, 5, "me")
    await alerts.word_delivered(stage.connection, taken.said.id)
    await alerts.delete_alert(stage.connection, "disk")
    await history.look_at_queues(stage.connection)
    await history.keep_history_small(stage.connection, every=0)
    await stage.connection.execute("set role hotpath_read")
    assert len(await alerts.list_alerts(stage.connection)) == 5
    await history.read_history(stage.connection)


async def test_what_others_said_costs_nothing(stage: Stage):
    """I10: an alert is shown by what was said of it, however much that is of others."""
    await make(stage, "stranded", "quiet")
    await stage.connection.execute(
        """
        insert into hotpath.alert_word (alert, channel, word, rule, finding, ended_at, delivered)
            select 'loud', 'webhook:$X', 'firing', 'stranded', 'much', now(), true
            from generate_series(1, 50000)
        """
    )
    await stage.connection.execute("analyze hotpath.alert_word")
    plan = await explain(stage, "alert_list", "null", analyze=True)
    assert pages(plan) < FEW


async def test_many_alerts_move_at_once(stage: Stage):
    """However many there are, each stands where it should, and those that fire are said."""
    for number in range(40):
        await make(stage, "workers under 1" if number % 2 else "stranded", f"a{number}")
    assert await alerts.look_at_alerts(stage.connection, 0) == 20
    for number, alert in enumerate(
        sorted(await alerts.list_alerts(stage.connection), key=lambda a: int(a.name[1:]))
    ):
        assert (alert.phase is Phase.FIRING) == bool(number % 2)
        assert alert.finding == ("0 live workers, 1 wanted" if number % 2 else "no jobs are stranded")


async def test_failures_of_several_spans(stage: Stage):
    """Each is counted over its own time, though all are read at once."""
    await stage.connection.execute(
        """
        insert into hotpath.minute (minute, script, tag, success, failure, canceled, retried, busy_us)
            select date_trunc('minute', now()) - ago * interval '1 minute', $1, $2, 10, ago, 1, 0, 0
            from unnest(array[1, 7, 30, 200]) ago
        """,
        stage.script,
        stage.tag,
    )
    spans = {300.0: 1, 600.0: 8, 900.0: 8, 3600.0: 38, 86_400.0: 238}
    rules = [parse_rule(f"failures over 5% in {span:g}s") for span in spans]
    found = await alerts.find(stage.connection, rules, await stage.now())
    failed = {span: [(name, counts[0]) for name, counts in found.ended[span].items()] for span in spans}
    assert failed == {span: [(NAME, count)] for span, count in spans.items()}
    assert found.ended[3600.0][NAME] == (38, 38 + 33)
