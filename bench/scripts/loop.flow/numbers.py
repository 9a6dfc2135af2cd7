"""What to loop over."""


def main(size: int) -> list[int]:
    """The numbers below `size`."""
    return list(range(size))
