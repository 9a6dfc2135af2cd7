"""Each order once."""

from orders import merge


def main(files: list[str], parts: list[dict]) -> dict:
    return merge(files, parts)
