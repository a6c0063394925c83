"""The ways that the suite runs over. A way that cannot be had on this machine skips, with the reason."""

import pytest

import contextree
from tests.methods.boxes import box, lab, lent  # noqa: F401  fixtures
from tests.methods.way import Way
from tests.methods.way_accounts import accounts, become, way_doas, way_runuser, way_su, way_sudo  # noqa: F401  fixtures
from tests.methods.way_containers import (  # noqa: F401  fixtures
    way_buildah,
    way_docker,
    way_kubectl,
    way_podman,
)
from tests.methods.way_namespaces import (  # noqa: F401  fixtures
    NAMES,
    setns_target,
    way_chroot,
    way_incus,
    way_jail,
    way_lxc,
    way_lxd,
    way_machinectl,
    way_nspawn,
    way_setns,
    way_setns_lxc,
    way_setns_nsenter,
)
from tests.methods.way_paramiko import way_paramiko  # noqa: F401  a fixture

WAYS = ["fork", "local", "ssh", "paramiko"]
WAYS += ["docker", "podman", "buildah", "kubectl"]
WAYS += ["sudo", "su", "doas", "runuser"]
WAYS += NAMES


@pytest.fixture
def router():
    """A tree for one test."""
    with contextree.Router() as root:
        yield root


@pytest.fixture(params=WAYS)
def way(request):
    """Each way in turn."""
    return request.getfixturevalue("way_" + request.param)


@pytest.fixture(scope="session")
def way_fork():
    """From the template."""
    return Fork()


class Fork(Way):
    name = method = "fork"
    tail = "fork.{id}"

    def open(self, router, **options):
        options.pop("python", None)
        return router.fork(**options)


@pytest.fixture(scope="session")
def way_local():
    """A new interpreter."""
    return Local()


class Local(Way):
    name = method = tail = "local"

    def open(self, router, **options):
        return router.local(**options)

    def missing_binary(self, router):
        return router.local(python="no-such-program")


@pytest.fixture(scope="session")
def way_ssh(sshd):
    """A host with the private sshd."""
    return Ssh(sshd)


class Ssh(Way):
    name = method = "ssh"
    tail = "ssh.key"

    def __init__(self, sshd):
        self.sshd = sshd

    def open(self, router, **options):
        return router.ssh("key", ssh_config=self.sshd.ssh_config, **options)

    def wrong_credentials(self, router):
        return router.ssh("password", ssh_config=self.sshd.ssh_config, password="wrong",
                          extra_args=["-o", "PubkeyAuthentication=no"])

    def missing_binary(self, router):
        return router.ssh("key", ssh="no-such-program")

    def missing_target(self, router):
        return router.ssh("no-such-target.invalid", ssh_config="/dev/null")
