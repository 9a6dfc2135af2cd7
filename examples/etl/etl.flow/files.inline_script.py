"""Which files there are."""

from orders import list_files


def main(directory: str) -> list[str]:
    return list_files(directory)
