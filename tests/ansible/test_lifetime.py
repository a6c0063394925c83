"""Playbooks that are ended from outside: what they leave is no more than in stock, and nothing of ours."""

import functools
import os
import re
import signal
from pathlib import Path

import pytest

from tests.ansible.endings import OF_STOCK, Run
from tests.lab import processes
from tests.lab.poll import until

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(300)]

LONG = """
- hosts: all
  gather_facts: false
  tasks:
    - ping:
    - copy: {content: x, dest: "{{ work }}/x-{{ inventory_hostname }}"}
    - shell: 'touch {{ work }}/began-{{ inventory_hostname }}; sleep 600'
"""
RAW = """
- hosts: all
  gather_facts: false
  tasks:
    - raw: 'touch {{ work }}/began-{{ inventory_hostname }}; sleep 600'
"""
JOB = """
- hosts: all
  gather_facts: false
  tasks:
    - shell: 'sleep 3; echo done > {{ work }}/job-{{ inventory_hostname }}'
      async: 60
      poll: 0
    - command: echo {{ inventory_hostname }}
"""
HOSTS = {"h1": {}, "h2": {}, "here": {}}
FAR = {"h1": {}, "h2": {}}
ENDS = {"Ctrl-C": None, "TERM": signal.SIGTERM, "HUP": signal.SIGHUP, "KILL": signal.SIGKILL}


@pytest.fixture(scope="module", autouse=True)
def _materials(lab):
    """What the lab starts when a playbook is first run is the module's."""
    lab.materials()


@pytest.mark.parametrize(("how", "mode"), [("Ctrl-C", "connection"), ("Ctrl-C", "strategy"), ("TERM", "strategy"),
                                           ("HUP", "connection"), ("KILL", "connection"), ("KILL", "strategy")])
def test_ended_in_a_task(lab, core, how, mode):
    """No module, template, agent, ssh or multiplexer is left, nor a file, where stock leaves modules that run."""
    for text, hosts in ((LONG, HOSTS), (RAW, FAR)):
        with Run(lab, core, text, mode, hosts=hosts) as run:
            run.until_marked(*["began-" + host for host in hosts])
            if how == "Ctrl-C":
                run.interrupt()
            else:
                run.process.send_signal(ENDS[how])
            run.end()
            assert run.left(but=OF_STOCK if how != "Ctrl-C" else "nothing but this") == []


def begun(lab, mark):
    """Whether a playbook has made a file of that name in its folder, or, None, logs in."""
    if mark is None:
        return processes.descendants(lab.sshd.daemons["plain"]["process"][0])
    return list(Path(lab.run, "home/.ansible/tmp").glob("*/" + mark))


@pytest.mark.parametrize("mode", ["connection", "strategy"])
def test_killed_while_it_begins(lab, core, mode):
    """At some moments of its start: before there is a multiplexer, while it listens, while links are opened."""
    far = {"h%d" % number: {} for number in range(1, 9)}
    for mark in ("contextree.lock", "contextree", None):
        with Run(lab, core, LONG, mode, hosts=far, forks=8) as run:
            until(functools.partial(begun, lab, mark), "it to begin", 40)
            run.process.kill()
            run.end()
            assert run.left(but=OF_STOCK) == []


def test_a_job_that_nobody_waits_for_lives_on(lab, core):
    """As in stock: the playbook has ended when it ends."""
    with Run(lab, core, JOB, "connection", hosts=FAR) as run:
        assert run.end() == 0
        assert not list(lab.work.iterdir()) or all(each.read_text() == "done\n" for each in lab.work.iterdir())
        until(lambda: len([each for each in lab.work.iterdir() if each.read_text()]) == 2, "jobs to end", 30)
        assert run.left(seconds=20) == []


def test_two_at_once_and_one_within_another(lab, core):
    """Each run has a multiplexer of its own; one that a task starts has as well."""
    inner = lab.run.parent / "inner.yml"
    inner.write_text("- hosts: h1\n  gather_facts: false\n  tasks: [{ping: }, {command: echo inner}]\n")
    nested = """
- hosts: h1
  gather_facts: false
  tasks:
    - ping:
    - delegate_to: localhost
      connection: local
      command: ansible-playbook %s
      environment: {CTXT_COLLECT: /dev/null, ANSIBLE_CONTEXTREE_STATS: "{{ work }}/inner"}
    - command: echo outer
""" % inner
    try:
        with (Run(lab, core, nested, "connection", hosts=FAR, name="1") as one,
              Run(lab, core, nested, "connection", hosts=FAR, name="2", clean=False) as other):
            assert (one.end(90), other.end(90)) == (0, 0), one.out.read_text() + other.out.read_text()
            assert one.left() == other.left() == []
            assert one.stats.exists() and other.stats.exists() and (lab.work / "inner").exists()
    finally:
        inner.unlink()


@pytest.mark.parametrize("words", [("ansible", "all", "-m", "ping"), ("ansible", "all", "-a", "echo hi", "-f", "1"),
                                   ("ansible-console", "all")])
def test_other_programs(lab, core, words):
    """ansible and ansible-console, in odd surroundings: few files, a long folder for temporary files, no locale."""
    long = lab.run.parent / ("x" * 100) / ("y" * 100)
    long.mkdir(parents=True, exist_ok=True)
    environ = {"LANG": "C", "ANSIBLE_LOCAL_TEMP": str(long / "local")}
    before = ("setsid", "-c", "/bin/sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    with Run(lab, core, "", "connection", hosts=FAR, words=words, environ=environ, before=before) as run:
        if words[0] == "ansible-console":
            os.write(run.terminal, b"ping\nexit\n")
        assert run.end(90) == 0, run.out.read_text()
        assert len(re.findall(r"\bh[12] \| (SUCCESS|CHANGED)", run.out.read_text())) == 2, run.out.read_text()
        assert run.left() == []
        assert not [each for each in long.rglob("*") if not each.is_dir()]
