"""The multiplexer is forked by whoever comes first, holds nothing of that process, and ends with it."""

import os
import pickle
import signal
import subprocess
import sys

import pytest

from ansible_plugin.controller import link
from contextree.connect import local
from tests.bench.ansible.sides import ROOT
from tests.lab import processes
from tests.lab.poll import until

MAIN = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[1])
from ansible_plugin.controller import worker

def children():
    return {int(pid) for pid in open("/proc/self/task/%d/children" % os.getpid()).read().split()}
"""


def run(text, folder):
    """What such a program prints: words."""
    done = subprocess.run([sys.executable, "-c", MAIN + text, str(ROOT), str(folder)], capture_output=True, text=True,
                          timeout=50, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def ended(pid):
    """Wait until the multiplexer is gone."""
    who = processes.identity(int(pid))
    until(lambda: who is None or not processes.alive(who), "the multiplexer to end")


def test_nobody_waits_for_it_and_there_is_one(tmp_path):
    pid, same, served = run("""
worker.begin(sys.argv[2])
first = children()
worker.begin(sys.argv[2])
folder = worker.where(sys.argv[2], os.getpid())
print(*first, children() == first, worker.hosts(sys.argv[2], os.getpid()).fell_back("why"))
""", tmp_path)
    assert (same, served) == ("True", "None")
    ended(pid)


def test_a_worker_starts_it_where_nobody_did(tmp_path):
    pid, = run("""
if os.fork() == 0:
    worker.hosts(sys.argv[2], os.getppid()).fell_back("why")
    print(*children(), flush=True)
    os._exit(0)
os.wait()
""", tmp_path)
    ended(pid)


def test_it_holds_nothing_of_the_process_that_forked_it(tmp_path):
    pid, at_end, group, handler = run("""
signal.signal(signal.SIGUSR1, lambda *_: None)
r, w = os.pipe()
worker.begin(sys.argv[2])
worker.where(sys.argv[2], os.getpid())
os.close(w)
pid, = children()
status = dict(line.split(":", 1) for line in open("/proc/%d/status" % pid))
caught = int(status["SigCgt"], 16) >> signal.SIGUSR1 - 1 & 1
print(pid, os.read(r, 1) == b"", os.getpgid(pid) == pid, caught)
""", tmp_path)
    assert (at_end, group, handler) == ("True", "True", "0")
    ended(pid)


def test_what_is_wrong_is_told(tmp_path):
    said = run("""
from ansible_plugin.controller import mux
def broken(*args):
    raise OSError("no such luck")
mux.main = broken
try:
    worker.where(sys.argv[2], os.getpid())
except RuntimeError as error:
    print(str(error).splitlines()[0], str(error).splitlines()[-1])
""", tmp_path)
    assert " ".join(said).endswith("OSError: no such luck")


def test_a_link_that_failed_before_anybody_asked_is_not_tried_twice(tmp_path):
    tries = tmp_path / "tries"
    plan = local.plan(["/bin/sh", "-c", "echo once >>%s; exit 1" % tries])
    asked = run("""
import pickle
plan = pickle.loads(bytes.fromhex(%r))
service = worker.service(sys.argv[2], os.getpid())
service.call.prepare(plan, ["python3"])
said = [service.call.reach(plan, True) is not None for _ in range(2)]
print(*said)
""" % pickle.dumps(link.Link("x", plan)).hex(), tmp_path)
    assert asked == ["True", "True"]
    assert tries.read_text().split() == ["once", "once"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_main_process_however_that_ends(tmp_path, number):
    text = """
worker.begin(sys.argv[2])
worker.where(sys.argv[2], os.getpid())
print(*children(), flush=True)
signal.pause()
"""
    words = [sys.executable, "-c", MAIN + text, str(ROOT), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as main:
        pid = main.stdout.readline()
        main.send_signal(number)
        assert main.wait(20) == -number
    ended(pid)
