"""The orders in it, and what is none."""

from orders import check_rows


def main(file: str, rows: list[tuple[int, list[str]]]) -> dict:
    return check_rows(file, rows)
