"""The numbers, published."""

from orders import report


def main(out: str, merged: dict, aside: dict, loaded: dict, approval: dict | None) -> dict:
    return report(out, merged, aside, loaded, approval)
