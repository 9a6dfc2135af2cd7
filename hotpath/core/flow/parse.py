"""From what a flow's file says to a `Flow`, with everything that is wrong with it at once.

Nothing is read here: the file has become plain data, and what lies around the flow (scripts, inline files,
other flows) is asked for. A step that is wrong takes its place as a step that does nothing, so that what
refers to it is not wrong too; a flow with faults is not to be run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from hotpath.core.flow.keys import FAILURE, PREPROCESSOR
from hotpath.core.flow.kinds import (
    EDITOR,
    ID,
    MAX_DEPTH,
    MAX_ID,
    MAX_MODULES,
    REFUSED_STEP,
    Around,
    Tally,
    TooLargeError,
    ValueReader,
    read_tag,
)
from hotpath.core.flow.model import (
    BranchAll,
    Call,
    Durability,
    Flow,
    ForLoop,
    Identity,
    Module,
    Static,
    WhileLoop,
)
from hotpath.core.flow.options import (
    MAX_SECONDS,
    is_duration,
    is_seconds,
    read_condition,
    read_expression,
    read_retry,
    read_static,
    read_stop,
    read_suspend,
    read_transform,
)
from hotpath.core.flow.paths import Path
from hotpath.core.flow.scope import check_references
from hotpath.core.flow.source import Fault, Fields, Lines, Reading, Syntax, kind_of

RESERVED = frozenset({FAILURE, PREPROCESSOR})
_WORD = re.compile(r"\A\s*[A-Za-z_][A-Za-z0-9_-]*\s*\Z", re.ASCII)
_EDITOR_FLOW = EDITOR | {
    "same_worker", "chat_input_enabled", "ws_error_handler_muted", "visible_to_runner_only",
    "on_behalf_of_email", "dedicated_worker", "path", "edited_by", "edited_at", "archived", "extra_perms",
    "draft_only", "has_draft", "starred", "lock_error_logs", "version_id", "deployment_message",
}  # fmt: skip
_REFUSED_FLOW = {
    "concurrency_key": "; `concurrent_limit` counts runs of the flow",
    "concurrency_time_window_s": "; `concurrent_limit` counts runs at the same time",
    "debounce_delay_s": "",
    "debounce_key": "",
}


@attrs.frozen
class Parsed:
    """A flow as its file says it, and what is wrong with it."""

    flow: Flow
    """Not to be run if there are faults."""
    faults: tuple[Fault, ...]
    """In order of line."""
    modules: int
    depth: int
    inputs: Mapping[tuple[str, str], int]
    """Line of each input, by step and name."""


def parse_flow(data: object, lines: Lines, path: str, around: Around, syntax: Syntax | None = None) -> Parsed:
    """Read a flow from plain data. `path` is its name, which its inline scripts' names begin with. With
    `syntax`, expressions that are no plain paths are checked by it.
    """
    reader = _Reader(Reading(lines, syntax), path, around)
    tally = reader.tally
    try:
        flow = reader.flow(data)
    except TooLargeError:
        line = lines.of(data)
        fault = Fault(line, None, f"has more than {MAX_MODULES:,} modules, sub-flows included")
        return Parsed(Flow(path, ()), (fault,), tally.modules, tally.depth, {})
    check_references(flow, reader.reading)
    faults = sorted(dict.fromkeys(reader.reading.faults), key=lambda fault: fault.line)
    return Parsed(flow, tuple(faults), tally.modules, tally.depth, tally.inputs)


class _Reader:
    """Reads one flow."""

    def __init__(self, reading: Reading, path: str, around: Around) -> None:
        self.reading = reading
        self.tally = Tally()
        self._path = path
        self._values = ValueReader(self.reading, path, around, self.tally, self._sequence)
        self._ids: dict[str, int] = {}

    def flow(self, data: object) -> Flow:
        """The whole document."""
        top = Fields(self.reading, data, None)
        if not isinstance(data, dict):
            self.reading.faults.clear()
            self.reading.fault(
                None, 1, f"a flow is a mapping with `value` and `modules` in it, not {kind_of(data)}"
            )
            return Flow(self._path, ())
        value = top.inner("value")
        if value is None:
            top.fault("value", "is missing: the flow's steps are in `value.modules`")
            value = Fields(self.reading, {}, None, name="value", line=top.own_line)
        if "modules" not in value.given and isinstance(top.given.get("value"), dict):
            value.fault("modules", "is missing: it is the list of the flow's steps")
        listed = value.list("modules")
        if value.given.get("modules") == []:
            value.fault("modules", "is empty: a flow has at least one step")
        preprocessor = self._special(value, "preprocessor_module")
        if preprocessor is not None and not isinstance(preprocessor.value, Call | Identity):
            value.fault("preprocessor_module", "must be a `rawscript` or a `script`")
        modules = self._sequence(listed, value, "modules", 1)
        flow = Flow(
            path=self._path,
            modules=modules,
            summary=top.text("summary") or "",
            schema=self._schema(top),
            failure=self._special(value, "failure_module"),
            preprocessor=preprocessor,
            skip=read_expression(value, "skip_expr"),
            early_return=self._early_return(value, modules),
            env=self._env(value),
            concurrent_limit=value.integer("concurrent_limit", low=1, high=1_000_000) or None,
            priority=self._either(value, top, "priority").integer("priority", low=-32768),
            tag=read_tag(self._either(value, top, "tag")),
            cache_ttl=self._either(value, top, "cache_ttl").number("cache_ttl", high=MAX_SECONDS),
            timeout=self._either(value, top, "timeout").number("timeout", 0, high=MAX_SECONDS, above=True)
            or None,
        )
        value.close(_EDITOR_FLOW, _REFUSED_FLOW)
        top.close(_EDITOR_FLOW, _REFUSED_FLOW)
        return flow

    def _either(self, value: Fields, top: Fields, key: str) -> Fields:
        """Windmill has some options of a flow beside its value; within it they win."""
        top.get(key)
        value.get(key)
        return value if value.given.get(key) is not None else top

    def _schema(self, top: Fields) -> dict[str, Any]:
        schema = top.mapping("schema")
        if schema and read_static(self.reading, None, top.line("schema"), "`schema`", schema) is None:
            return {}
        return schema

    def _env(self, value: Fields) -> dict[str, Any]:
        env = value.mapping("flow_env")
        if env and read_static(self.reading, None, value.line("flow_env"), "`flow_env`", env) is None:
            return {}
        return env

    def _early_return(self, value: Fields, modules: tuple[Module, ...]) -> Any:
        """An expression, or the id of a step, whose result it is then."""
        found = read_expression(value, "early_return")
        if found is None or not _WORD.match(found.text):
            return found
        name = found.text.strip()
        if any(module.id == name for module in modules):
            return attrs.evolve(found, text=f'results["{name}"]', path=Path("results", (name,)))
        if name not in {"flow_input", "results", "previous_result", "flow_env", "null", "undefined"}:
            value.fault("early_return", f"names {name}, which is no step of the flow's own sequence")
        return found

    def _special(self, value: Fields, key: str) -> Module | None:
        """`failure_module` or `preprocessor_module`, whose ids are fixed."""
        given = value.get(key)
        if given is None:
            return None
        name = key.removesuffix("_module")
        return self._module(given, name, value.line(key), 1, fixed=name)

    def _sequence(self, given: list[Any], fields: Fields, key: str, depth: int) -> tuple[Module, ...]:
        """The modules of a list."""
        prefix = f"{fields.step}." if fields.step else ""
        return tuple(
            self._module(
                each, f"{prefix}{key}[{at}]", self.reading.lines.of(given, at) or fields.line(key), depth
            )
            for at, each in enumerate(given)
        )

    def _module(self, given: object, place: str, line: int, depth: int, fixed: str | None = None) -> Module:
        """One module. `place` names it as long as its id is not known."""
        self.tally.add(1, depth)
        if not isinstance(given, dict):
            self.reading.fault(
                place, line, f"a step is a mapping with `id` and `value`, not {kind_of(given)}"
            )
            return Module(place, Identity(), line=line)
        fields = Fields(self.reading, given, place, line=line)
        line = fields.own_line
        fields.step = name = self._id(fields, place, fixed)
        if depth > MAX_DEPTH:
            self.reading.fault(
                name, line, f"lies {depth} deep in other steps; at most {MAX_DEPTH} are allowed"
            )
            return Module(name, Identity(), line=line)
        module = Module(
            id=name,
            value=self._values.read(fields, depth),
            summary=fields.text("summary") or "",
            line=line,
            stop=read_stop(fields, "stop_after_if"),
            stop_all=read_stop(fields, "stop_after_all_iters_if"),
            skip=read_condition(fields, "skip_if"),
            sleep=read_transform(fields, "sleep", is_seconds),
            timeout=read_transform(fields, "timeout", is_duration),
            retry=read_retry(fields),
            continue_on_error=fields.flag("continue_on_error"),
            cache_ttl=fields.number("cache_ttl", high=MAX_SECONDS),
            mock=self._mock(fields),
            priority=fields.integer("priority", low=-32768) if fields.get("priority") is not None else None,
            delete_after_use=fields.flag("delete_after_use"),
            suspend=read_suspend(fields),
            durability=self._durability(fields),
        )
        fields.close(EDITOR | {"tag"} if fixed else EDITOR, REFUSED_STEP)
        return self._contradictions(module, fields)

    def _id(self, fields: Fields, place: str, fixed: str | None) -> str:
        given = fields.get("id")
        if fixed is not None:
            given = fixed
        elif given is None:
            self.reading.fault(place, fields.own_line, "has no `id`")
            return place
        if not isinstance(given, str):
            fields.fault("id", f"must be text, not {kind_of(given)}; put quotes around it")
            return place
        if not ID.fullmatch(given) or len(given) > MAX_ID:
            shown = given if len(given) <= MAX_ID else f"{given[:60]}..."
            fields.fault(
                "id",
                f"{shown!r} cannot be an id: a letter or `_`, then letters, digits, `_` or `-`, at most "
                f"{MAX_ID} in all",
            )
            return place
        if fixed is None and given in RESERVED:
            fields.fault("id", f"{given} is the flow's own {given} module: take another id")
            return place
        fields.step = given
        if given in self._ids:
            first = self._ids[given]
            fields.fault("id", f"{given} is taken by another step" + (f", on line {first}" if first else ""))
        else:
            self._ids[given] = fields.line("id")
        return given

    def _mock(self, fields: Fields) -> Static | None:
        inner = fields.inner("mock")
        if inner is None:
            return None
        enabled, value = inner.flag("enabled"), inner.get("return_value")
        inner.close()
        if not enabled:
            return None
        return read_static(
            self.reading, fields.step, inner.line("return_value"), "`mock.return_value`", value
        )

    def _durability(self, fields: Fields) -> Durability:
        given = fields.get("durable")
        if given is None:
            return Durability.RELAXED
        try:
            return Durability(given)
        except ValueError:
            fields.fault("durable", f"must be `strict` or `relaxed`, not {str(given)[:60]!r}")
            return Durability.RELAXED

    def _contradictions(self, module: Module, fields: Fields) -> Module:
        """Refuse options that mean nothing for this kind of step."""
        value = module.value
        if "value" not in fields.given or isinstance(value, Identity):
            return module  # which may stand for a step that is wrong already
        if not isinstance(value, Call):
            for key, there in (
                ("retry", module.retry),
                ("timeout", module.timeout),
                ("cache_ttl", module.cache_ttl),
                ("delete_after_use", module.delete_after_use),
            ):
                if there:
                    fields.fault(key, "is for a step that runs a script: put it on the steps within")
        if module.stop_all is None:
            return module
        if isinstance(value, BranchAll):
            if module.stop is not None:
                fields.fault(
                    "stop_after_all_iters_if", "asks behind all branches, as `stop_after_if` does: keep one"
                )
            return attrs.evolve(module, stop=module.stop or module.stop_all, stop_all=None)
        if not isinstance(value, ForLoop | WhileLoop):
            fields.fault("stop_after_all_iters_if", "is for loops and `branchall`: use `stop_after_if`")
        return module
