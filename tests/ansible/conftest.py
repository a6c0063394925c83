"""The lab and the cores; what cannot be had here is left out with its reason."""

import os
import sys

import pytest

import contextree
from tests.ansible import cores, payloads, warm_side
from tests.ansible.lab import Lab
from tests.lab import processes, pythons
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


@pytest.fixture(scope="module")
def router():
    """Grows the contexts of a file."""
    with contextree.Router() as router:
        yield router


def some_pythons():
    """The Python that runs this; the others where playbooks are run."""
    quick = "%d.%d" % sys.version_info[:2]
    return [minor if minor == quick else pytest.param(minor, marks=pytest.mark.ansible)
            for minor, python in pythons.one_each().items() if minor != "2.7" and python.origin != "chroot"]


@pytest.fixture(scope="module", params=some_pythons())
def context(request, router):
    """A context on each of these Pythons, in which all threads and what is begun once is there."""
    with router.local(python=list(pythons.one_each()[request.param].argv)) as grown:
        context = grown.with_options(threads=4)
        context.call(warm_side.together, [payloads.of("sys.exit(0)")] * 3)
        close(context)
        yield context


@pytest.fixture
def side(context):
    """The ``context`` of a file, with templates that end with the test."""
    yield context
    close(context)


def close(context):
    """End the templates of a context, and see that they have ended."""
    ended = context.call(warm_side.close)
    until(lambda: not any(processes.stat(pid) for pid in ended), "the templates to end")
