"""Targets that change under a run: sshd, its keys, what it says."""

import sys
from pathlib import Path

import pytest

from tests.ansible import cores
from tests.ansible.test_faults import compared
from tests.lab import sshd_again

pytestmark = [pytest.mark.ansible, pytest.mark.timeout(500)]

EITHER = pytest.mark.parametrize("core", [cores.NEWEST, cores.OLDEST], indirect=True)


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
