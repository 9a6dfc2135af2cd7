"""Flows as files: found, read with their lines, described with their scripts; and what harms nobody."""

import json
import os
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

from hotpath.core.schema import ArgsValidator
from hotpath.errors import BadArgsError, ScriptError, ScriptImportError, UnknownScriptError
from hotpath.model import Description, Settings
from hotpath.scripts import describe as describing
from hotpath.scripts.code_flow import is_code_flow
from hotpath.scripts.describe import describe, describe_many
from hotpath.scripts.documents import MAX_BYTES, DocumentError, read_document
from hotpath.scripts.flow_check import check_flow, describe_flow
from hotpath.scripts.flow_file import FlowFaultsError, load_flow, read_flow
from hotpath.scripts.flow_schema import args_schema_of
from hotpath.scripts.load_step import load_step
from hotpath.scripts.locate import find_scripts, locate
from hotpath.scripts.source import StepSource

STEPS = """
summary: Adds
value:
  modules:
    - id: a
      value:
        type: rawscript
        language: python3
        content: !inline a.py
        input_transforms:
          x: {type: javascript, expr: flow_input.x}
    - id: b
      value:
        type: rawscript
        language: python3
        content: |
          def main(y: int):
              return y + 1
        input_transforms:
          y:
            type: javascript
            expr: results.a
schema:
  type: object
  properties:
    x: {type: integer, description: A number}
  required: [x]
"""
CALLS = """
value:
  modules:
    - id: one
      value:
        type: script
        path: f/add
        input_transforms:
          x: {type: static, value: 1}
    - id: sub
      value: {type: flow, path: flow_x, input_transforms: {x: {type: static, value: 1}}}
"""


def write(directory, files):
    """Files below a directory."""
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def flow(directory, text, name="flow_x"):
    """A flow of the workspace, found."""
    write(directory, {f"{name}.flow/flow.yaml": text})
    return locate(name, directory)


@pytest.fixture
def workspace(tmp_path):
    """A workspace with a script, a flow and a flow that calls both."""
    write(
        tmp_path,
        {
            "f/add.py": "def main(x: int, y: int = 1):\n    return x + y\n",
            "flow_x.flow/flow.yaml": STEPS,
            "flow_x.flow/a.py": "def main(x: int):\n    return x\n",
            "f/outer.flow/flow.yaml": CALLS,
        },
    )
    return tmp_path


def texts(faults, workspace):
    """Faults as they are shown."""
    return [each.text(each.file.relative_to(workspace).as_posix()) for each in faults]


def test_locate(workspace, monkeypatch):
    """A flow is found by its name, by its directory and by its file, from inside and outside."""
    file = workspace / "f/outer.flow/flow.yaml"
    for asked in ("f/outer", "f/outer.flow", "f/outer.flow/", "f/outer.flow/flow.yaml", str(file)):
        found = locate(asked, workspace)
        assert (found.name, found.file, found.is_flow) == ("f/outer", file, True)
    monkeypatch.chdir(workspace / "f")
    assert locate("outer.flow", workspace).name == "f/outer"
    outside = locate(str(file), workspace / "flow_x.flow")
    assert (outside.name, outside.workspace) == ("outer", workspace / "f")
    (workspace / "etl.yaml").write_text(STEPS)
    single = locate("etl.yaml", workspace)
    assert (single.name, single.is_flow) == ("etl", True)
    assert not locate("f/add", workspace).is_flow


def test_find_scripts(workspace):
    """Flows are listed among the scripts, without the scripts that are written in them."""
    found = [(each.name, each.is_flow) for each in find_scripts(workspace)]
    assert found == [("f/add", False), ("f/outer", True), ("flow_x", True)]


