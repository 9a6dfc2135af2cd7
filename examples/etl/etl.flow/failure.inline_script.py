"""Tells somebody that it went wrong."""


def main(step: str, message: str) -> None:
    print(f"the orders were not published: step {step}: {message}")  # in real life: a mail, a ticket
