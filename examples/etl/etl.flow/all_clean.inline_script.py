"""Nothing was wrong."""

from orders import all_clean


def main() -> dict:
    return all_clean()