def test_inline_script_by_name(workspace):
    """`flow_x/a` is the script in the file of step `a`; one without a file cannot be had."""
    found = locate("flow_x/a", workspace)
    assert (found.name, found.file, found.is_flow) == ("flow_x/a", workspace / "flow_x.flow/a.py", False)
    with pytest.raises(ScriptError, match=r"flow_x/b is written in flow\.yaml itself"):
        locate("flow_x/b", workspace)
    with pytest.raises(UnknownScriptError, match=r"none in a step c; it has flow_x/a, flow_x/b"):
        locate("flow_x/c", workspace)


def test_names_that_mean_two_things(workspace):
    """A script and a flow of one name, and two files of one flow, are refused, naming both."""
    write(workspace, {"flow_x.py": "", "f/outer.flow/flow.json": "{}"})
    with pytest.raises(ScriptError, match=r"flow_x is both .*flow_x\.py and .*flow_x\.flow"):
        locate("flow_x", workspace)
    with pytest.raises(ScriptError, match=r"has both flow\.yaml and flow\.json"):
        locate("f/outer", workspace)


def test_unknown_flows(workspace):
    """What is not there is told with what is similar."""
    with pytest.raises(UnknownScriptError, match=r"did you mean flow_x\?"):
        locate("flow_y", workspace)
    with pytest.raises(UnknownScriptError, match=r"no flow nothing\.yaml"):
        locate("nothing.yaml", workspace)
    (workspace / "empty.flow").mkdir()
    with pytest.raises(UnknownScriptError, match=r"there is no flow\.yaml"):
        locate("empty.flow", workspace)


def test_load(workspace):
    """A flow comes with its scripts, and with those of the flows it calls, by name."""
    loaded = load_flow(locate("f/outer", workspace))
    assert set(loaded.steps) == {"f/add", "flow_x/a", "flow_x/b"}
    assert loaded.steps["flow_x/a"].file == workspace / "flow_x.flow/a.py"
    assert loaded.steps["flow_x/b"].file is None
    assert loaded.steps["flow_x/b"].read().startswith(b"def main(y")
    assert [module.id for module in loaded.flow.every()] == ["one", "sub", "a", "b"]
    assert loaded.flow.modules[0].line == 4


def test_hash(workspace):
    """The hash changes with the file, with a script written in the flow, with a flow that it calls; not with
    what else there is.
    """

    def current():
        return load_flow(locate("f/outer", workspace)).hash

    hashes = [current()]
    write(workspace, {"f/other.py": "", "flow_x.flow/README.md": "", "f/add.py": "def main(x): ...\n"})
    assert current() == hashes[0]
    for name in ("f/outer.flow/flow.yaml", "flow_x.flow/flow.yaml", "flow_x.flow/a.py"):
        with (workspace / name).open("a") as file:
            file.write("# more\n")
        hashes.append(current())
    assert len(set(hashes)) == 4


def test_both_ways_to_write_inline(workspace):
    """`!inline FILE` is the same as a tag and as text."""
    hashes = [module.value for module in load_flow(locate("flow_x", workspace)).flow.modules]
    (workspace / "flow_x.flow/flow.yaml").write_text(STEPS.replace("!inline a.py", "'!inline a.py'"))
    assert [module.value for module in load_flow(locate("flow_x", workspace)).flow.modules] == hashes


INLINE = {
    "../f/add.py": "must name a file in the flow's own directory",
    "/etc/passwd": "must name a file in the flow's own directory",
    "link.py": "leads out of the flow's own directory",
    "linked/add.py": "leads out of the flow's own directory",
    "gone.py": "there is no such file",
    ".": "there is no such file",
    "pipe.py": "there is no such file",
}


@pytest.mark.parametrize("name", INLINE)
def test_inline_files_stay_inside(workspace, name):
    """A file that a flow names lies in its directory, whatever links say, and is a file."""
    directory = workspace / "flow_x.flow"
    (directory / "link.py").symlink_to(workspace / "f/add.py")
    (directory / "linked").symlink_to(workspace / "f")
    os.mkfifo(directory / "pipe.py")
    found = flow(workspace, STEPS.replace("!inline a.py", f"'!inline {name}'"))
    (said,) = texts(read_flow(found)[1], workspace)
    assert said.startswith("flow_x.flow/flow.yaml:9: step a: `value.content`: `!inline")
    assert INLINE[name] in said


