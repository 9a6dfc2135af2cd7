"""The files behind the descriptors 1 and 2, by themselves (I9); `tests/worker/test_below.py` has the jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from hotpath.runtime import below, capture
from hotpath.runtime.below import make_files
from hotpath.runtime.context import BatchInHand, RunningJob

pytestmark = pytest.mark.skipif(not make_files(1), reason="no files in memory here")


def test_a_forked_process_keeps_no_lease_on_a_file(monkeypatch):
    """A process that is forked in the middle of the look whether a file is free does not keep it from being
    used again: opening it would end the worker by SIGIO.
    """
    (descriptor,) = make_files(1)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    gate, key = os.pipe()
    close, children = os.close, []

    def close_with_a_child(number: int) -> None:
        if not children:
            children.append(os.fork())
            if not children[0]:
                close(key)
                os.read(gate, 1)
                os._exit(0)
        close(number)

    try:
        monkeypatch.setattr(os, "close", close_with_a_child)
        assert below._is_free(descriptor)
        monkeypatch.undo()
        os.close(os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK))
    finally:
        monkeypatch.undo()
        os.close(key)
        os.waitpid(children[0], 0)
        os.close(gate)
        os.close(descriptor)
        signal.signal(signal.SIGIO, before)


FILES = """
import os, resource, subprocess, sys
from hotpath.runtime.below import Below, make_files

given = []
below = Below(make_files(2), [0, 0], lambda job, data: given.append((job, data)))
real, _ = below.open()
below.job = "first"
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)  # has the file, whatever becomes of the job
spare = list(below._spare)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
below.settle()  # there is no descriptor for another file
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
assert below._spare == spare, below._spare
os.write(1, b"first's")
below.starts()
below.settle()
below.job = "second"
child.communicate(b"late")
below.beside()
assert given == [("first", b"first's"), (None, b"late")], given
assert len(below._spare) == 1 and not below._late
os.ftruncate(below.descriptor, (1 << 30) - 4)
below._file.at = below._file.punched = below.at = (1 << 30) - 4
os.write(1, b"long")
below.settle()
assert given.pop() == ("second", b"long")
assert os.fstat(1).st_size == 0 and [os.fstat(each.descriptor).st_size for each in below._spare] == [0]
below.close()
below.look()  # the job was given up, and still prints
below.starts()
below.settle()
assert os.fstat(1).st_ino == os.fstat(real).st_ino
os.write(1, b"good")
"""


def test_files_come_back(tmp_path):
    """A file is kept when it cannot be used for want of descriptors; it is used again when nobody has it any
    more; and once all is closed a job that goes on prints without harm, and leads nothing elsewhere.
    """
    done = subprocess.run([sys.executable, "-c", FILES], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "good"), done.stderr


LOCKS = """
import os, threading
from hotpath.runtime import joblog
from hotpath.runtime.below import Below, make_files

gives, given = threading.Event(), []

def give(job, data):
    gives.set()
    with joblog.lock:
        given.append(data)

below = Below(make_files(2), [0, 0], give)
below.open()
below.job = "job"
with joblog.lock:  # in the middle of a write
    os.write(1, b"below")
    beside = threading.Thread(target=below.beside, daemon=True)
    beside.start()
    gives.wait(0.2)
    below.look()  # and somebody prints in that
beside.join()
assert given == [b"below"], given
"""


def test_a_look_in_the_middle_of_a_write(tmp_path):
    """A destructor that prints in the middle of a write, and another thread that looks what came below
    Python, do not wait for each other for ever.
    """
    done = subprocess.run(
        [sys.executable, "-c", LOCKS], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_nobody_reads_the_workers_own_output(monkeypatch):
    """What a process that was left behind says, where the worker's own output has no reader or no room any
    more, is lost; the worker is not.
    """
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", buffering=1) as own:
        monkeypatch.setattr(capture._capture, "own", own)
        capture._give(None, b"late\n")
        monkeypatch.undo()
        read = os.open(os.devnull, os.O_WRONLY)
        os.dup2(read, write)  # for what it still holds
        os.close(read)


def test_two_threads_write_the_first_line(make_batch, make_script, monkeypatch):
    """Two threads that begin a job's log at once write to one and the same."""
    new = capture._new_log

    def slowly(job):
        log = new(job)
        time.sleep(0.05)
        return log

    monkeypatch.setattr(capture, "_new_log", slowly)
    job = RunningJob(BatchInHand(make_batch(1), make_script("def main(): ...")), 0)
    found = []
    threads = [threading.Thread(target=lambda: found.append(capture.log_of(job))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1] is job.log
