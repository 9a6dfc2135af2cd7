"""What is wrong, set aside."""

from orders import quarantine


def main(out: str, rejected: list[dict], unreadable: list[dict]) -> dict:
    return quarantine(out, rejected, unreadable)