def test_json(workspace):
    """A flow in JSON is read with its lines too."""
    data = {"value": {"modules": [{"id": "a", "value": {"type": "identity"}, "sleeep": 1}]}}
    write(workspace, {"j.flow/flow.json": json.dumps(data, indent=2)})
    (said,) = texts(read_flow(locate("j", workspace))[1], workspace)
    assert said.startswith("j.flow/flow.json:9: step a: `sleeep` is unknown")


def test_cycles(workspace):
    """A flow that calls itself, be it through others, is refused with the way."""
    call = "value: {{modules: [{{id: s, value: {{type: flow, path: {}}}}}]}}\n"
    for name, called in (("p", "q"), ("q", "r"), ("r", "p"), ("own", "own")):
        flow(workspace, call.format(called), name)
    said = texts(read_flow(locate("p", workspace))[1], workspace)
    assert any("the flow calls itself: p -> q -> r -> p" in each for each in said)
    (said,) = texts(read_flow(locate("own", workspace))[1], workspace)
    assert said == "own.flow/flow.yaml:1: step s: `value.path`: the flow calls itself: own -> own"


def test_calls_of_the_wrong_kind(workspace):
    """A flow is no script, a script no flow, and a path no name."""
    text = """
    value:
      modules:
        - {id: a, value: {type: script, path: flow_x}}
        - {id: b, value: {type: flow, path: f/add}}
        - {id: c, value: {type: script, path: f/add.py}}
        - {id: d, value: {type: script, path: f/ad}}
        - {id: e, value: {type: script, path: f/add, hash: 0123456789abcdef}}
    """
    said = texts(read_flow(flow(workspace, textwrap.dedent(text), "w"))[1], workspace)
    for line, (each, words) in enumerate(
        zip(
            said,
            (
                "step a: `value.path`: flow_x is a flow: its `type` is `flow`",
                "step b: `value.path`: f/add is a script: its `type` is `script`",
                "step c: `value.path`: f/add.py is a path: write the name, f/add",
                "step d: `value.path`: no script f/ad: there is no file",
                "step e: `value.hash`: version 0123456789abcdef is asked for, the workspace has",
            ),
            strict=True,
        ),
        start=4,
    ):
        assert each.startswith(f"w.flow/flow.yaml:{line}: {words}")


async def test_version_that_is_there(workspace):
    """A script may be asked for in the version that the workspace has, by the beginning of its hash."""
    own = (await describe(locate("f/add", workspace))).hash
    text = f"value: {{modules: [{{id: a, value: {{type: script, path: f/add, hash: '{own[:16]}'}}}}]}}"
    assert read_flow(flow(workspace, text, "w"))[1] == ()


def bomb():
    """A YAML document of a few lines that stands for ten billion parts."""
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


