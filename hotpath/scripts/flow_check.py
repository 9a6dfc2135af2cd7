"""What a flow is for those who run it or enqueue runs of it: its scripts described, its calls checked."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec
import trio

from hotpath.core.flow.model import Static
from hotpath.core.flow.source import Fault, Syntax
from hotpath.core.placeholders import unknown_field
from hotpath.core.schema import ArgsValidator
from hotpath.errors import BadArgsError, ScriptError
from hotpath.model import Description, Settings
from hotpath.scripts.describe import describe_many
from hotpath.scripts.flow_file import CallSite, FileFault, FlowFaultsError, LoadedFlow, read_flow
from hotpath.scripts.flow_schema import args_schema_of
from hotpath.scripts.locate import Located
from hotpath.scripts.source import check_size


@attrs.frozen
class DescribedFlow:
    """A flow that can be run."""

    loaded: LoadedFlow
    description: Description
    """The flow's own."""
    steps: Mapping[str, Description]
    """Of the scripts that it and the flows it calls run, by name."""


async def describe_flow(located: Located) -> DescribedFlow:
    """Read a flow and all its scripts, these in a child process. Raises `FlowFaultsError` with all that is
    wrong.
    """
    loaded, faults = await trio.to_thread.run_sync(read_flow, located, _syntax())
    steps, more = await check_steps(loaded)
    if faults or more:
        raise FlowFaultsError(located, _in_order(located, *faults, *more))
    description = _description(loaded, tuple(steps.values()))
    return DescribedFlow(loaded, attrs.evolve(description, remarks=tuple(_remarks(loaded, steps))), steps)


def _syntax() -> Syntax:
    """Looks at JavaScript as those who run it read it; they are loaded when there is some."""
    found: list[Syntax] = []

    def fault_of(text: str) -> str | None:
        if not found:
            # By name, as workers find the runtime of flows: scripts are below it.
            found.append(importlib.import_module("hotpath.flows.javascript").JavaScript().fault_of)
        return found[0](text)

    return fault_of


async def check_flow(located: Located, syntax: Syntax | None = None) -> tuple[FileFault, ...]:
    """Everything that is wrong with a flow, its scripts and the flows it calls; with `syntax`, with its
    JavaScript too.
    """
    loaded, faults = await trio.to_thread.run_sync(read_flow, located, syntax)
    _, more = await check_steps(loaded)
    return _in_order(located, *faults, *more)


def _in_order(located: Located, *faults: FileFault) -> tuple[FileFault, ...]:
    """The flow's own file first, each file from its beginning."""
    return tuple(
        sorted(faults, key=lambda each: (each.file != located.file, str(each.file), each.fault.line))
    )


async def check_steps(loaded: LoadedFlow) -> tuple[dict[str, Description], tuple[FileFault, ...]]:
    """The flow's scripts, described, and what is wrong with them and with how they are called."""
    found = await describe_many(list(loaded.steps.values()))
    described: dict[str, Description] = {}
    wrong: dict[str, ScriptError] = {}
    for name, each in zip(loaded.steps, found, strict=True):
        if isinstance(each, ScriptError):
            wrong[name] = each
        else:
            described[name] = each
    faults: list[FileFault] = []
    if loaded.flow.tag and (bad := unknown_field(loaded.flow.tag, _schema(loaded))) is not None:
        faults.append(FileFault(loaded.located.file, Fault(0, None, f"`tag`: {bad}")))
    for site in loaded.calls:
        if (error := wrong.get(site.call.script)) is not None:
            faults.append(site.fault(" ".join(str(error).split())))
        elif (description := described.get(site.call.script)) is not None:
            if description.kind == "flow":
                message = f"{site.call.script} is a flow written as code: a flow cannot have it for a step"
                faults.append(site.fault(message))
            faults += _check_call(site, description.schema)
    return described, tuple(faults)


def _check_call(site: CallSite, schema: Mapping[str, Any]) -> Iterator[FileFault]:
    """Inputs that the script's `main` does not take, or not with this value, and those that it needs."""
    if site.call.tag and (wrong := unknown_field(site.call.tag, schema)) is not None:
        yield site.fault(f"`{'tag' if site.call.inline else 'tag_override'}`: {wrong}")
    parameters = schema.get("properties", {})
    given = dict(site.call.inputs)
    gets_args = site.step == "preprocessor" and not given  # the run's own, whatever they are
    for name in schema.get("required", ()):
        # What is wrong as it stands has been said already: it is among the lines, but no input.
        if name not in given and name not in site.inputs and not gets_args:
            yield site.fault(f"its script's `main` needs `{name}`: give it in `input_transforms`")
    for name, transform in given.items():
        if name not in parameters and schema.get("additionalProperties", True) is False:
            known = ", ".join(parameters) or "none"
            yield site.fault(f"its script's `main` has no parameter `{name}`; it has {known}", name)
        elif isinstance(transform, Static) and name in parameters:
            only = {**schema, "properties": {name: parameters[name]}, "required": []}
            try:
                ArgsValidator(only).encode({name: msgspec.json.decode(transform.raw)})
            except BadArgsError as error:
                yield site.fault(f"input {str(error).removeprefix('field ')}", name)


def _remarks(loaded: LoadedFlow, steps: Mapping[str, Description]) -> Iterator[str]:
    """Settings of the scripts of steps that are not heeded there."""
    here = {site.call.script for site in loaded.calls if site.call.tag is None}
    for name, description in steps.items():
        settings = description.settings
        for setting in ("unique", "debounce"):
            if getattr(settings, setting) is not None:
                yield f"`{setting}` of {name} is not heeded where it is a step: each run has its own"
        if settings.limit is not None and settings.tag is None and name in here:
            yield (
                f"`limit` of {name} is not heeded where it is a step without a tag, which runs within its "
                "run: give the step a tag"
            )


def _schema(loaded: LoadedFlow) -> dict[str, Any]:
    return args_schema_of(loaded.flow.schema, has_preprocessor=loaded.flow.preprocessor is not None)


def _description(loaded: LoadedFlow, steps: tuple[Description, ...]) -> Description:
    flow = loaded.flow
    check_size(loaded.located.name, sum(len(content) for _, content in loaded.files))
    schema = _schema(loaded)
    return Description(
        path=loaded.located.name,
        hash=loaded.hash,
        is_async=True,
        schema=schema,
        settings=Settings(tag=flow.tag, priority=flow.priority, timeout=flow.timeout),
        summary=flow.summary.strip().partition("\n")[0][:500],
        kind="flow",
        steps=steps,
        files=loaded.files,
    )
