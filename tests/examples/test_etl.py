"""The ETL example, as a file and as code, over its real files: by real workers, against other arithmetic.

The numbers are worked out from the files by other means than the example's own: fractions instead of
decimals, regular expressions instead of checks one by one.
"""

import csv
import datetime as dt
import json
import os
import re
import shutil
import sqlite3
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest
from warm import run_hotpath

import hotpath

WORKSPACE = Path(__file__).resolve().parents[2] / "examples" / "etl"
INCOMING = WORKSPACE / "incoming"
HEAD = "order_id,ordered_on,customer,country,currency,quantity,unit_price"
RATES = {"EUR": 1, "USD": Fraction(92, 100), "GBP": Fraction(117, 100), "CHF": Fraction(104, 100)}
RATES["PLN"] = Fraction(23, 100)
BOTH = ("etl", "etl_code")
NEVER = 10_000_000
"""EUR: more than the orders come to."""


def is_date(text):
    """Whether it is a day of the calendar, as ISO writes it."""
    try:
        return dt.date(*map(int, text.split("-"))).isoformat() == text
    except (ValueError, TypeError):
        return False


def work_out():
    """Orders in cents by id and country, rows that are none, files that hold none, ids that came again."""
    orders, rejected, unreadable, again = {}, 0, [], 0
    for file in sorted(INCOMING.glob("*.csv")):
        raw = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
        try:
            lines = raw.decode().splitlines()
        except UnicodeDecodeError:
            lines = raw.decode("latin-1").splitlines()
        if not lines or lines[0] != HEAD:
            unreadable.append(file.name)
            continue
        for row in csv.reader(line for line in lines[1:] if line):
            good = (
                len(row) == 7
                and all(row[:3])
                and is_date(row[1])
                and row[4].upper() in RATES
                and re.fullmatch(r"[1-9][0-9]{0,2}|1000", row[5])
                and re.fullmatch(r"[0-9]+\.[0-9]+", row[6])
            )
            if not good:
                rejected += 1
            elif row[0] in orders:
                again += 1
            else:
                cents = round(Fraction(row[6]) * int(row[5]) * RATES[row[4].upper()] * 100)
                orders[row[0]] = (row[3], cents)
    return orders, rejected, unreadable, again


def expected_report(stored=None, approved_by=None):
    """What the report must be."""
    orders, rejected, unreadable, again = work_out()
    countries = sorted({country for country, _ in orders.values()})
    of = {name: sum(cents for country, cents in orders.values() if country == name) for name in countries}
    return {
        "files": len(list(INCOMING.glob("*.csv"))),
        "orders": len(orders),
        "duplicates": again,
        "rows_set_aside": rejected,
        "files_set_aside": unreadable,
        "stored": len(orders) if stored is None else stored,
        "total_eur": f"{sum(of.values()) / 100:.2f}",
        "by_country_eur": {name: f"{cents / 100:.2f}" for name, cents in of.items()},
        "approved_by": approved_by,
    }


def drain(script, database_url):
    """Have a real worker run what there is of it."""
    environment = {**os.environ, "HOTPATH_DATABASE_URL": database_url}
    command = ("dedicate", script, "--drain", "--workspace", str(WORKSPACE))
    done = run_hotpath(*command, env=environment, cwd=WORKSPACE, seconds=90)
    assert done.returncode == 0, done.stderr


async def run_all(script, database_url, runs):
    """Enqueue runs with these args, and have them run; the jobs as they are then, and the client's steps."""
    async with hotpath.open_client(database_url, workspace=WORKSPACE) as client:
        ids = [await client.enqueue(script, args) for args in runs]
    drain(script, database_url)
    async with hotpath.open_client(database_url, workspace=WORKSPACE) as client:
        return [await client.job(each) for each in ids], [await client.steps(each) for each in ids]


def test_the_files_are_as_messy_as_they_should_be():
    """There is something wrong of each kind, and most is right."""
    orders, rejected, unreadable, again = work_out()
    assert len(orders) > 300
    assert rejected > 10
    assert again >= 5
    assert unreadable == ["2026-03-02_lyon.csv", "2026-03-03_madrid.csv"]
    assert not (INCOMING / "2026-03-03_madrid.csv").read_bytes()
    with pytest.raises(UnicodeDecodeError):
        (INCOMING / "2026-03-01_lyon.csv").read_bytes().decode()


