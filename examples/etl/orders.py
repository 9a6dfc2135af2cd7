"""What is done with the orders that a shop's branches send, as plain functions.

Both flows beside this file run them: `etl.flow` as a file, `etl_code.py` as code. Nothing here knows of
either, so that all of it can be called and tested by itself.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

COLUMNS = ["order_id", "ordered_on", "customer", "country", "currency", "quantity", "unit_price"]
RATES = {"EUR": "1", "USD": "0.92", "GBP": "1.17", "CHF": "1.04", "PLN": "0.23"}
"""Euros for one of each."""
MOST = 1000
"""Pieces in one order; what is more is a mistake."""


def list_files(directory: str) -> list[str]:
    """Names of the CSV files in a directory, sorted. Raises FileNotFoundError if there is none."""
    found = sorted(file.name for file in Path(directory).glob("*.csv"))
    if not found:
        raise FileNotFoundError(f"no CSV file in {directory}")
    print(f"{len(found)} files in {directory}")
    return found


def read_file(directory: str, name: str) -> dict[str, Any]:
    """The lines of one file as lists of text. Raises ValueError for a file that holds no orders at all."""
    raw = Path(directory, name).read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
        print(f"{name} is no UTF-8; read as Latin-1")
    reader = csv.reader(io.StringIO(text, newline=""))
    head = next(reader, None)
    if head is None:
        raise ValueError(f"{name} is empty")
    if head != COLUMNS:
        raise ValueError(f"{name} has the columns {', '.join(head)}; expected {', '.join(COLUMNS)}")
    return {"file": name, "rows": [[reader.line_num, row] for row in reader if row]}


def check_rows(file: str, rows: list[tuple[int, list[str]]]) -> dict[str, Any]:
    """The orders among the rows of a file, in euro cents, and the rows that are none, with the reason."""
    orders, rejected = [], []
    for line, row in rows:
        try:
            orders.append(_order(row))
        except ValueError as error:
            rejected.append({"file": file, "line": line, "reason": str(error), "row": row})
    print(f"{file}: {len(orders)} orders, {len(rejected)} rows rejected")
    return {"file": file, "orders": orders, "rejected": rejected}


def _order(row: list[str]) -> dict[str, Any]:
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} fields instead of {len(COLUMNS)}")
    order_id, day, customer, country, currency, quantity, price = (field.strip() for field in row)
    if not order_id:
        raise ValueError("no order_id")
    if not customer:
        raise ValueError("no customer")
    try:
        dt.date.fromisoformat(day)
    except ValueError:
        raise ValueError(f"ordered_on is no date: {day}") from None
    rate = RATES.get(currency.upper())
    if rate is None:
        raise ValueError(f"no rate for the currency {currency}")
    if not (quantity.isdecimal() and 1 <= int(quantity) <= MOST):
        raise ValueError(f"quantity is no number from 1 to {MOST}: {quantity}")
    try:
        amount = Decimal(price)
    except InvalidOperation:
        raise ValueError(f"unit_price is no number: {price}") from None
    if not (amount.is_finite() and amount > 0):
        raise ValueError(f"unit_price is not above 0: {price}")
    cents = (amount * int(quantity) * Decimal(rate) * 100).to_integral_value()
    return {"id": order_id, "day": day, "customer": customer, "country": country, "cents": int(cents)}


def merge(files: list[str], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """All orders of all files, each id once: where two rows have the same one, the first counts.

    A part that is `{"error": ...}` is a file that could not be read.
    """
    orders: dict[str, dict[str, Any]] = {}
    rejected, unreadable, duplicates = [], [], 0
    for name, part in zip(files, parts, strict=True):
        if "error" in part:
            unreadable.append({"file": name, "reason": part["error"]["message"]})
            continue
        rejected += part["rejected"]
        for order in part["orders"]:
            duplicates += order["id"] in orders
            orders.setdefault(order["id"], order)
    print(f"{len(orders)} orders; {duplicates} rows have an id that was there before")
    return {
        "files": len(files),
        "orders": list(orders.values()),
        "duplicates": duplicates,
        "rejected": rejected,
        "unreadable": unreadable,
        "cents": sum(order["cents"] for order in orders.values()),
    }


def quarantine(out: str, rejected: list[dict[str, Any]], unreadable: list[dict[str, Any]]) -> dict[str, Any]:
    """Write down what was set aside, for somebody to look at."""
    Path(out).mkdir(parents=True, exist_ok=True)
    file = Path(out, "quarantine.json")
    found = {"unreadable": unreadable, "rejected": rejected}
    file.write_text(json.dumps(found, ensure_ascii=False, indent=1))
    print(f"set aside: {len(rejected)} rows and {len(unreadable)} files, see {file}")
    return {"rows": len(rejected), "files": [each["file"] for each in unreadable]}


def all_clean() -> dict[str, Any]:
    """Nothing was set aside."""
    return {"rows": 0, "files": []}


def load(out: str, orders: list[dict[str, Any]], *, locked: bool = False) -> dict[str, Any]:
    """Put the orders into `orders.db`; one that is there already is replaced, so doing it twice is no harm.

    `locked`: have somebody else hold the database meanwhile, to see what happens then. Raises
    sqlite3.OperationalError.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    file = Path(out, "orders.db")
    with closing(sqlite3.connect(file)) as other, closing(sqlite3.connect(file, timeout=0)) as db:
        if locked:
            other.execute("begin exclusive")
        with db:  # one transaction
            db.execute(
                "create table if not exists orders"
                " (id text primary key, day text, customer text, country text, cents integer)"
            )
            db.executemany(
                "insert into orders values (:id, :day, :customer, :country, :cents)"
                " on conflict (id) do update set day = excluded.day, customer = excluded.customer,"
                " country = excluded.country, cents = excluded.cents",
                orders,
            )
        (stored,) = db.execute("select count(*) from orders").fetchone()
    print(f"{len(orders)} orders loaded, {stored} in {file}")
    return {"loaded": len(orders), "stored": stored}


def report(
    out: str,
    merged: dict[str, Any],
    aside: dict[str, Any],
    loaded: dict[str, Any],
    approval: dict[str, Any] | None,
) -> dict[str, Any]:
    """Publish the numbers as `report.json`, and return them. `approval`: what somebody said who was asked."""
    by_country: Counter[str] = Counter()
    for order in merged["orders"]:
        by_country[order["country"]] += order["cents"]
    numbers = {
        "files": merged["files"],
        "orders": len(merged["orders"]),
        "duplicates": merged["duplicates"],
        "rows_set_aside": aside["rows"],
        "files_set_aside": aside["files"],
        "stored": loaded["stored"],
        "total_eur": _euros(merged["cents"]),
        "by_country_eur": {name: _euros(cents) for name, cents in sorted(by_country.items())},
        "approved_by": approval and approval["name"],
    }
    Path(out, "report.json").write_text(json.dumps(numbers, ensure_ascii=False, indent=1))
    return numbers


def _euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"
