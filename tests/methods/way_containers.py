"""Containers, as the suite of all ways reaches them."""

import pytest

from tests.lab import containers
from tests.methods.way import Way


def started(kind):
    """A lab, for as long as the session lasts; skips where it cannot be had."""
    try:
        lab = kind.up()
    except containers.CannotStart as error:
        pytest.skip("%s: %s" % (kind.kind, error))
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def docker_lab():
    """A private docker engine (tests.lab.containers.Docker)."""
    yield from started(containers.Docker)


@pytest.fixture(scope="session")
def podman_lab():
    """A private store of podman's (tests.lab.containers.Podman)."""
    yield from started(containers.Podman)


@pytest.fixture(scope="session")
def way_docker(docker_lab):
    """A container of a private docker engine."""
    return Container(docker_lab)


@pytest.fixture(scope="session")
def way_podman(podman_lab):
    """A container of a private store of podman's."""
    return Container(podman_lab)


class Container(Way):
    separate = True

    def __init__(self, lab):
        self.lab = lab
        self.name = self.method = lab.kind
        self.tail = "%s.%s" % (lab.kind, lab.container)

    def open(self, router, container=None, **options):
        options.setdefault(self.method, self.lab.program)
        return getattr(router, self.method)(container or self.lab.container, **options)

    def wrong_credentials(self, router):
        return self.open(router, user="nobody-there")

    def missing_binary(self, router):
        return self.open(router, **{self.method: "no-such-program"})

    def missing_target(self, router):
        return self.open(router, "no-such-target")