@pytest.mark.slow
@pytest.mark.parametrize("script", BOTH)
async def test_report(script, database_url, tmp_path):
    """Without anybody's approval where none is asked for, and with the database locked twice: the report, the
    database and what was set aside are right, and a second run into the same database changes nothing in it.
    """
    out = tmp_path / "out"
    args = {"incoming": str(INCOMING), "out": str(out), "limit_eur": NEVER}
    (job,), (steps,) = await run_all(script, database_url, [args | {"flaky": 2}])
    assert job.error is None
    assert job.result == expected_report()
    orders, rejected, unreadable, _ = work_out()
    with closing(sqlite3.connect(out / "orders.db")) as db:
        stored = {
            id: (country, cents) for id, country, cents in db.execute("select id, country, cents from orders")
        }
        assert stored == orders
        names = {name for (name,) in db.execute("select distinct customer from orders")}
    assert {"Zoé Lefèvre", "Íñigo Muñoz", "Michał Dąbrowski", 'Chris "CJ" Johnson'} <= names
    aside = json.loads((out / "quarantine.json").read_text())
    assert len(aside["rejected"]) == rejected
    assert [each["file"] for each in aside["unreadable"]] == unreadable
    assert json.loads((out / "report.json").read_text()) == job.result
    loads = [step for step in steps if step.key == "load"]
    assert [(step.state, step.attempt) for step in loads] == [("success", 3)]

    (again,), _ = await run_all(script, database_url, [args])
    assert again.result == expected_report()


@pytest.mark.slow
@pytest.mark.parametrize("script", BOTH)
async def test_approval(script, database_url, tmp_path):
    """Above the limit the run waits, held by no worker and with nothing published, until somebody with a name
    agrees; one that is refused, or cannot read any file at all, publishes nothing.
    """
    outs = [tmp_path / name for name in ("yes", "no", "empty")]
    (tmp_path / "nothing").mkdir()
    runs = [{"incoming": str(INCOMING), "out": str(out)} for out in outs]
    runs[2]["incoming"] = str(tmp_path / "nothing")
    jobs, _ = await run_all(script, database_url, runs)
    assert [job.state for job in jobs] == ["queued", "queued", "failure"]
    assert "no CSV file in" in jobs[2].error["message"]
    assert not any((out / "report.json").exists() for out in outs)
    yes, no = jobs[0].id, jobs[1].id
    async with hotpath.open_client(database_url, workspace=WORKSPACE) as client:
        assert [(wait.kind, wait.key) for wait in await client.waits(yes)] == [("suspend", "ask")]
        with pytest.raises(hotpath.BadArgsError, match="name"):
            await client.resume(yes, {"comment": "no name"})
        token = await client.resume_token(yes)
        await client.resume_by_token(token, {"name": "Ada"})
        await client.resume(no, approve=False, approver="Grace")
    drain(script, database_url)
    async with hotpath.open_client(database_url, workspace=WORKSPACE) as client:
        ended = [await client.job(each) for each in (yes, no)]
    assert [job.state for job in ended] == ["success", "failure"]
    assert ended[0].result == expected_report(approved_by="Ada")
    assert "disapproved by Grace" in ended[1].error["message"]
    assert [(out / "report.json").exists() for out in outs] == [True, False, False]


@pytest.mark.slow
async def test_both_ways_give_the_same(database_url, tmp_path):
    """The flow as a file and the flow as code give the same report, also when nothing is wrong with the files
    and so the other branch is taken.
    """
    clean = tmp_path / "clean"
    clean.mkdir()
    for name in ("2026-03-02_berlin.csv", "2026-03-04_berlin.csv"):
        shutil.copy(INCOMING / name, clean)
    keys, reports = {}, {}
    for script in BOTH:
        runs = [
            {"incoming": str(directory), "out": str(tmp_path / script / directory.name), "limit_eur": NEVER}
            for directory in (INCOMING, clean)
        ]
        jobs, steps = await run_all(script, database_url, runs)
        reports[script] = [job.result for job in jobs]
        keys[script] = [{step.key for step in each} for each in steps]
    assert reports["etl"] == reports["etl_code"]
    assert reports["etl"][0] == expected_report()
    assert reports["etl"][1]["rows_set_aside"] == 0
    assert reports["etl"][1]["orders"] == 83
    assert [("aside[0]/quarantine" in each, "aside[default]/all_clean" in each) for each in keys["etl"]] == [
        (True, False),
        (False, True),
    ]
    assert [("quarantine" in each, "all_clean" in each) for each in keys["etl_code"]] == [
        (True, False),
        (False, True),
    ]