BAD_YAML = {
    "bomb": (bomb(), 6, "more than 200,000 parts"),
    "itself": ("value: &v [*v]", 1, "`*v` inside itself"),
    "deep": ("[" * 5000, 1, "more than 300 deep"),
    "key twice": ("value: 1\nsummary: x\nvalue: 2", 3, "the key `value` twice, first on line 1"),
    "tag": ("value: !!python/object/apply:os.system ['true']", 1, "the tag"),
    "merge": ("value:\n  <<: {a: 1}", 2, "merges mappings"),
    "two documents": ("value: 1\n---\nvalue: 2", 2, "more than one document"),
    "no YAML": ("value: [", 2, "is not YAML"),
    "NaN": ("value: .nan", 1, "no JSON form"),
    "too long a number": ("value: " + "9" * 5000, 1, "too long"),
    "too large a number": ("value: 1e999", 1, "too large"),
    "list as a key": ("? [a]\n: 1", 1, "keys are text"),
    "alias of nothing": ("value: *v", 1, "alias `*v` of nothing"),
    "control character": ("value: \x01", 1, "is not YAML"),
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_bad_yaml(workspace, name):
    """What is no flow's YAML is one fault with its line, quickly, whatever it stands for."""
    text, line, words = BAD_YAML[name]
    (said,) = read_flow(flow(workspace, text))[1]
    assert (said.fault.line, said.fault.step) == (line, None)
    assert words in said.fault.message


def test_bad_files(workspace):
    """A file that is too long, not UTF-8 or not there is one fault."""
    found = flow(workspace, "# " + "x" * MAX_BYTES)
    assert "is 1.0 MiB long" in read_flow(found)[1][0].fault.message
    found.file.write_bytes(b"summary: a\nvalue: \xff")
    (said,) = read_flow(found)[1]
    assert (said.fault.line, said.fault.message) == (2, "is not UTF-8: byte 18 is 0xff")
    found.file.unlink()
    assert "cannot be read" in read_flow(found)[1][0].fault.message
    with pytest.raises(FlowFaultsError):
        load_flow(found)


def test_yaml_is_version_1_2():
    """`yes`, `on`, dates and octal numbers are what JavaScript's YAML takes them for."""
    text = b"{a: yes, b: on, c: 2024-01-01, d: 010, e: 0o10, f: 0x1F, g: 1_000, h: '1', i: ~, j: , k: TRUE}"
    assert read_document(text, is_json=False)[0] == {
        "a": "yes", "b": "on", "c": "2024-01-01", "d": 10, "e": 8, "f": 31, "g": "1_000", "h": "1",
        "i": None, "j": None, "k": True,
    }  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans())
@settings(max_examples=examples(100, 300))
def test_json_is_read_as_python_reads_it(value, indent, ascii_only):
    """Any JSON document gives what Python's own reader gives."""
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return
    assert read_document(raw, is_json=True)[0] == json.loads(raw)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1,]",
        "{,}",
        '{"a":1,}',
        '{"a" 1}',
        "[1 2]",
        "[NaN]",
        "[1] x",
        "01",
        '"a',
        "{1: 2}",
        "nul",
        "[",
        "'a'",
    ],
)
def test_bad_json(text):
    """What Python does not take for JSON is none here."""
    with pytest.raises(DocumentError, match="is not JSON"):
        read_document(text.encode(), is_json=True)


async def test_describe(workspace):
    """A flow is described as scripts are: kind, schema, settings, summary."""
    found = flow(
        workspace, STEPS.replace("value:\n  modules", "value:\n  priority: 3\n  tag: t\n  modules", 1)
    )
    description = await describe(found)
    assert (description.path, description.kind, description.is_async) == ("flow_x", "flow", True)
    assert description.schema["properties"] == {"x": {"type": "integer", "description": "A number"}}
    assert description.settings == Settings(tag="t", priority=3)
    assert description.summary == "Adds"
    assert description.hash == load_flow(found).hash
    described = await describe_flow(found)
    assert set(described.steps) == {"flow_x/a", "flow_x/b"}
    assert described.steps["flow_x/b"].schema["required"] == ["y"]


