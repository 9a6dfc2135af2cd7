"""The elements of an array of args."""

from __future__ import annotations

import json

from hotpath.core.elements import _scanned, elements_of


def test_scanned_as_decoded():
    """Both ways find the same elements, whatever their texts hold."""
    args = [{}, {"a": [1, {"b": '],"\\'}], "é": "}"}, {"x": None, "y": [[], {}]}, {"z": "[" * 9}]
    for document in (json.dumps(args), json.dumps(args, ensure_ascii=False), '[{"x" : 1 } , {"y":[ ]}]'):
        raw = document.encode()
        assert [json.loads(each) for each in _scanned(raw)] == json.loads(raw)
        assert [bytes(each) for each in elements_of(raw)] == [each.strip() for each in _scanned(raw)]


def test_one_that_python_does_not_read():
    """Its neighbours are found nevertheless."""
    deep = b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert [bytes(each) for each in elements_of(b'[{"x": 1},' + deep + b",{}]")] == [b'{"x": 1}', deep, b"{}"]
