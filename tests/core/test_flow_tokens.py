"""Tokens that approve a step."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotpath.core.flow.tokens import (
    MAX_KEY_BYTES,
    NONCE_BYTES,
    ExpiredTokenError,
    ForgedTokenError,
    NotATokenError,
    Token,
    make_nonce,
    make_token,
    read_token,
    steady_nonce,
)

SECRET = bytes(range(32))
RUN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
NONCE = b"n" * NONCE_BYTES
EXPIRES = 1_700_000_000_000_000


@given(
    run=st.uuids(),
    key=st.text(min_size=1, max_size=200).filter(lambda key: key.isprintable()),
    nonce=st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES),
    expires_us=st.integers(1, 2**63 - 1),
    approver=st.sampled_from(["", "ann", "Zoë"]),
)
def test_says_what_was_put_in(run: UUID, key: str, nonce: bytes, expires_us: int, approver: str) -> None:
    """A token is text for a URL that says run, key, nonce, approver and when it expires, as given."""
    token = make_token(SECRET, run, key, nonce, expires_us, approver)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert read_token(SECRET, token, expires_us - 1) == Token(run, key, nonce, expires_us, approver)


def test_longest() -> None:
    """A key of the greatest length is read again."""
    token = make_token(SECRET, RUN, "k" * MAX_KEY_BYTES, NONCE, EXPIRES)
    assert read_token(SECRET, token, 0).key == "k" * MAX_KEY_BYTES


def test_steady_nonce() -> None:
    """A steady nonce is the same each time, and another one for another run, step, approver or secret."""
    nonce = steady_nonce(SECRET, RUN, "a", "ann")
    assert len(nonce) == NONCE_BYTES
    assert steady_nonce(SECRET, RUN, "a", "ann") == nonce
    others = {
        steady_nonce(SECRET, UUID(int=1), "a", "ann"),
        steady_nonce(SECRET, RUN, "b", "ann"),
        steady_nonce(SECRET, RUN, "a", "bob"),
        steady_nonce(bytes(32), RUN, "a", "ann"),
    }
    assert len(others | {nonce}) == 5


def test_every_bit_counts() -> None:
    """A token with any one bit changed is refused."""
    token = make_token(SECRET, RUN, "l[3]/b", NONCE, EXPIRES)
    raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        text = urlsafe_b64encode(changed).rstrip(b"=").decode()
        with pytest.raises((ForgedTokenError, NotATokenError)):
            read_token(SECRET, text, 0)


def test_one_spelling() -> None:
    """Changing any one character of a token makes it worthless: no two texts are the same token."""
    token = make_token(SECRET, RUN, "abc", NONCE, EXPIRES)
    assert len(token) % 4, "this one has bits to spare"
    for place, was in enumerate(token):
        for other in "AQgw_-z9":
            if other != was:
                with pytest.raises((ForgedTokenError, NotATokenError)):
                    read_token(SECRET, token[:place] + other + token[place + 1 :], 0)


def test_other_secret() -> None:
    """Another database's token is forged."""
    token = make_token(bytes(32), RUN, "a", NONCE, EXPIRES)
    with pytest.raises(ForgedTokenError, match="forged"):
        read_token(SECRET, token, 0)


def test_expires() -> None:
    """A token is good until the microsecond it expires at."""
    token = make_token(SECRET, RUN, "a", NONCE, EXPIRES)
    assert read_token(SECRET, token, EXPIRES - 1).key == "a"
    with pytest.raises(ExpiredTokenError, match="expired"):
        read_token(SECRET, token, EXPIRES)


@pytest.mark.parametrize(
    "text", ["", "x", "xxxx", "ä" * 100, "A" * 100, "A" * 1_000_000, "=" * 80, "a b", "\0"]
)
def test_no_token(text: str) -> None:
    """What is no token at all is said to be none, however long it is."""
    with pytest.raises(NotATokenError, match="not a resume token"):
        read_token(SECRET, text, 0)


def test_part_of_one() -> None:
    """Any beginning of a token is refused."""
    token = make_token(SECRET, RUN, "a", NONCE, EXPIRES)
    for length in range(len(token)):
        with pytest.raises((ForgedTokenError, NotATokenError)):
            read_token(SECRET, token[:length], 0)


def test_blanks_around() -> None:
    """A line end that was copied along does not matter."""
    token = make_token(SECRET, RUN, "a", NONCE, EXPIRES)
    assert read_token(SECRET, f" {token}\n", 0).run == RUN


def test_refuses_to_make() -> None:
    """Neither a weak secret, nor a wrong nonce, nor an endless key makes a token."""
    for secret, key, nonce, expires in [
        (b"", "a", NONCE, EXPIRES),
        (SECRET, "", NONCE, EXPIRES),
        (SECRET, "a\0b", NONCE, EXPIRES),
        (SECRET, "k" * (MAX_KEY_BYTES + 1), NONCE, EXPIRES),
        (SECRET, "a", b"", EXPIRES),
        (SECRET, "a", NONCE, -1),
    ]:
        with pytest.raises(ValueError, match=r"."):
            make_token(secret, RUN, key, nonce, expires)
    assert make_nonce() != make_nonce()
