"""What ansible-core's own integration tests look at, and playbooks elsewhere here do not."""

import pytest

from tests.ansible import compare, cores
from tests.ansible.plays import play

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(300)]

LOCAL = {"ansible_connection": "local"}
ENDS = [cores.OLDEST, cores.NEWEST]


def both(lab, core, playbook, **how):
    """Run a playbook under stock and under our strategy: the same, and nothing left. Ours."""
    how.setdefault("hosts", {"here": {}, "h2": LOCAL})
    stock, ours = (play(lab, core, "upstream/" + playbook, mode, **how) for mode in ("stock", "strategy"))
    assert compare.differences(stock, ours) == []
    assert ours.left == []
    return ours


@pytest.mark.parametrize("core", ENDS, indirect=True)
def test_debugger_takes_back_what_a_task_for_one_host_did_to_the_others(lab, core):
    ours = both(lab, core, "once.yml", typed='task.args["that"] = []\nredo\n')
    assert ours.status == 0
    assert [row["host"] for row in ours.rows if row["task"] == "for each"] == ["here", "h2"]


@pytest.mark.parametrize("core", ENDS, indirect=True)
def test_headings_of_hosts_that_do_not_wait_for_each_other(lab, core):
    """Core's callback says the task's name with its results then, and not when the first host comes to it."""
    stock, ours = (play(lab, core, "upstream/headings.yml", mode, strategy="free", hosts={"here": {}, "h2": LOCAL})
                   for mode in ("stock", "strategy"))
    assert headed(ours) == headed(stock)
    assert ("TASK [the first waits]", "ok: [here]") in headed(ours)


def headed(outcome):
    """The first line of each result, and what it stands below."""
    found, heading = set(), ""
    for line in outcome.stdout.splitlines():
        if line.startswith("TASK "):
            heading = line.rstrip("* ")
        elif " [" in line:
            found.add((heading, line))
    return found


def test_login_that_takes_long(lab, core):
    """Core's ``timeout`` is ssh's for the connection: a login shell may then take its time, as in stock."""
    slow = lab.ssh_config.with_name("slow")
    slow.write_text('#!/bin/sh\nsleep 27\nexec ssh "$@"\n')
    slow.chmod(0o755)
    ours = both(lab, core, "slow.yml", hosts={"h1": {"ansible_ssh_executable": str(slow), "ansible_ssh_timeout": 6}})
    assert ours.status == 0
    assert ours.stats["module"] == 1 and not ours.stats["fallbacks"]
