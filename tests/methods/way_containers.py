"""Containers, as the suite of all ways reaches them."""

import pytest

from tests.lab import containers
from tests.methods.way import Way


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


@pytest.fixture(scope="session")
def way_buildah(podman_lab):
    """A working container of buildah's, in a chroot."""
    try:
        container = podman_lab.working_container()
    except containers.CannotStart as error:
        pytest.skip(str(error))
    return Buildah(podman_lab, container)


class Buildah(Way):
    name = method = "buildah"

    def __init__(self, lab, container):
        self.lab = lab
        self.container = container
        self.tail = "buildah." + container

    def open(self, router, container=None, **options):
        options = {"buildah": self.lab.buildah, "isolation": "chroot", **options}
        return router.buildah(container or self.container, **options)

    def wrong_credentials(self, router):
        return self.open(router, user="nobody-there")

    def missing_binary(self, router):
        return self.open(router, buildah="no-such-program")

    def missing_target(self, router):
        return self.open(router, "no-such-target")


@pytest.fixture(scope="session")
def way_kubectl(kube_lab):
    """A pod, by the real kubectl and a server of our own."""
    return Kubectl(kube_lab)


class Kubectl(Way):
    name = method = "kubectl"
    tail = "kubectl.web"

    def __init__(self, lab):
        self.lab = lab

    def open(self, router, pod="web", **options):
        options = {"kubeconfig": self.lab.kubeconfig, **options}
        return router.kubectl(pod, **options)

    def wrong_credentials(self, router):
        return self.open(router, context="stranger")

    def missing_binary(self, router):
        return self.open(router, kubectl="no-such-program")

    def missing_target(self, router):
        return self.open(router, "no-such-target")
