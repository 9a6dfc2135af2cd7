"""Find and read a flow: its file, the scripts written in it, the scripts and flows that it calls.

Nothing is imported here. A file that a flow names (`!inline FILE`) lies in the flow's own directory, whatever
links say; the scripts and flows that it calls lie in the workspace.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import attrs

from hotpath.core.flow.kinds import MAX_DEPTH, SubFlowFound
from hotpath.core.flow.model import Call, Flow, Module, SubFlow
from hotpath.core.flow.parse import parse_flow
from hotpath.core.flow.source import Fault, Syntax
from hotpath.errors import ScriptError, UnknownScriptError
from hotpath.scripts.documents import MAX_BYTES, DocumentError, read_document
from hotpath.scripts.locate import Located, locate
from hotpath.scripts.source import StepSource, hash_of, read_if_there

_INLINE = re.compile(r"!inline\s+(.*?)\s*", re.DOTALL)


@attrs.frozen
class FileFault:
    """What is wrong with a flow, and in which file."""

    file: Path
    fault: Fault

    def text(self, shown: str) -> str:
        """`file:line: step x: message`, with the file's name as it is to be shown."""
        place = f"{shown}:{self.fault.line}" if self.fault.line else shown
        return f"{place}: {self.fault}"


class FlowFaultsError(ScriptError):
    """A flow cannot be run; `faults` are all the reasons."""

    def __init__(self, located: Located, faults: tuple[FileFault, ...]) -> None:
        first = faults[0]
        shown = str(first.file)
        root = located.root or located.workspace
        if first.file.is_relative_to(root):
            shown = first.file.relative_to(root).as_posix()
        rest = len(faults) - 1
        more = f" (and {rest} more: `hotpath flow check {located.name}` shows all)" if rest else ""
        super().__init__(f"{first.text(shown)}{more}")
        self.faults = faults


@attrs.frozen
class CallSite:
    """A step that runs a script, and where it is written."""

    file: Path
    step: str
    line: int
    call: Call
    inputs: Mapping[str, int]
    """Line of each input."""

    def fault(self, message: str, name: str | None = None) -> FileFault:
        """What is wrong with the step, or with one of its inputs."""
        line = self.line if name is None else self.inputs.get(name, self.line)
        return FileFault(self.file, Fault(line, self.step, message))


@attrs.frozen
class LoadedFlow:
    """A flow with all that it consists of."""

    flow: Flow
    located: Located
    hash: str
    """Hex SHA-256 of its file, of the scripts written in it, and of the flows it calls."""
    steps: dict[str, StepSource]
    """The scripts that it and the flows it calls run, by name."""
    files: tuple[tuple[str, bytes], ...] = ()
    """What its version consists of, by path from the workspace, its own file first: all but the scripts of
    the workspace that it calls.
    """
    calls: tuple[CallSite, ...] = ()
    """Each step that runs a script, in it and in the flows it calls; a flow called twice counts once."""


@attrs.frozen
class _Read:
    """One flow's file, read."""

    found: SubFlowFound
    hash: str
    faulty: bool


def load_flow(located: Located) -> LoadedFlow:
    """Read a flow. Raises `FlowFaultsError` with everything that is wrong with it and the flows it calls."""
    loaded, faults = read_flow(located)
    if faults:
        raise FlowFaultsError(located, faults)
    return loaded


def read_flow(located: Located, syntax: Syntax | None = None) -> tuple[LoadedFlow, tuple[FileFault, ...]]:
    """Read a flow, and say what is wrong with it; with faults, what was read is not to be run. `syntax`
    says what is wrong with the JavaScript of an expression, if that is to be looked at.
    """
    loading = _Loading(located, syntax)
    try:
        read = loading.read(located)
    except RecursionError:
        message = "the flows that it calls are nested too deeply in one another"
        empty = LoadedFlow(Flow(located.name, ()), located, "", {})
        return empty, (FileFault(located.file, Fault(1, None, message)),)
    faults = sorted(loading.faults, key=lambda each: each.file != located.file)  # its own first
    files = tuple(loading.files.items())
    loaded = LoadedFlow(read.found.flow, located, read.hash, loading.steps, files, tuple(loading.calls))
    return loaded, tuple(faults)


