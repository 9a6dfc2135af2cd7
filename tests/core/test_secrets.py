"""Where args hold secrets, and texts without them."""

from __future__ import annotations

import base64
import itertools
import json
import urllib.parse

import hypothesis
import pytest
from hypothesis import strategies as st

from hotpath.core.secrets import MaskedStream, Masker, Places, places_of
from hotpath.model import MASK

PASSWORD = {"type": "string", "writeOnly": True, "format": "password"}
SCHEMA = {
    "type": "object",
    "properties": {
        "key": PASSWORD,
        "maybe": {"anyOf": [PASSWORD, {"type": "null"}]},
        "plain": {"type": "string"},
        "keys": {"type": "array", "items": PASSWORD},
        "pair": {"type": "array", "prefixItems": [{"type": "string"}, PASSWORD], "items": False},
        "by_name": {"type": "object", "additionalProperties": PASSWORD},
        "tree": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]},
    },
    "$defs": {
        "Tree": {
            "type": "object",
            "properties": {
                "token": PASSWORD,
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
            },
        }
    },
}


def test_places():
    """A secret is found wherever the schema can say it: in lists, rows, maps, and classes that hold
    themselves; all else stays as it is.
    """
    args = {
        "key": "aaaa",
        "maybe": None,
        "plain": "p",
        "keys": ["bbbb", "cccc"],
        "pair": ["x", "dddd"],
        "by_name": {"k": "eeee"},
        "tree": {"token": "ffff", "name": "n", "children": [{"token": "gggg", "children": []}]},
    }
    places = Places(SCHEMA)
    assert sorted(places.texts(args)) == [c * 4 for c in "abcdefg"]
    assert places.mask(args) == {
        "key": MASK,
        "maybe": None,
        "plain": "p",
        "keys": [MASK, MASK],
        "pair": ["x", MASK],
        "by_name": {"k": MASK},
        "tree": {"token": MASK, "name": "n", "children": [{"token": MASK, "children": []}]},
    }
    assert places_of({"type": "object", "properties": {"plain": {"type": "string"}}}) is None


@pytest.mark.parametrize("wrong", [1234, ["deep", {"er": "value"}], {"a": "value"}, True])
def test_in_doubt(wrong):
    """What stands in a secret's place is masked though it is not what should be there."""
    places = Places(SCHEMA)
    assert places.mask({"key": wrong, "tree": "value"}) == {"key": MASK, "tree": "value"}
    assert places.mask({"keys": "value"}) == {
        "keys": "value"
    }  # that place is a list's, and no schema had other
    assert places.mask({"keys": {"a": 1}}) == {"keys": MASK}


SECRET = 'hunter2/"ü\\" and\nmore'


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        repr([SECRET]),
        urllib.parse.quote(SECRET),
        urllib.parse.urlencode({"key": SECRET}),
        SECRET.encode().hex(),
        *(base64.b64encode(f"{before}:{SECRET}:x".encode()).decode() for before in ("", "u", "us", "use")),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        f"  {SECRET.splitlines()[0]}  ",
    ],
)
def test_forms(written):
    """A secret is found as others write it, and nothing but it is taken."""
    masked = Masker([SECRET]).text(f"before {written} after")
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert MASK in masked
    assert "hunter2" not in masked
    assert base64.b64encode(b"hunter2")[3:9].decode() not in masked


def test_short_secrets():
    """A text of less than four characters is not looked for: it is in every other word."""
    masker = Masker(["abc", ""])
    assert not masker
    assert masker.text("abc") == "abc"
    assert Masker(["abcd"]).text("xabcdx") == f"x{MASK}x"


def test_json_stays_json():
    """Only texts of a document are masked, keys included, and a number that is the secret; the rest is byte
    for byte the same.
    """
    masker = Masker(["1234", "null", "true"])
    raw = b'{"a":[1234,12345,1.0,null,true,"is 1234","nothing"],"null":{"b":-1234}}'
    mask = MASK.encode()
    assert masker.json(raw) == (
        b'{"a":["%s",12345,1.0,null,true,"is %s","nothing"],"%s":{"b":-1234}}' % (mask, mask, mask)
    )
    assert Masker(["exception"]).error({"message": "an exception", "kind": "exception"}) == {
        "message": f"an {MASK}",
        "kind": "exception",
    }


@hypothesis.given(
    secrets=st.lists(st.text(st.characters(codec="utf-8"), min_size=4, max_size=8), min_size=1, max_size=2),
    parts=st.lists(st.text("ab \n", max_size=3), max_size=4),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_pieces(secrets, parts, cuts):
    """However a text is cut into writes, no secret comes out of it, and nothing else is lost."""
    secrets = [secret for secret in secrets if "\N{BULLET}" not in secret]
    text = "".join(f"{part}{secret}" for part in parts for secret in secrets)
    masker = Masker(secrets)
    stream = MaskedStream(masker)
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    shown = "".join(stream.feed(text[a:b]) for a, b in itertools.pairwise(edges)) + stream.rest()
    if len(secrets) == 1:
        assert secrets[0] not in shown
        assert shown == masker.text(text)


def test_a_secret_that_begins_a_longer_one():
    """A secret that is the beginning of another waits to see which of them it is: nothing of the longer one
    comes out behind the shorter one's mask.
    """
    for secrets in (["hunter2", "hunter2-and-more"], ["hunter2\x0b"]):
        longest = secrets[-1]
        for cut in range(1, len(longest)):
            stream = MaskedStream(Masker(secrets))
            assert stream.feed(longest[:cut]) + stream.feed(longest[cut:]) + stream.rest() == MASK
    stream = MaskedStream(Masker(["hunter2", "hunter2-and-more"]))
    assert stream.feed("hunter2") == ""
    assert stream.feed(" it is") + stream.rest() == f"{MASK} it is"
    assert (stream.feed("hunter2"), stream.rest()) == ("", MASK)


def test_beginnings_wait():
    """What may be the beginning of a secret waits for the next write, and comes at the end if none does."""
    stream = MaskedStream(Masker(["hunter2"]))
    assert [stream.feed(piece) for piece in ("say hun", "t", "er2, ", "hunt", "s\n", "hu")] == [
        "say ", "", f"{MASK}, ", "", "hunts\n", "",
    ]  # fmt: skip
    assert stream.rest() == "hu"
    assert stream.rest() == ""
