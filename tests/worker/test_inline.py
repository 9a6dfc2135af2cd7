"""Scripts that say what they depend on run in environments of their own; once made, they need no network."""

from __future__ import annotations

import functools
import http.server
import os
import stat
import threading
import time
import zipfile
from pathlib import Path

import pytest
import trio
from worker_stage import Stage, open_stage

from hotpath.config import Config
from hotpath.errors import ScriptError
from hotpath.scripts import cache
from hotpath.scripts.describe import describe
from hotpath.scripts.environment import python_for
from hotpath.scripts.locate import locate


def wheel(folder: Path, name: str, version: str, source: str, needs: tuple[str, ...] = ()) -> None:
    """A package of one module, as pip would download it."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", source)
        requires = "".join(f"Requires-Dist: {each}\n" for each in needs)
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels, the only place where packages are found."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "greeting", "1.0", "TEXT = 'hello'\n", ("punctuation>=2",))
    wheel(folder, "greeting", "2.0", "TEXT = 'good day'\n", ("punctuation>=2",))
    wheel(folder, "punctuation", "2.1", "MARK = '!'\n")
    wheel(folder, "trio", "0.19", "")
    for name, value in {
        "UV_FIND_LINKS": str(folder),
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "UV_CACHE_DIR": str(tmp_path / "uv"),
    }.items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
async def inline(wheels: Path, database_url: str, tmp_path: Path):
    """A stage whose processes find these wheels and nothing else."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    async with open_stage(database_url, workspace) as stage:
        yield stage


def script(dependencies: str, body: str, python: str = ">=3.11") -> str:
    """A script with metadata."""
    return f'# /// script\n# requires-python = "{python}"\n# dependencies = [{dependencies}]\n# ///\n{body}'


GREET = (
    "import greeting, punctuation, attrs, hotpath\n\ndef main(name: str) -> str:\n"
    "    return f'{greeting.TEXT}, {name}{punctuation.MARK}'\n"
)


def environments(tmp_path: Path) -> list[Path]:
    """Those that are there."""
    return [file.parent for file in (tmp_path / "cache").rglob("hotpath.json")]


@pytest.mark.slow
async def test_each_script_has_its_own_versions(inline: Stage, tmp_path: Path):
    """Two scripts with versions that exclude each other, in a dedicated worker, in a normal one and by `run
    --local`; once they are there, neither network nor uv is needed.
    """
    (inline.workspace / "one.py").write_text(script('"greeting<2"', GREET))
    (inline.workspace / "two.py").write_text(script('"greeting>=2"', GREET))
    jobs = [await inline.client.enqueue(name, {"name": "you"}) for name in ("one", "two", "two")]
    await inline.drain("one")
    await inline.drain_all()
    found = [(await inline.client.job(job)).result for job in jobs]
    assert found == ["hello, you!", "good day, you!", "good day, you!"]
    assert len(environments(tmp_path)) == 2
    assert not any(stat.S_IMODE(each.stat().st_mode) & 0o022 for each in environments(tmp_path))
    for broken in (tmp_path / "wheels", tmp_path / "uv"):
        broken.rename(broken.with_name("gone-" + broken.name))
    job = await inline.client.enqueue("one", {"name": "again"})
    os.environ["PATH"], before = "/nowhere", os.environ["PATH"]
    try:
        await inline.drain("one")
    finally:
        os.environ["PATH"] = before
    assert (await inline.client.job(job)).result == "hello, again!"


class Index(http.server.SimpleHTTPRequestHandler):
    """A package index: a page for each package, and its wheels."""

    def end_headers(self) -> None:
        """What it said is to be asked for again, as that of a real one is after ten minutes."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def make_index(root: Path, wheels: Path) -> None:
    """Pages that name these wheels."""
    for name in ("greeting", "punctuation"):
        page = root / "simple" / name / "index.html"
        page.parent.mkdir(parents=True)
        links = [f'<a href="/wheels/{each.name}">{each.name}</a>' for each in wheels.glob(f"{name}-*.whl")]
        page.write_text("<!DOCTYPE html><html><body>" + "".join(links) + "</body></html>")


async def test_wheels_that_are_kept_are_enough_without_network(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A new environment, of packages that others have, is made while the index cannot be reached; of others
    it is said that it cannot.
    """
    make_index(tmp_path, wheels)
    handler = functools.partial(Index, directory=str(tmp_path))
    for name in ("UV_FIND_LINKS", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "first.py").write_text(script('"greeting"', GREET))
    (tmp_path / "second.py").write_text(script('"greeting>=2", "punctuation"', GREET))
    (tmp_path / "third.py").write_text(script('"greeting", "trio>=0.31"', GREET))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{index.server_port}/simple")
        serving = threading.Thread(target=index.serve_forever)
        serving.start()
        try:
            assert await python_for(locate("first", tmp_path)) is not None
        finally:
            index.shutdown()
            serving.join()
    assert await python_for(locate("second", tmp_path)) is not None
    with pytest.raises(
        ScriptError, match=r"the dependencies of third cannot be installed: .*Failed to fetch"
    ):
        await python_for(locate("third", tmp_path))
    assert len(environments(tmp_path)) == 2


