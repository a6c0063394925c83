"""Programs that end in every way, and a census of what they leave."""

import os
import subprocess
import sys
import uuid

import pytest

import contextree
from tests.lab import processes
from tests.lab.poll import until
from tests.lab.pythons import ROOT

MARK = "CONTEXTREE_TEST_CENSUS"


@pytest.fixture
def router():
    """A tree for one test."""
    with contextree.Router() as root:
        yield root


class Program:
    """A script in a process of its own; ``census()`` lists what lives of it and of all that it started."""

    def __init__(self, path, text, *args, **options):
        path.write_text(text)
        self.mark = uuid.uuid4().hex
        environ = dict(os.environ, PYTHONPATH=str(ROOT), **{MARK: self.mark})
        self.process = subprocess.Popen([sys.executable, "-W", "error", str(path), *args], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ,
                                        **options)

    def line(self):
        """The next line that it prints."""
        return self.process.stdout.readline().rstrip("\n")

    def census(self):
        """{pid: command} of the living processes that carry its mark."""
        found, mark = {}, ("%s=%s" % (MARK, self.mark)).encode()
        for pid in processes.every():
            try:
                with open("/proc/%d/environ" % pid, "rb") as file:
                    marked = mark in file.read().split(b"\0")
            except OSError:
                continue
            if marked and processes.alive(processes.identity(pid)):
                found[pid] = processes.command_line(pid)
        return found

    def ended(self, limit=5.0):
        """(exit status, stdout, stderr), once it and its whole tree are gone; AssertionError after ``limit`` s."""
        try:
            out, err = self.process.communicate(timeout=limit + 5)
        finally:
            if self.process.poll() is None:
                self.process.kill()
        until(lambda: not self.census(), "the tree to end: %r" % self.census(), limit)
        return self.process.returncode, out, err


@pytest.fixture
def program(tmp_path):
    """program(text, *args, **options): a Program; what is left of it is killed after the test."""
    made = []

    def start(text, *args, **options):
        made.append(Program(tmp_path / ("program%d.py" % len(made)), text, *args, **options))
        return made[-1]

    yield start
    for each in made:
        processes.end([processes.identity(pid) for pid in each.census()])
        each.process.wait(10)
        for stream in (each.process.stdin, each.process.stdout, each.process.stderr):
            stream.close()