def inline_file(flow: Located, step: str) -> Path:
    """The file of the script that is written in a step of a flow. Raises `ScriptError` if there is none."""
    loaded, _ = read_flow(flow)
    name = f"{flow.name}/{step}"
    source = loaded.steps.get(name)
    if source is None or not source.inline:
        known = [each.name for each in loaded.steps.values() if each.inline]
        such = f"; it has {', '.join(known[:5])}" if known else ""
        raise UnknownScriptError(f"no script {name}: the flow {flow.name} has none in a step {step}{such}")
    if source.file is None:
        raise ScriptError(
            f"the script {name} is written in {flow.file.name} itself: put it in a file beside it, and "
            f"`content: '!inline {step}.py'` in its place, to use it outside of its flow"
        )
    return source.file


class _Loading:
    """One flow and all that it calls, being read."""

    def __init__(self, located: Located, syntax: Syntax | None) -> None:
        self.workspace = located.workspace
        self.root = located.root or located.workspace
        self.syntax = syntax
        self.faults: list[FileFault] = []
        self.steps: dict[str, StepSource] = {}
        self.files: dict[str, bytes] = {}
        self.calls: list[CallSite] = []
        self._read: dict[str, _Read] = {}
        self._stack: list[str] = []

    def read(self, located: Located) -> _Read:
        """Read one flow's file, once."""
        known = self._read.get(located.name)
        if known is not None:
            return known
        self._stack.append(located.name)
        read = self._read[located.name] = self._parse(located)
        self._stack.pop()
        return read

    def _parse(self, located: Located) -> _Read:
        nothing = _Read(SubFlowFound(Flow(located.name, ()), 0, 0), "", faulty=True)
        try:
            with located.file.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            self._fault(located, Fault(0, None, f"cannot be read: {error.strerror}"))
            return nothing
        try:
            data, lines = read_document(raw, is_json=located.file.suffix == ".json")
        except DocumentError as error:
            self._fault(located, Fault(error.line, None, str(error)))
            return nothing
        self.keep(located.file, raw)
        around = _Around(self, located, raw)
        parsed = parse_flow(data, lines, located.name, around, self.syntax)
        for fault in parsed.faults:
            self._fault(located, fault)
        self.calls += _calls(located.file, parsed.flow, parsed.inputs)
        found = SubFlowFound(parsed.flow, parsed.modules, parsed.depth)
        return _Read(found, around.digest.hexdigest(), faulty=bool(parsed.faults))

    def keep(self, file: Path, content: bytes) -> None:
        """Remember a file that the flow consists of."""
        self.files[file.relative_to(self.root).as_posix()] = content

    def _fault(self, located: Located, fault: Fault) -> None:
        self.faults.append(FileFault(located.file, fault))

    def sub_flow(self, path: str) -> _Read | str:
        """A flow that another one calls, or what is wrong with that."""
        if path in self._stack:
            way = " -> ".join([*self._stack[self._stack.index(path) :], path])
            return f"the flow calls itself: {way}"
        if len(self._stack) > MAX_DEPTH:
            return f"more than {MAX_DEPTH} flows call one another"
        located = self.find(path)
        if isinstance(located, str):
            return located
        if not located.is_flow:
            return f"{path} is a script: its `type` is `script`"
        read = self.read(located)
        return f"the flow {path} has faults of its own" if read.faulty else read

    def find(self, path: str) -> Located | str:
        """What the workspace has under this name, or why it cannot be given."""
        try:
            located = locate(path, self.root)
        except ScriptError as error:
            return str(error)
        if located.name != path:
            return f"{path} is a path: write the name, {located.name}"
        return located


