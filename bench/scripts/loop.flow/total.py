"""Whether every iteration gave what it was to give."""


def main(n: int, numbers: list[int]) -> list[int]:
    """`n`, and the sum of what came of the loop."""
    return [n, sum(numbers)]
