"""The signature of `main` is the schema of its args: this module reads it.

Parameters become the fields of a msgspec struct, which decodes and validates a job's args in one pass, and a
JSON Schema, which travels with the version so that whoever enqueues can validate without importing the
script.

Defaults stay Python's: the very object in the signature is passed when the field is absent, mutable or not,
JSON or not.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import attrs
import msgspec
import msgspec.inspect

from hotpath.core.elements import elements_of
from hotpath.core.schema import explain
from hotpath.core.storable import encode_custom
from hotpath.errors import BadArgsError, ScriptError
from hotpath.model import Secret

STRUCT = "MainArgs"
_CUSTOM = (PurePath, Secret)
"""The types that `decode_custom` reads."""
_SECRET_KEY = object()
_PLAIN = (bool, int, float, str, bytes, type(None), enum.Enum)


def decode_custom(kind: Any, value: Any) -> Any:
    """msgspec's hook for the types it leaves to us: paths and secrets."""
    if isinstance(kind, type) and issubclass(kind, _CUSTOM) and isinstance(value, str):
        return kind(value)
    is_secret = isinstance(kind, type) and issubclass(kind, Secret)
    wanted = "str" if is_secret else getattr(kind, "__name__", kind)
    raise ValueError(f"Expected `{wanted}`, got `{type(value).__name__}`")


def is_async(main: Callable[..., Any]) -> bool:
    """Whether calling `main` gives a coroutine."""
    target: Any = main
    while isinstance(target, functools.partial):
        target = target.func
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(type(target).__call__)


@attrs.frozen
class Signature:
    """What `main` takes."""

    struct: type[msgspec.Struct]
    """One field per parameter, in order, keyword-only, unknown fields forbidden unless there is `**kwargs`.
    """
    keywords: bool
    """Whether `main` must be called with keywords (it has keyword-only parameters or `**kwargs`)."""
    extra: Any
    """Type of the values of `**kwargs`; `inspect.Parameter.empty` without `**kwargs`."""

    @property
    def takes_extra(self) -> bool:
        """Whether `main` has `**kwargs`."""
        return self.extra is not inspect.Parameter.empty

    def defaults(self) -> dict[str, Any]:
        """What args there are that nobody gives, as far as they have a JSON form."""
        found: dict[str, Any] = {}
        for field in msgspec.structs.fields(self.struct):
            with contextlib.suppress(Exception):  # a default is any object
                value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
                found[field.name] = msgspec.to_builtins(value, enc_hook=encode_custom, str_keys=True)
        return found


def read_signature(main: Callable[..., Any]) -> Signature:
    """Read the parameters of `main`.

    Raises `ScriptError` that names the parameter for what cannot be given by name from JSON: positional-only
    parameters, `*args`, and types that have no JSON form.
    """
    try:
        parameters = inspect.signature(main).parameters.values()
    except (TypeError, ValueError) as error:
        raise ScriptError(f"the signature of `main` cannot be read: {error}") from None
    scope = getattr(inspect.unwrap(main), "__globals__", {})
    fields: list[Any] = []
    keywords = False
    extra: Any = inspect.Parameter.empty
    for parameter in parameters:
        name = parameter.name
        if parameter.kind is parameter.POSITIONAL_ONLY:
            message = (
                f"parameter `{name}` of `main` is positional-only: args are given by name, remove the `/`"
            )
            raise ScriptError(message)
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ScriptError(f"`main` takes `*{name}`: args are given by name, use a list parameter instead")
        annotation = _annotation(parameter, scope)
        _check_type(name, annotation)
        if parameter.kind is parameter.VAR_KEYWORD:
            extra, keywords = annotation, True
            continue
        keywords = keywords or parameter.kind is parameter.KEYWORD_ONLY
        if parameter.default is parameter.empty:
            fields.append((name, annotation))
        elif isinstance(parameter.default, _PLAIN):
            fields.append((name, annotation, parameter.default))
        else:
            fields.append((name, annotation, msgspec.field(default_factory=_giver(parameter.default))))
    closed = extra is inspect.Parameter.empty
    try:
        struct = msgspec.defstruct(STRUCT, fields, kw_only=True, forbid_unknown_fields=closed)
    except (TypeError, ValueError) as error:
        raise ScriptError(f"`main` has parameters that cannot be read from JSON: {error}") from None
    return Signature(struct, keywords, extra)


def _giver(default: object) -> Callable[[], object]:
    """A factory of the one default object: Python shares a default between calls, so do we."""
    return lambda: default