async def test_calls_are_checked(workspace):
    """What a script's `main` needs, does not know, or cannot take is told, with step, parameter and line."""
    text = """
    value:
      modules:
        - id: a
          value: {type: script, path: f/add, input_transforms: {}}
        - id: b
          value:
            type: script
            path: f/add
            input_transforms:
              x: {type: javascript, expr: flow_input.x}
              z: {type: javascript, expr: flow_input.z}
        - id: c
          value:
            type: script
            path: f/add
            input_transforms:
              x: {type: static, value: one}
        - id: d
          value: {type: rawscript, language: python3, content: "import nothere", input_transforms: {}}
        - id: e
          value: {type: rawscript, language: python3, content: "x = 1", input_transforms: {}}
    """
    found = flow(workspace, textwrap.dedent(text), "w")
    assert texts(await check_flow(found), workspace) == [
        "w.flow/flow.yaml:4: step a: its script's `main` needs `x`: give it in `input_transforms`",
        "w.flow/flow.yaml:12: step b: its script's `main` has no parameter `z`; it has x, y",
        "w.flow/flow.yaml:18: step c: input `x`: expected int, got str",
        (
            "w.flow/flow.yaml:19: step d: w/d cannot be imported: ModuleNotFoundError: No module named "
            "'nothere' (<w.d>, line 1)"
        ),
        "w.flow/flow.yaml:21: step e: w/e has no function `main` (<w.e>)",
    ]
    with pytest.raises(FlowFaultsError, match=r"w\.flow/flow\.yaml:4: step a: .*and 4 more.*flow check w"):
        await describe(found)


async def test_many_in_one_process(workspace, monkeypatch):
    """Several scripts are described by one process; one that ends it costs the others nothing."""
    asked = []
    ask = describing._ask

    async def counted(scripts, python):
        asked.append(len(scripts))
        return await ask(scripts, python)

    monkeypatch.setattr(describing, "_ask", counted)
    sources = [
        StepSource("one", None, "def main(a: int): ...", workspace, inline=True),
        StepSource("f/add", workspace / "f/add.py", None, workspace),
        StepSource("two", None, "import os; os._exit(3)", workspace, inline=True),
        StepSource("three", None, "raise ValueError('no')", workspace, inline=True),
        StepSource("gone", workspace / "gone.py", None, workspace),
        StepSource("four", None, "async def main(): ...", workspace, inline=True),
    ]
    found = await describe_many(sources)
    assert [each.path if isinstance(each, Description) else type(each) for each in found] == [
        "one", "f/add", ScriptError, ScriptImportError, ScriptError, "four",
    ]  # fmt: skip
    assert "exit status 3" in str(found[2])
    assert "cannot be read" in str(found[4])
    assert found[1].hash == (await describe(locate("f/add", workspace))).hash
    assert asked[:2] == [6, 3]


def test_source_without_a_file(tmp_path):
    """A script without a file has tracebacks that show its lines, and its classes can be pickled."""
    import pickle

    source = (
        "import attrs\n@attrs.frozen\nclass Point:\n    x: int\ndef main():\n    raise ValueError('no')\n"
    )
    loaded = load_step(StepSource("flow_x/a", None, source, tmp_path, inline=True))
    assert pickle.loads(pickle.dumps(loaded.module.Point(1))).x == 1
    from hotpath.scripts.failure import traceback_of

    try:
        loaded.main()
    except ValueError as error:
        assert "    raise ValueError('no')" in traceback_of(error)


CODE = {
    "import hotpath\nasync def main(): await hotpath.step(f)": True,
    "import hotpath as h\nasync def main(): await h.sleep(5)": True,
    "from hotpath import approval\nasync def main(): ...": True,
    "from hotpath import step as s": True,
    "import hotpath\nimport trio\nasync def main(): await trio.sleep(5)": False,
    "import hotpath\ndef main(): hotpath.progress(0.5); step = 1": False,
    "# hotpath.step\ndef main(): return 'hotpath.step'": False,
    "import other as hotpath\nhotpath.step()": False,
    "def main(:": False,
}


@pytest.mark.parametrize("source", CODE)
def test_code_flows(source):
    """A script is a flow if its source uses what only flows use, by whatever name."""
    assert is_code_flow(source.encode()) is CODE[source]


