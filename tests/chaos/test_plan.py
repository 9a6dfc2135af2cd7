"""What `hotpath chaos` plans, refuses and measures, without running anything."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hotpath.chaos.kinds import KINDS, POISON, Mix
from hotpath.chaos.options import ChaosOptions, parse_args, parse_faults
from hotpath.chaos.plan import FAULTS, MEANING, make_plan
from hotpath.chaos.proxy import find_upstream
from hotpath.chaos.report import spread
from hotpath.errors import UsageError


def chaos(*flags):
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "hotpath", "chaos", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_same_seed_plans_the_same():
    """A plan depends on seed, length, rate, kinds and lease alone; another seed plans otherwise."""
    one, again, other = (make_plan(seed, 600, 3, tuple(FAULTS), 15) for seed in (7, 7, 8))
    assert one == again != other
    assert 150 < len(one) < 260
    assert {fault.kind for fault in one} == set(FAULTS) == set(MEANING)
    assert [fault.at for fault in one] == sorted(fault.at for fault in one)
    assert len({fault.kind for fault in one[:11]}) == 11


def test_half_an_hour_has_more_than_500_faults():
    """The default rate gives the proof its 500 faults and its million jobs in 30 minutes."""
    options = ChaosOptions(minutes=30, seed=3)
    plan = make_plan(options.seed, options.seconds, options.every, options.faults, options.lease)
    assert len(plan) > 500
    assert options.wanted > 1_000_000


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"minutes": 0}, "--minutes"),
        ({"minutes": float("nan")}, "--minutes"),
        ({"seed": -1}, "--seed"),
        ({"workers": 0}, "--workers"),
        ({"processes": 65}, "--processes"),
        ({"jobs": 0}, "--jobs"),
        ({"lease": 0.5}, "--lease"),
        ({"every": 0}, "--every"),
        ({"faults": ("flood",)}, "--faults"),
        ({"faults": ()}, "--faults"),
    ],
)
def test_bad_options_are_named(given, named):
    """A value that makes no sense is refused with the flag's name."""
    with pytest.raises(UsageError, match=named):
        ChaosOptions(**given)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--minutes", "0"), "--minutes"),
        (("--faults", "kill-worker,flood"), "flood"),
        (("--args", "{}"), "--args"),
        (("name", "--args", "{not json"), "--args"),
    ],
)
def test_command_refuses_by_name(flags, named):
    """Wrong usage is one line on stderr and exit code 2."""
    done = chaos(*flags)
    assert done.returncode == 2
    assert done.stderr.startswith("hotpath: ")
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_plan_is_printed():
    """`--plan` prints what would be done, one JSON document a line, and does nothing."""
    done = chaos("--plan", "--seed", "4", "--minutes", "1", "--json")
    assert done.returncode == 0, done.stderr
    faults = [json.loads(line) for line in done.stdout.splitlines()]
    assert [fault["number"] for fault in faults] == list(range(1, len(faults) + 1))
    assert len(faults) > 10


def test_args_come_from_an_object_or_a_file(tmp_path):
    """`--args` takes one JSON object, or a file of them; a bad line is named by number."""
    file = tmp_path / "args.jsonl"
    file.write_text('{"x": 1}\n\n{"x": 2}\n')
    assert parse_args('{"x": 5}') == ({"x": 5},)
    assert parse_args(str(file)) == ({"x": 1}, {"x": 2})
    file.write_text('{"x": 1}\n[2]\n')
    with pytest.raises(UsageError, match="line 2"):
        parse_args(str(file))
    with pytest.raises(UsageError, match="neither"):
        parse_args("nowhere.jsonl")
    assert parse_faults("cut, kill-tree,cut") == ("cut", "kill-tree")


def test_kinds_have_their_shares():
    """The built-in jobs are of every temper, about as often as said, and the same for the same seed."""
    mix = Mix(seed=1, poison_every=1000)
    drawn = [mix.kind(n).name for n in range(100_000)]
    for kind in KINDS:
        assert drawn.count(kind.name) == pytest.approx(kind.share, rel=0.4, abs=20)
    assert 50 < drawn.count(POISON.name) < 200
    assert drawn[:500] == [mix.kind(n).name for n in range(500)]


def test_upstream_keeps_login_and_database():
    """A proxy's address has the user, the password and the database of the true one."""
    upstream = find_upstream("postgresql://me:se%20cret@db:6000/jobs?sslmode=disable")
    assert (upstream.host, upstream.port, upstream.path) == ("db", 6000, None)
    assert upstream.elsewhere("127.0.0.1", 7) == "postgresql://me:se%20cret@127.0.0.1:7/jobs?sslmode=disable"
    upstream = find_upstream("postgresql://hotpath@/it?host=/run/pg&port=5432")
    assert upstream.path == "/run/pg/.s.PGSQL.5432"
    assert upstream.elsewhere("/tmp/s", 5432) == "postgresql://hotpath@/it?host=/tmp/s&port=5432"
    with pytest.raises(UsageError, match="several"):
        find_upstream("postgresql://a,b/jobs")


def test_spread_takes_values_that_were_seen():
    """The median and the 99th percentile are among the values, and nothing gives nothing."""
    values = [float(n) for n in range(1, 201)]
    found = spread(values)
    assert (found.times, found.p50, found.p99, found.longest) == (200, 100.0, 198.0, 200.0)
    assert spread([]).p50 is None
