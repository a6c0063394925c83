"""The reaper's suite under every Python of the floors, and with SIGCHLD and pidfds in every condition (RM-25, R-04)."""

import subprocess
import sys

import pytest

from tests.parent.tools import LONG, SUITE

MINORS = ["3.6", "3.8", "3.9", "3.12", "3.13"]


def run(argv, *options):
    done = subprocess.run([*argv, SUITE, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=5 * LONG)
    assert done.returncode == 0, done.stdout
    assert "all held" in done.stdout
    return done.stdout


@pytest.mark.parametrize("options", [(), ("--pidfd", "none")])
@pytest.mark.parametrize("minor", MINORS)
def test_on_every_python(pythons, minor, options):
    output = run(pythons[minor].argv, *options)
    assert ("Python %s, %s" % (minor, "polled" if options else "pidfds")) in output


@pytest.mark.parametrize("how", ["blocked", "handled"])
@pytest.mark.parametrize("options", [(), ("--pidfd", "none")])
def test_rm_25_sigchld_in_other_hands(how, options):
    run([sys.executable], "--sigchld", how, *options)


REFUSALS = [("--pidfd", "ENOSYS"), ("--pidfd", "EPERM"), ("--pidfd", "EMFILE"), ("--seccomp",)]


@pytest.mark.parametrize("options", REFUSALS)
def test_r_04_the_suite_without_pidfd_open(options):
    assert "polled" in run([sys.executable], *options)
