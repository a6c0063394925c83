"""Masters as programs of their own, and where their jobs lie."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

import contextree
from tests.lab import processes
from tests.lab.poll import until
from tests.lab.pythons import ROOT


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The user's state directory, for this test alone; jobs that a test leaves in it are killed."""
    path = tmp_path / "state"
    path.mkdir(0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(path))
    yield path
    from contextree.parent import job_place

    left = [processes.identity(facts["pid"]) for facts in job_place.scan() if facts["alive"]]
    processes.end([who for who in left if who])


@pytest.fixture
def router(state):
    with contextree.Router(grace=1.0) as router:
        yield router


@pytest.fixture
def go(tmp_path):
    """A file that calls wait for."""
    return tmp_path / "go"


class Master:
    """A program that makes a job, told in Python; ``token`` and ``who`` (the job's process) are what it prints."""

    def __init__(self, text, **fields):
        text = "\n".join(("import contextree, os, signal, sys, time", "from tests.jobs import far",
                          "from tests.lab.poll import until", textwrap.dedent(text)))
        env = dict(os.environ, PYTHONPATH=str(ROOT))
        for name, value in fields.items():
            env["T_" + name.upper()] = str(value)
        self.process = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=env, text=True, start_new_session=True)
        line = self.process.stdout.readline().split()
        if not line:
            self.over()
            raise AssertionError("the master ended with %s" % self.process.returncode)
        self.token, self.directory = line[0], line[0].split("@")[1]
        self.who = processes.identity(int(line[1])) if len(line) > 1 else None

    def kill(self):
        self.process.kill()
        self.over()

    def kill_group(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.over()

    def close(self):
        """Let it come to its end."""
        self.process.stdin.close()
        self.over()

    def over(self):
        self.process.wait(20)
        self.process.stdout.close()
        if not self.process.stdin.closed:
            self.process.stdin.close()


@pytest.fixture
def master(state):
    """master(text): a Master; jobs that it leaves are killed at the end."""
    made = []

    def start(text, **fields):
        made.append(Master(text, **fields))
        return made[-1]

    yield start
    for each in made:
        if each.process.poll() is None:
            each.kill()
        if each.who:
            processes.end([each.who])
        shutil.rmtree(each.directory, ignore_errors=True)


SIMPLE = """
    with contextree.Router(grace=0.5) as router:
        job = router.local(name="work")
        running = job.submit(far.busy, os.environ["T_GO"], 1)
        until(lambda: os.path.exists(os.environ["T_GO"] + ".begun"), "the call to begin")
        token = job.detach(keep=True)
        print(token.reveal(), job.pid, flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def alone(master, go):
    """A job whose master was killed while a call ran: its Master."""
    made = master(SIMPLE, go=go)
    made.kill()
    until(lambda: not looked(made.directory)["held"], "the job to notice")
    return made


def looked(directory):
    from contextree.parent import job_place

    return job_place.look(directory) or {"held": None, "calls": [], "alive": False}


def gone(made):
    """The job's process has ended, and left nothing."""
    until(lambda: not processes.alive(made.who), "the job to end")
    assert not os.path.exists(made.directory)
    return True
