"""Does nothing: what is left is what a job costs. The result says which job it was, so that it can be checked."""


def main(n: int) -> int:
    """Give back `n`."""
    return n
