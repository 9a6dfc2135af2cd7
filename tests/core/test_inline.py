"""What scripts say of their own dependencies, as PEP 723 has it."""

from __future__ import annotations

import pytest

from hotpath.core.inline import Inline, fault_of_python, read_inline, together
from hotpath.errors import ScriptError

SOURCE = b'''"""Doc."""
# /// other
# x = 1
# ///

# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "b[extra]>=1; python_version > '3'",
#   "a @ https://example.org/a.whl",
#
# ]
# ///
import a
'''


def test_a_block_is_read():
    """Dependencies sorted; other blocks, and what only looks like one, are left alone."""
    wanted = Inline(("a @ https://example.org/a.whl", "b[extra]>=1; python_version > '3'"), (">=3.11",))
    assert read_inline(SOURCE, "x") == wanted
    assert read_inline(SOURCE.replace(b"\n", b"\r\n"), "x") == wanted
    assert read_inline(b"def main(): ...\n", "x") is None
    assert read_inline(b"text = '# /// script'\n", "x") is None
    assert together([None, Inline(("b", "a")), Inline(("a",), (">3",))]) == Inline(("a", "b"), (">3",))
    assert together([None]) is None


@pytest.mark.parametrize(
    ("requires", "fits"),
    [
        (">=3.11", True), (">=3.11.7", True), (">=3.12", False), ("<3.12,>=3.8", True), ("==3.11.*", True),
        ("==3.11", False), ("!=3.11.*", False), ("~=3.10", True), ("~=3.11.2", True), ("~=3.10.1", False),
        (">3", True), ("<=3.11.7", True), ("", True),
    ],
)  # fmt: skip
def test_a_python_fits_or_not(requires: str, fits: bool):
    """As PEP 440 compares versions."""
    assert (fault_of_python(requires, (3, 11, 7), "x") is None) is fits


def test_a_version_that_is_none_is_refused():
    """It is named."""
    with pytest.raises(ScriptError, match="x: `requires-python` must be like"):
        fault_of_python("three", (3, 11), "x")