class _Around:
    """What lies around one flow."""

    def __init__(self, loading: _Loading, located: Located, raw: bytes) -> None:
        self._loading = loading
        self._located = located
        self.digest = hashlib.sha256()
        self._hash("flow", raw)

    def _hash(self, name: str, content: bytes) -> None:
        for part in (name.encode(), content):
            self.digest.update(len(part).to_bytes(8, "big"))
            self.digest.update(part)

    def inline(self, step: str, content: str) -> str | None:
        """Take a script that is written in the flow."""
        name = f"{self._located.name}/{step}"
        named = _INLINE.fullmatch(content)
        if named is None:
            if not content.strip():
                return "is empty: give the script, or `!inline FILE`"
            source = StepSource(name, None, content, self._loading.workspace, inline=True)
        else:
            file = self._inside(named[1])
            if isinstance(file, str):
                return file
            source = StepSource(name, file, None, self._loading.workspace, inline=True)
        try:
            raw = source.read()
        except ScriptError as error:
            return str(error)
        if len(raw) > MAX_BYTES:
            return f"is {len(raw) / 2**20:.1f} MiB long; a step's script may have {MAX_BYTES // 2**20} MiB"
        self._hash(name, raw)
        if source.file is not None:
            self._loading.keep(source.file, raw)
        self._loading.steps[name] = source
        return None

    def _inside(self, text: str) -> Path | str:
        """The file of the flow's directory that a text names, or why there is none."""
        directory = self._located.file.parent
        named = PurePosixPath(text)
        if not text or named.is_absolute() or ".." in named.parts:
            return f"`!inline {text[:80]}` must name a file in the flow's own directory, {directory.name}"
        file = directory / named
        try:
            real = file.resolve()
            if not real.is_relative_to(directory.resolve()):
                return f"`!inline {text[:80]}` leads out of the flow's own directory, {directory.name}"
            if not real.is_file():
                return f"`!inline {text[:80]}`: there is no such file in {directory.name}"
            if real.stat().st_size > MAX_BYTES:
                return f"`!inline {text[:80]}` is longer than {MAX_BYTES // 2**20} MiB"
        except OSError as error:
            return f"`!inline {text[:80]}` cannot be read: {error.strerror}"
        return file

    def script(self, path: str, version: str | None) -> str | None:
        """What is wrong with calling a script of the workspace."""
        located = self._loading.find(path)
        if isinstance(located, str):
            return located
        if located.is_flow:
            return f"{path} is a flow: its `type` is `flow`"
        source = StepSource(path, located.file, None, self._loading.workspace)
        try:
            own = hash_of(source.read(), read_if_there(source.settings_file))
        except ScriptError as error:
            return str(error)
        if version is not None and not own.startswith(version.lower()):
            return f"version {version[:64]} is asked for, the workspace has {own[: max(12, len(version))]}"
        self._loading.steps[path] = source
        return None

    def flow(self, path: str) -> SubFlowFound | str:
        """A flow of the workspace, or what is wrong with calling it."""
        read = self._loading.sub_flow(path)
        if isinstance(read, str):
            return read
        self._hash(path, read.hash.encode())
        return read.found


def _calls(file: Path, flow: Flow, lines: Mapping[tuple[str, str], int]) -> Iterator[CallSite]:
    """The steps of one flow's file that run scripts."""
    of_step: dict[str, dict[str, int]] = {}
    for (step, name), line in lines.items():
        of_step.setdefault(step, {})[name] = line
    for module in _own(flow.top()):
        if isinstance(module.value, Call):
            yield CallSite(file, module.id, module.line, module.value, of_step.get(module.id, {}))


def _own(modules: tuple[Module, ...]) -> Iterator[Module]:
    for module in modules:
        yield module
        if not isinstance(module.value, SubFlow):
            for part in module.parts():
                yield from _own(part)
