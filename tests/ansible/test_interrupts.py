"""No Ctrl-C is lost, whatever it comes in: here in the fork of a worker."""

import os
import random
import signal
import subprocess
import sys

import pytest

from tests.ansible import cores
from tests.ansible.endings import Run
from tests.ansible.lab import PLAYBOOKS
from tests.bench.ansible.sides import ROOT

FORKS = """
import multiprocessing, os, signal, sys
sys.path.insert(0, sys.argv[1])
from ansible_plugin.controller import worker

class Task(multiprocessing.get_context("fork").Process):
    def run(self):
        if self.as_before():
            os._exit(1)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        os._exit(7)

def hook():
    for _ in range(200):
        pass

os.register_at_fork(before=hook, after_in_parent=hook, after_in_child=hook)
begun = wrong = 0
while True:
    try:
        os.write(1, b"%d %d\\n" % (begun, wrong))
        while True:
            task = Task()
            with worker.uninterrupted() as task.as_before:
                task.start()
                begun += 1
            task.join()
            wrong += task.exitcode != 7
    except KeyboardInterrupt:
        multiprocessing.active_children()
"""


def test_no_interrupt_is_lost_in_forks():
    """Two hundred, at any moment of a process that does nothing but fork: each is raised there, once."""
    words = [sys.executable, "-W", "error", "-c", FORKS, str(ROOT)]
    moments = random.Random(7)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}) as process:
        try:
            assert process.stdout.readline() == "0 0\n"
            for _ in range(200):
                for _ in range(moments.randrange(40000)):
                    pass
                process.send_signal(signal.SIGINT)
                begun, wrong = process.stdout.readline().split()
            assert int(begun) > 50
            assert wrong == "0", "processes that were forked for no interrupt did not end as they should"
        finally:
            process.kill()
            said = process.stderr.read()
    assert said == ""


TASKS = """
- hosts: all
  gather_facts: false
  tasks:
    - debug: {msg: one}
    - command: sleep 1
    - pause: {seconds: 1}
    - debug: {msg: two}
    - set_fact: {x: 1}
"""


@pytest.mark.ansible
@pytest.mark.timeout(200)
@pytest.mark.parametrize("core", cores.PYTHONS, indirect=True)
def test_an_interrupt_in_a_fork_ends_the_run(lab, core):
    """Whichever hook of Python's it comes in, before or after, for a worker that stays or for one that does not."""
    for when in "before:1", "after_in_parent:2":
        with Run(lab, core, TASKS, "strategy", hosts={"here": {}}, args=("-e", "ansible_connection=local"),
                 environ={"ANSIBLE_CALLBACK_PLUGINS": str(PLAYBOOKS / "interrupts"), "CTXT_INTERRUPT": when,
                          "ANSIBLE_CALLBACKS_ENABLED": "own_interrupts"}) as run:
            status = run.end(60)
            said = run.out.read_text()
            assert run.left() == [], when
        assert "Ctrl+C" in said or "User interrupted" in said, (when, status, said)
        assert status == 99 and "two" not in said, (when, status)
        assert "Traceback" not in said, (when, said)
