"""Into the database."""

from orders import load

import hotpath


def main(out: str, orders: list[dict], flaky: int = 0) -> dict:
    attempt = hotpath.current_job().attempt
    return load(out, orders, locked=attempt <= flaky)
