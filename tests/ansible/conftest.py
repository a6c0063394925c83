"""The lab and the cores; what cannot be had here is left out with its reason."""

import os

import pytest

from tests.ansible import cores, warm_side
from tests.ansible.lab import Lab
from tests.lab import processes
from tests.lab.poll import until
from tests.lab.sshd import CannotStart


@pytest.fixture(scope="session")
def lab():
    """Hosts for playbooks (tests.ansible.lab.Lab)."""
    try:
        found = Lab()
    except CannotStart as error:
        pytest.skip("private sshd: %s" % error)
    yield found
    found.down()


@pytest.fixture(scope="session")
def core(request):
    """An ansible-core: the newest one unless a test is parametrised by others; or that which the environment names."""
    try:
        return cores.make(os.environ.get("CONTEXTREE_ANSIBLE_CORE") or getattr(request, "param", cores.NEWEST))
    except cores.CannotMake as error:
        pytest.skip(str(error))


@pytest.fixture
def side(context):
    """The ``context`` of a file, with templates that end with the test."""
    yield context
    close(context)


def close(context):
    """End the templates of a context, and see that they have ended."""
    ended = context.call(warm_side.close)
    until(lambda: not any(processes.stat(pid) for pid in ended), "the templates to end")
