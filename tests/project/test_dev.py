"""`dev.py`: what it says when it cannot go on, and that it passes on what its commands say."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDINARY = 65534  # nobody, on every system this runs on


@pytest.fixture
def dev():
    """`dev.py` as a module of its own."""
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path, dev, monkeypatch):
    """An empty checkout with its lock files, in which the module believes itself to be."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    for name in ("pyproject.toml", "dev.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    venv = tmp_path / ".venv"
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "VENV", venv)
    monkeypatch.setattr(dev, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(dev, "STATE", venv / "hotpath-setup")
    monkeypatch.setattr(dev, "SCRATCH", tmp_path / ".dev")
    monkeypatch.setattr(dev, "LOCKS", tmp_path / "requirements")
    monkeypatch.setattr(dev, "LEVELS", {n: tmp_path / "requirements" / f"{n}.txt" for n in ("run", "dev")})
    return tmp_path


def _make_venv(command, _env):
    """Stand in for `uv venv`: an interpreter and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", command[-1]], check=True)
    return ""


def _dev(*arguments, **options):
    """Run the real dev.py."""
    command = [sys.executable, str(ROOT / "dev.py"), *arguments]
    return subprocess.run(command, text=True, capture_output=True, timeout=50, check=False, **options)


def test_help_lists_every_command():
    """`--help` exits 0 and names each command; no command at all is wrong usage."""
    done = _dev("--help")
    assert done.returncode == 0
    for name in ("demo", "test", "check", "bench", "run", "lock"):
        assert re.search(rf"dev\.py {name}\b", done.stdout)
    assert _dev().returncode == 2


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"]])
def test_wrong_usage_is_one_line(arguments):
    """An unknown command, or `run` without one, exits 2 with one line on stderr."""
    done = _dev(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_old_python_can_read_it():
    """The file parses under the grammar of Python 3.6, so that an old Python gets as far as the message."""
    import ast

    ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 6))


def test_a_state_counts_only_when_all_matches(dev, checkout):
    """An environment is ready when its state names this level, these locks and this place."""
    assert not dev.is_ready("run")
    dev.PYTHON.parent.mkdir(parents=True)
    dev.PYTHON.symlink_to(sys.executable)
    dev.write_state(f"run {dev.fingerprint()}")
    assert dev.is_ready("run")
    assert not dev.is_ready("dev")
    dev.write_state(f"dev {dev.fingerprint()}")
    assert dev.is_ready("run")
    with (checkout / "requirements" / "run.txt").open("a") as lock:
        lock.write("# changed\n")
    assert not dev.is_ready("run")


def test_a_failed_setup_is_not_believed(dev, checkout, monkeypatch):
    """When both installers fail, the error tells what each said, and nothing looks done."""

    def call(command, env):
        if "venv" in command:
            return _make_venv(command, env)
        if "config" in command:
            return ""
        message = f"{command[0]} says no"
        raise dev.SetupError(message)

    monkeypatch.setattr(dev, "call", call)
    monkeypatch.setattr(dev, "find_uv", lambda _env: "a-uv")
    with pytest.raises(
        dev.SetupError, match=r"(?s)install with uv: a-uv says no.*install with pip: .*says no"
    ):
        dev.ensure("run")
    assert dev.read_state() == dev.UNFINISHED
    assert not dev.is_ready("run")


def test_what_was_cut_short_is_installed_again(dev, checkout, monkeypatch):
    """After a set-up that died half-way, its packages are installed again rather than trusted."""
    commands = []

    def call(command, env):
        commands.append(command)
        return _make_venv(command, env) if "venv" in command else ""

    monkeypatch.setattr(dev, "call", call)
    monkeypatch.setattr(dev, "find_uv", lambda _env: "a-uv")
    dev.ensure("run")
    assert dev.is_ready("run")
    assert not any("--reinstall" in command for command in commands)
    dev.write_state(dev.UNFINISHED)
    commands.clear()
    dev.ensure("run")
    assert sum("--reinstall" in command for command in commands) == 1
    assert not any("venv" in command for command in commands)


def test_bytecode_is_kept(dev, checkout, monkeypatch):
    """What is imported later is compiled at the set-up, even where Python is told not to write bytecode."""
    monkeypatch.setattr(dev, "find_uv", lambda _env: "a-uv")
    monkeypatch.setattr(dev, "call", lambda c, env: _make_venv(c, env) if "venv" in c else "")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (checkout / "hotpath").mkdir()
    (checkout / "hotpath" / "__init__.py").touch()
    (checkout / "hotpath" / "part.py").touch()
    (checkout / "hotpath" / "__main__.py").write_text("raise SystemExit(9)")
    dev.ensure("run")
    assert {file.name.split(".")[0] for file in checkout.glob("hotpath/__pycache__/*.pyc")} == {
        "__init__",
        "part",
    }


def test_a_failed_upgrade_keeps_what_worked(dev, checkout, monkeypatch):
    """Without a network the tests cannot be set up, but the demo that ran before still runs."""
    monkeypatch.setattr(dev, "find_uv", lambda _env: "a-uv")
    monkeypatch.setattr(dev, "call", lambda c, env: _make_venv(c, env) if "venv" in c else "")
    dev.ensure("run")

    def refuse(command, env):
        message = "no network"
        raise dev.SetupError(message)

    monkeypatch.setattr(dev, "call", refuse)
    with pytest.raises(dev.SetupError):
        dev.ensure("dev")
    assert dev.is_ready("run")


@pytest.mark.parametrize("home", [None, "", ".", "/dev/null/home"], ids=str)
def test_an_unusable_home_is_not_used(dev, checkout, monkeypatch, home):
    """With HOME unset, empty, relative or no directory, caches go into the checkout."""
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    env = dev.installer_environment()
    assert Path(env["UV_CACHE_DIR"]).is_relative_to(checkout)
    assert Path(env["PIP_CACHE_DIR"]).is_relative_to(checkout)


def test_pip_indexes_are_given_to_uv(dev, monkeypatch):
    """uv reads no pip.conf, so its indexes are translated; a user's own uv settings are left alone."""
    listed = (
        "global.index-url='https://a.example/simple'\n:env:.index-url='https://b.example/simple'\n"
        "global.extra-index-url='\\nhttps://c.example/simple\\nfile:///d/simple'\nglobal.find-links='/wheels'\n"
    )
    monkeypatch.setattr(dev, "has_pip", lambda: True)
    monkeypatch.setattr(dev, "call", lambda _command, _env: listed)
    assert dev.uv_index_settings({}) == {
        "UV_DEFAULT_INDEX": "https://b.example/simple",
        "UV_INDEX": "https://c.example/simple file:///d/simple",
        "UV_FIND_LINKS": "/wheels",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert dev.uv_index_settings({"UV_INDEX": "https://mine.example"}) == {}


@pytest.fixture
def roots_checkout():
    """A checkout that root made and everybody can read (pytest's own directories are closed to others)."""
    with tempfile.TemporaryDirectory(prefix="hotpath-test-") as place:
        Path(place).chmod(0o755)
        shutil.copytree(ROOT / "requirements", Path(place) / "requirements")
        for name in ("pyproject.toml", "dev.py"):
            shutil.copy(ROOT / name, place)
        yield Path(place)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a checkout that is somebody else's")
def test_somebody_elses_checkout_is_refused_in_one_line(roots_checkout):
    """An ordinary user in a checkout that root made is told to take a copy; nothing is written."""
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    done = subprocess.run(
        [python or "python3", "dev.py", "run", "true"],
        cwd=roots_checkout, user=ORDINARY, group=ORDINARY, extra_groups=[], text=True, capture_output=True,
        env={"PATH": "/usr/bin:/bin"}, timeout=60, check=False,
    )  # fmt: skip
    if "needs Python 3.11" in done.stderr:
        pytest.skip("the python3 that everybody can run is too old")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "belongs to somebody else" in done.stderr
    assert not (roots_checkout / ".dev").exists()


def test_whole_suite_is_shared_among_processes(dev, monkeypatch):
    """Without arguments the tests use the cores there are; arguments go to pytest as they stand."""
    monkeypatch.setattr(dev.os, "sched_getaffinity", lambda _pid: {0, 1}, raising=False)
    shared = ["-n", "3", "--dist", "worksteal"]
    assert dev.pytest_command([]) == ["pytest", *shared]
    assert dev.pytest_command([], slow=False) == ["pytest", "-m", "not slow", *shared]
    assert dev.pytest_command(["-k", "locks"], slow=False) == ["pytest", "-k", "locks"]
    monkeypatch.setattr(dev.os, "sched_getaffinity", lambda _pid: {0}, raising=False)
    assert dev.pytest_command([]) == ["pytest"]
    assert dev.pytest_command([], slow=False) == ["pytest", "-m", "not slow"]