async def test_kind_of_code(tmp_path):
    """A script says itself whether it is a flow, or its source does; it stays a script where it is found."""
    write(
        tmp_path,
        {
            "plain.py": "def main(): ...\n",
            "uses.py": "import hotpath\nasync def main():\n    await hotpath.sleep(1)\n",
            "says.py": "import hotpath\nhotpath.settings(flow=True)\ndef main(): ...\n",
            "denies.py": "import hotpath\nhotpath.settings(flow=False)\ndef main(): hotpath.sleep(1)\n",
        },
    )
    for name, kind in (("plain", "script"), ("uses", "flow"), ("says", "flow"), ("denies", "script")):
        located = locate(name, tmp_path)
        assert not located.is_flow
        assert (await describe(located)).kind == kind


WINDMILL = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "order": ["name", "age", "gone"],
    "properties": {
        "name": {"type": "string", "description": "Who", "default": "", "format": "email"},
        "age": {"type": "integer", "default": None, "minimum": 0},
        "when": {"type": "string", "format": "date-time"},
        "color": {"type": "string", "enum": ["red", "blue"]},
        "ratio": {"type": "number", "enum": [0.5, 1]},
        "db": {"type": "object", "format": "resource-postgresql"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "zip": {"type": "string"}},
            "required": ["city"],
        },
        "any": {},
        "either": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        "mixed": {"type": ["string", "integer"]},
        "odd": {"type": "string", "pattern": "(", "minLength": -1, "maxLength": "x"},
    },
    "required": ["name", "age", "unnamed"],
}


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ({}, None),
        ({"name": "x", "more": [1]}, None),
        ({"name": 5}, "`name`"),
        ({"age": None}, "`age`"),
        ({"age": -1}, "`age`"),
        ({"age": 1.5}, "`age`"),
        ({"when": "tomorrow", "name": None}, None),
        ({"color": "red"}, None),
        ({"color": None}, None),
        ({"color": "green"}, "`color`"),
        ({"ratio": 7}, None),
        ({"db": "$res:x"}, "`db`"),
        ({"db": {"host": "h"}}, None),
        ({"tags": ["a", 1]}, "`tags[1]`"),
        ({"place": {"zip": "1"}}, "`place.city`"),
        ({"place": {"city": "x", "zip": None, "more": 1}}, None),
        ({"any": [{}]}, None),
        ({"either": {"what": 1}}, None),
        ({"mixed": 1}, None),
        ({"mixed": []}, "`mixed`"),
        ({"odd": "("}, None),
    ],
)
def test_schema(args, word):
    """Args are checked by what can be checked of a flow's schema, and nothing else."""
    validator = ArgsValidator(args_schema_of(WINDMILL))
    args = {"age": 3, "unnamed": 1} | args
    if word is None:
        validator.encode(args)
    else:
        with pytest.raises(BadArgsError) as refused:
            validator.encode(args)
        assert word in str(refused.value)


def test_schema_of_other_shapes():
    """Order and required are those of fields that are there; a preprocessor takes any
    object, and so does no schema.
    """
    found = args_schema_of(WINDMILL)
    assert found["order"] == ["name", "age"]
    assert found["required"] == ["age", "unnamed"]
    closed = ArgsValidator(args_schema_of({"properties": {"a": {}}, "additionalProperties": False}))
    with pytest.raises(BadArgsError, match="`b` is unknown"):
        closed.encode({"b": 1})
    for schema in (
        args_schema_of({}),
        args_schema_of(WINDMILL, has_preprocessor=True),
        args_schema_of({"properties": 5}),
    ):
        ArgsValidator(schema).encode({"whatever": [1]})


@given(JSON)
@settings(max_examples=examples(80, 200))
def test_any_schema_can_be_used(value):
    """Whatever stands where a schema is expected, the result is a schema that args can be checked with."""
    for schema in ({"properties": {"a": value, "b": {"type": "array", "items": value}}}, value):
        if isinstance(schema, dict):
            ArgsValidator(args_schema_of(schema))
