"""Containers of the labs, for the tests of docker and podman: fixtures and helpers."""

import os

import pytest

import contextree
from tests.lab import rootfs
from tests.lab.poll import until


@pytest.fixture(params=["docker", "podman"])
def lab(request):
    """Each lab in turn."""
    return request.getfixturevalue(request.param + "_lab")


@pytest.fixture
def box(lab):
    """Make containers that are removed after the test: box(image=..., options=...) is the name of one."""
    made = []

    def box(**options):
        made.append(lab.run_container(**options))
        return made[-1]

    yield box
    if made:
        lab.remove(*made)


def open_in(router, lab, container=None, **options):
    """A context in a container."""
    options = {lab.kind: lab.program, **options}
    return getattr(router, lab.kind)(container or lab.container, **options)


def empty(lab, container=None):
    """Wait until nothing runs in a container but its first process."""
    until(lambda: not lab.processes(container), "the container to be as it was")


def entries(lab, container):
    """What is in the root directory of a container, also of one without any program: by a copy of it."""
    pid = int(lab.run("inspect", "--format", "{{.State.Pid}}", container))
    return sorted(os.listdir("/proc/%d/root" % pid))


def as_before(lab, container, before):
    """Wait until nothing is in the root directory of a container that was not there."""
    until(lambda: entries(lab, container) == before, "the container's files to be as they were")


def refused(router, lab, container=None, **options):
    """The error of a context that cannot be had."""
    with pytest.raises(contextree.ConnectError) as caught:
        open_in(router, lab, container, **options)
    assert "\n" not in str(caught.value).replace("\n  ", "")
    return caught.value


@pytest.fixture(scope="session")
def lent(tmp_path_factory):
    """A folder that is a whole Python."""
    return rootfs.standalone(tmp_path_factory.mktemp("lent") / "it's a python")