def _annotation(parameter: inspect.Parameter, scope: dict[str, Any]) -> Any:
    """The parameter's type, with string annotations resolved; Any when it has none."""
    if parameter.annotation is parameter.empty:
        return Any

    def holder() -> None: ...

    holder.__annotations__ = {parameter.name: parameter.annotation}
    try:
        return typing.get_type_hints(holder, globalns=scope, include_extras=True)[parameter.name]
    except Exception as error:  # noqa: BLE001 - annotations are expressions: anything comes out
        message = (
            f"the type of parameter `{parameter.name}` cannot be resolved: {type(error).__name__}: {error}"
        )
        raise ScriptError(message) from None


def _check_type(name: str, annotation: Any) -> None:
    """Refuse what msgspec cannot read from JSON, naming the parameter."""
    try:
        custom = list(_custom_types(msgspec.inspect.type_info(annotation), set()))
        msgspec.json.Decoder(annotation, dec_hook=decode_custom)
    except Exception as error:  # noqa: BLE001 - whatever a foreign type's own hooks raise
        raise ScriptError(
            f"parameter `{name}` of `main` has a type that cannot be read from JSON: {error}"
        ) from None
    for kind in custom:
        if kind is _SECRET_KEY:
            raise ScriptError(f"parameter `{name}` of `main` has a `Secret` for a key: keys are shown")
        if not (isinstance(kind, type) and issubclass(kind, _CUSTOM)):
            shown = getattr(kind, "__qualname__", repr(kind))
            message = (
                f"parameter `{name}` of `main` has type `{shown}`, which has no JSON form: "
                "use a dataclass, an attrs class, a TypedDict or a plain type"
            )
            raise ScriptError(message)


def _custom_types(node: Any, seen: set[int]) -> typing.Iterator[Any]:
    """The types below this node of msgspec's description that msgspec leaves to `dec_hook`."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, msgspec.inspect.CustomType):
        yield node.cls
        return
    key = getattr(node, "key_type", None)
    if isinstance(key, msgspec.inspect.CustomType) and issubclass(key.cls, Secret):
        yield _SECRET_KEY
    if isinstance(node, list | tuple):
        for item in node:
            yield from _custom_types(item, seen)
    elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
        for field in node.__struct_fields__:
            yield from _custom_types(getattr(node, field), seen)


class ArgsDecoder:
    """Decodes a batch's args into calls of `main`; built once per script, used from one thread at a time."""

    def __init__(self, signature: Signature) -> None:
        self.keywords = signature.keywords
        """Whether a call is a dict of keywords rather than a tuple of positional arguments."""
        self._extra = signature.extra
        self._takes_extra = signature.takes_extra
        self._names = set(signature.struct.__struct_fields__)
        self._many = msgspec.json.Decoder(list[signature.struct], dec_hook=decode_custom)  # type: ignore[name-defined]
        self._one = msgspec.json.Decoder(signature.struct, dec_hook=decode_custom)

    def calls(self, raw: bytes) -> tuple[list[Any], dict[int, str]]:
        """The calls that a JSON array of args asks for, and what is wrong with those that cannot be made, by
        index.

        `BadArgsError` if it is no JSON array at all.
        """
        if not self._takes_extra:
            try:
                structs = self._many.decode(raw)
            except (msgspec.ValidationError, msgspec.DecodeError, ValueError, RecursionError):
                pass
            else:
                return [self._call(struct) for struct in structs], {}
        return self._one_by_one(raw)

    def _call(self, struct: msgspec.Struct) -> Any:
        return msgspec.structs.asdict(struct) if self.keywords else msgspec.structs.astuple(struct)

    def _one_by_one(self, raw: bytes) -> tuple[list[Any], dict[int, str]]:
        try:
            pieces = elements_of(raw)
        except (msgspec.DecodeError, ValueError) as error:
            raise BadArgsError(f"the args of a batch cannot be read: {error}") from None
        calls: list[Any] = []
        faults: dict[int, str] = {}
        for index, piece in enumerate(pieces):
            try:
                call = self._call(self._one.decode(piece))
                if self._takes_extra:
                    call.update(self._extras(piece))
            except (msgspec.ValidationError, msgspec.DecodeError, ValueError, RecursionError) as error:
                faults[index] = explain(error)
                call = None
            calls.append(call)
        return calls, faults

    def _extras(self, piece: msgspec.Raw) -> dict[str, Any]:
        """The fields of one job's args that `**kwargs` takes."""
        given: dict[str, Any] = msgspec.json.decode(piece)
        extra = {name: value for name, value in given.items() if name not in self._names}
        if self._extra is Any or not extra:
            return extra
        converted: dict[str, Any] = msgspec.convert(extra, dict[str, self._extra], dec_hook=decode_custom)  # type: ignore[name-defined]
        return converted
