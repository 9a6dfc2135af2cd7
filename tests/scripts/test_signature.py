"""From signatures as people write them to calls: defaults, wrappers, annotations in strings."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types

import pytest

from hotpath.core.schema import ArgsValidator
from hotpath.errors import BadArgsError, ScriptError
from hotpath.scripts.args_schema import args_schema
from hotpath.scripts.signature import ArgsDecoder, is_async, read_signature


def define(text: str):
    """The function `main` of a module with this text."""
    module = types.ModuleType("written")
    sys.modules["written"] = module  # dataclasses look it up
    exec(text, module.__dict__)  # as an import would
    return module.main


def call(main, raw: bytes):
    """What `main` returns for the first args of a JSON array."""
    decoder = ArgsDecoder(read_signature(main))
    calls, faults = decoder.calls(raw)
    assert faults == {}
    return main(**calls[0]) if decoder.keywords else main(*calls[0])


def test_defaults_are_the_very_objects():
    """A default is the object of the signature: mutable, without a JSON form, shared between calls as in
    Python.
    """
    shared = []
    marker = object()

    def main(items: list = shared, other=marker, text: str = "t"):
        return items is shared, other is marker, text

    assert call(main, b"[{}]") == (True, True, "t")
    properties = args_schema(read_signature(main))["properties"]
    assert properties["items"]["default"] == []
    assert "default" not in properties["other"]
    assert properties["text"] == {"type": "string", "default": "t"}


def test_string_annotations():
    """Annotations may be strings, of names that the module defines later."""
    main = define(
        "from __future__ import annotations\n"
        "def main(item: Item, n: 'int | None' = None): return item.x, n\n"
        "import dataclasses\n"
        "@dataclasses.dataclass\n"
        "class Item: x: int\n"
    )
    assert call(main, b'[{"item": {"x": 3}}]') == (3, None)


def decorate(function):
    """A decorator, as from a library."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return "wrapped", function(*args, **kwargs)

    return wrapper


def test_wrapped():
    """A decorated `main` has the signature of the function it wraps; a partial one asks for what is left."""

    @decorate
    def main(x: int):
        return x

    def two(x: int, y: int):
        return x, y

    assert call(main, b'[{"x": 1}]') == ("wrapped", 1)
    assert call(functools.partial(two, y=2), b'[{"x": 1}]') == (1, 2)


def test_wrapped_with_string_annotations():
    """String annotations of a decorated `main` mean names of its own module, not of the decorator's."""
    text = "import uuid\ndef main(key: 'uuid.UUID'): return type(key).__name__\n"
    key = b"0190a6f0-1234-7abc-8def-0123456789ab"
    assert call(decorate(define(text)), b'[{"key": "' + key + b'"}]') == ("wrapped", "UUID")


def test_classes_of_one_name():
    """Two classes of the same name stay two."""
    first = dataclasses.make_dataclass("Item", [("x", int)])
    second = dataclasses.make_dataclass("Item", [("x", str)])

    def main(a, b): ...

    main.__annotations__ = {"a": first, "b": second}
    validator = ArgsValidator(args_schema(read_signature(main)))
    validator.check_json(b'{"a": {"x": 1}, "b": {"x": "1"}}')
    with pytest.raises(BadArgsError, match=r"`b\.x`"):
        validator.check_json(b'{"a": {"x": 1}, "b": {"x": 1}}')


def test_callable_object():
    """An object with `__call__` is a `main` too."""

    class Main:
        async def __call__(self, x: int): ...

    assert is_async(Main())
    assert is_async(functools.partial(Main(), 1))
    assert args_schema(read_signature(Main()))["required"] == ["x"]


def test_order():
    """Positional calls follow the order of the parameters, whatever the order of the args."""
    assert call(lambda a, b, c=3: (a, b, c), b'[{"b": 2, "a": 1}]') == (1, 2, 3)


@pytest.mark.parametrize("name", ["type", "self", "cls", "default", "encode", "f0", "MainArgs"])
def test_names_of_parameters(name):
    """Any name may be a parameter's."""
    main = define(f"def main({name}: int, x: int = 2): return {name}, x")
    assert call(main, f'[{{"{name}": 1}}]'.encode()) == (1, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def main(a, /): ...", "`a` of `main` is positional-only"),
        ("def main(*rest): ...", "`*rest`"),
        ("class C: ...\ndef main(x: int, thing: C): ...", "`thing` of `main` has type `C`"),
        ("class C: ...\ndef main(**things: C): ...", "`things` of `main` has type `C`"),
        ("def main(x: 'Missing'): ...", "`x` cannot be resolved: NameError"),
        ("def main(x: '1 +'): ...", "`x` cannot be resolved: SyntaxError"),
        ("from typing import Callable\ndef main(x: Callable): ...", "`x`"),
        ("def main(x: 3): ...", "`x`"),
        ("main = print", "*args"),
        ("main = dict", "signature of `main` cannot be read"),
    ],
)
def test_signatures_refused(text, words):
    """What cannot be given by name from JSON is refused, and the parameter named."""
    with pytest.raises(ScriptError) as refused:
        read_signature(define(text))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_secrets():
    """A `Secret` says so in the schema, wherever it is; a default of one is not shown, and it is a text for
    `main`, that only its `repr` hides.
    """
    main = define(
        "import dataclasses, hotpath\n"
        "from hotpath import Secret\n"
        "class Token(Secret): ...\n"
        "@dataclasses.dataclass\n"
        "class Login: user: str; password: Secret = 'by-default'\n"
        "def main(key: Secret, other: Token | None = None, login: Login = Login('u'),\n"
        "         more: dict[str, Secret] = {}, default: Secret = 'by-default', plain: str = 'shown'):\n"
        "    return key, str(key), f'{key}', repr([key]), type(other), login.password, more, plain\n"
    )
    schema = args_schema(read_signature(main))
    marked = {"type": "string", "writeOnly": True, "format": "password"}
    properties = schema["properties"]
    assert properties["key"] == properties["default"] == marked
    assert properties["other"] == {"anyOf": [marked, {"type": "null"}]}
    assert properties["more"] == {"type": "object", "additionalProperties": marked}
    assert schema["$defs"]["Login"]["properties"]["password"] == marked
    assert "by-default" not in str(schema)
    assert properties["plain"]["default"] == "shown"
    raw = b'[{"key": "abc", "other": "def", "login": {"user": "u", "password": "pw"}, "more": {"a": "b"}}]'
    key, text, formatted, shown, kind, password, more, _ = call(main, raw)
    assert (key, text, formatted, password, more) == ("abc", "abc", "abc", "pw", {"a": "b"})
    assert shown == "[Secret('\u2022\u2022\u2022\u2022\u2022\u2022')]"
    assert kind.__name__ == "Token"
    assert type(text) is str


def test_secret_as_key():
    """A key of a map is shown, and so cannot be a secret."""
    main = define("import hotpath\ndef main(names: list[dict[hotpath.Secret, int]]): ...\n")
    with pytest.raises(ScriptError, match="parameter `names` of `main` has a `Secret` for a key"):
        read_signature(main)
