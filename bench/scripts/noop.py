"""Does nothing: what is left is what a job costs. The result says which job it was, for the check."""


def main(n: int) -> int:
    """Give back `n`."""
    return n
