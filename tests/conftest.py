"""Fixtures that every test has: the leak guard around it, the private sshd, the Pythons of this machine."""

import os

import pytest

from tests import guard
from tests.lab import pythons as lab_pythons
from tests.lab.sshd import CannotStart, Sshd


@pytest.fixture(scope="session", autouse=True)
def guard_run():
    """What session fixtures leave behind fails the run."""
    with guard.watch("the whole run (a fixture wider than one test)"):
        yield


@pytest.fixture(autouse=True)
def guard_test(request, guard_run):
    """Every test leaves descriptors, threads and processes as it found them."""
    if request.node.get_closest_marker("leaks"):
        yield
        return
    with guard.watch(request.node.nodeid):
        yield


@pytest.fixture(scope="session")
def sshd():
    """A private sshd (tests.lab.sshd.Sshd): the one that run_tests.sh started, else one for this run."""
    state = os.environ.get("CONTEXTREE_LAB_SSHD")
    if state:
        yield Sshd.load(state)
        return
    try:
        server = Sshd.up()
    except CannotStart as error:
        pytest.skip("private sshd: %s" % error)
    yield server
    server.down()


@pytest.fixture(scope="session")
def pythons():
    """{"3.6": tests.lab.pythons.Python, ...}: one of each minor version on this machine."""
    return lab_pythons.one_each()