async def test_what_cannot_be_had_is_said(inline: Stage, tmp_path: Path):
    """Unknown packages, versions that Hotpath cannot live with, another Python, metadata that is none."""
    for number, (text, said) in enumerate(
        (
            (
                script('"no-such-package"', GREET),
                "the dependencies of bad{0} cannot be installed: .*no-such-package",
            ),
            (script('"greeting>=3"', GREET), "greeting<=2"),
            (script('"trio<0.20"', GREET), "trio>=0.31"),  # what Hotpath needs
            (script('"greeting"', GREET, ">=3.99"), "bad{0} needs Python >=3.99, and this is Python 3"),
            (script('"greeting"', GREET, "new"), "`requires-python` must be like"),
            (script("unquoted", GREET), "bad{0}: its block `# /// script` is not TOML"),
            (script('"-r /etc/passwd"', GREET), "is not the name of a package"),
            (script("1", GREET), "must be a list of texts"),
            (script('"greeting"', GREET) + script('"greeting"', ""), "more than one block"),
        )
    ):
        (inline.workspace / f"bad{number}.py").write_text(text)
        with pytest.raises(ScriptError, match=f"(?s){said.format(number)}"):
            await describe(locate(f"bad{number}", inline.workspace))
    assert not environments(tmp_path)


async def test_uv_that_is_missing_is_named(inline: Stage, monkeypatch: pytest.MonkeyPatch):
    """Without uv, on PATH or as a package, the error says how to get it."""
    (inline.workspace / "one.py").write_text(script('"greeting"', GREET))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(__import__("sys").modules, "uv", None)
    with pytest.raises(ScriptError, match=r"one has dependencies of its own .*hotpath-runtime\[uv\]"):
        await describe(locate("one", inline.workspace))


async def test_two_that_want_the_same_make_it_once(wheels: Path, tmp_path: Path):
    """Both get the same environment, and it is whole."""
    (tmp_path / "one.py").write_text(script('"greeting", "punctuation"', GREET))
    (tmp_path / "two.py").write_text(script('"punctuation", "greeting"', GREET))
    found = []
    config = Config(workspace=tmp_path)

    async def ask(name: str) -> None:
        found.append(await python_for(locate(name, tmp_path), config))

    async with trio.open_nursery() as nursery:
        for name in ("one", "two", "one"):
            nursery.start_soon(ask, name)
    assert len(set(found)) == 1
    assert len(environments(tmp_path)) == 1


@pytest.mark.slow
async def test_scripts_of_a_flow_share_one(inline: Stage):
    """A flow's steps run in one process, so in one environment with all that they need."""
    flow = inline.workspace / "fl.flow"
    flow.mkdir()
    mark = "import punctuation\ndef main(x: str) -> str:\n    return x + punctuation.MARK\n"
    for name, needs, body in (("a", '"greeting<2"', GREET), ("b", '"punctuation"', mark)):
        (flow / f"{name}.py").write_text(script(needs, body))
    module = (
        "    - id: {0}\n      value:\n        type: rawscript\n        language: python3\n"
        "        content: '!inline {0}.py'\n        input_transforms: {1}\n"
    )
    (flow / "flow.yaml").write_text(
        "value:\n  modules:\n"
        + module.format("a", "{name: {type: static, value: you}}")
        + module.format("b", "{x: {type: javascript, expr: results.a}}")
        + "schema: {type: object, properties: {}}\n"
    )
    job = await inline.client.enqueue("fl", {})
    await inline.drain("fl")
    assert (await inline.client.job(job)).result == "hello, you!!"


@pytest.mark.slow
async def test_a_worker_swaps_to_other_dependencies(inline: Stage):
    """A version that needs another environment is loaded in that; one that needs what is not there is not
    taken.
    """
    from hotpath.store.scripts import register_version

    async def deploy(text: str) -> None:
        (inline.workspace / "one.py").write_text(text)
        description = await describe(locate("one", inline.workspace))
        await register_version(inline.connection, description, deploy=True)

    await deploy("def main(name: str) -> str:\n    return name\n")
    command = await inline.dedicate("one")
    await command.ready()
    await deploy(script('"greeting<2"', GREET))

    async def gives(text: str) -> bool:
        return await inline.client.result(await inline.client.enqueue("one", {"name": "you"})) == text

    await inline.until(lambda: gives("hello, you!"))
    await deploy(script('"greeting>=2"', GREET))
    await inline.until(lambda: gives("good day, you!"))


def test_what_nobody_uses_is_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Environments that nobody holds and nobody has used for a month go, and the oldest of too many."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kind = cache.directory(Config(workspace=tmp_path), "environments")
    for number in range(5):
        with cache.making(kind / str(number)):
            (kind / str(number)).mkdir()
        os.utime(kind / f"{number}.lock", (1000 * number, time.time() - 1000 * number))
    assert cache.collect(kind, most=2) == []  # this process holds them
    for entry in [kind / str(number) for number in range(5)]:
        os.close(cache._held.pop(entry))
    assert {each.name for each in cache.collect(kind, most=3)} == {"3", "4"}
    assert {each.name for each in cache.collect(kind, most=9, now=time.time() + 31 * 86_400)} == {
        "0",
        "1",
        "2",
    }
    assert list(kind.iterdir()) == []
    assert stat.S_IMODE(kind.stat().st_mode) == 0o700
