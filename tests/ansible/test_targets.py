"""Targets that change under a run: sshd, its keys, what it says, login shells, processes that are killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ansible import cores
from tests.ansible.test_faults import compared
from tests.lab import sshd_again

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(500)]

EITHER = pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)
SHELLS = {"prints": '#!/bin/sh\necho welcome\necho and errors >&2\nexec /bin/bash "$@"\n',
          "ends": "#!/bin/sh\nexit 0\n", "says": "#!/bin/sh\necho go away\nexit 7\n"}


@pytest.fixture(scope="module", autouse=True)
def server(lab):
    """Here from the first test on: it has a thread."""
    lab.materials()


@pytest.fixture
def sshd(lab):
    """again(how, more=None) starts the lab's sshd anew; as it was in the end."""
    def again(how, more=None):
        lab.sshd.daemons["plain"]["process"] = sshd_again.again(how, lab.sshd.directory, more)

    yield again
    again("own-key", "")


@EITHER
def test_what_ssh_says_as_it_connects(lab, core, sshd):
    """A banner, the warning of a key that was not known, what a login shell says itself; with and without a connection
    that lasts."""
    banner = Path(lab.sshd.directory, "banner")
    banner.write_text("".join("line %d of the banner\n" % number for number in range(30)))
    banner.chmod(0o644)
    sshd("restart", "Match LocalAddress 127.0.0.2,127.0.0.4,127.0.0.8\n  Banner %s\n" % banner)
    new = "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no"
    alone = "-F %s" % lab.ssh_config
    hosts = {"h1": {"ansible_ssh_common_args": new}, "h2": {"ansible_ssh_common_args": new + " -o LogLevel=ERROR"},
             "h3": {"ansible_ssh_args": alone}, "h4": {"ansible_ssh_common_args": new, "ansible_ssh_args": alone},
             "h7": {"ansible_user": lab.sshd.noisy_user}}
    stock, _ = compared(lab, core, "keys.yml", modes=("strategy",), hosts=hosts, forks=5)
    said = [row["result"]["stderr"] for row in stock.rows if row["host"] == "h1" and row["task"] == "raw"]
    assert "Permanently added" in said[0] and "line 29" in said[0] and "Permanently" not in said[1]


@EITHER
def test_sshd_that_is_started_anew(lab, core, sshd):
    """Its sessions go on, or do not; nobody listens; somebody with another key listens."""
    words = "%s %s" % (sys.executable, sshd_again.__file__)
    stock, _ = compared(lab, core, "again.yml", modes=("strategy",), hosts={"h1": {}, "h2": {}},
                        before=lambda: sshd("own-key"),
                        variables={"again": words, "directory": lab.sshd.directory})
    assert stock.rows[-1]["task"] == "back"


@EITHER
def test_login_shells_that_are_none(lab, core):
    """They say something, end at once, are no shell, or are not there."""
    users = [lab.sshd.noisy_user, *lab.sshd.python_users.values()]
    hosts, shells = {}, {"none": "/bin/false", "absent": "/nonexistent/sh", "other": "/bin/cat"}
    for name, text in SHELLS.items():
        path = Path(lab.sshd.directory, "shell-" + name)
        path.write_text(text)
        path.chmod(0o755)
        shells[name] = str(path)
    try:
        for number, (name, shell) in enumerate(shells.items()):
            subprocess.run(["usermod", "-s", shell, users[number]], check=True, stderr=subprocess.DEVNULL)
            hosts["%s%d" % (name, number + 1)] = {"ansible_user": users[number]}
        compared(lab, core, "shells.yml", modes=("strategy",), hosts=hosts, forks=6)
    finally:
        for user in users[:len(shells)]:
            subprocess.run(["usermod", "-s", "/bin/bash", user], check=True)


@EITHER
@pytest.mark.parametrize("playbook", ["killed.yml", "killed_within.yml"])
def test_what_waits_on_a_host_is_killed(lab, core, playbook):
    """Templates, spares, the link's interpreter, by others between two tasks and by tasks: nobody notices."""
    stock, ours = compared(lab, core, playbook, modes=("connection", "strategy"), hosts={"h1": {}},
                           variables={"who": lab.sshd.key_user})
    assert stock.rows[-1]["task"] == "the end of killed"
    assert ours.stats["fallbacks"] == {}


@pytest.mark.parametrize("core", [cores.NEWEST, cores.MIDDLE], indirect=True)  # before, results show core's traceback
def test_a_nul_is_refused_by_who_is_given_it(lab, core):
    """In commands, files, variables, folders and accounts: what cannot be done is core's to say."""
    stock, ours = compared(lab, core, "nul.yml", modes=("connection", "strategy"), hosts={"h1": {}})
    assert sum("embedded null byte" in str(row["result"].get("msg")) for row in stock.rows) > 5
    assert set(ours.stats["fallbacks"]) == {"a NUL, which no program can be given"}
    assert ours.stats["module"] > 10
