"""One file, as text."""

from orders import read_file


def main(directory: str, name: str) -> dict:
    return read_file(directory, name)
