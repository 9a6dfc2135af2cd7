"""What the page's forms, which are made of the schemas of what the API takes, need to know of a field."""

from __future__ import annotations

from typing import Literal

from msgspec import Meta

Format = Literal["line", "lines", "local", "pairs", "rate", "size", "span", "text"]
"""How a field is written in a form: as one line, as one value a line, as a time of the reader's, as
NAME=value a line, as 10/60s, as 20G, as 10m, as a text.
"""


def hint(description: str, *, format: Format | None = None, minimum: int | None = None) -> Meta:
    """A field's description, with words of JSON Schema for forms alone: nothing is checked by them."""
    words = {"format": format, "minimum": minimum}
    return Meta(
        description=description,
        extra_json_schema={name: word for name, word in words.items() if word is not None},
    )
