"""A router, and short ways to the private sshd."""

import pathlib

import pytest

import contextree
from tests.lab.sshd import CannotStart
from tests.lab.sshd_odd import OddSshd


@pytest.fixture
def router():
    """A tree for one test."""
    with contextree.Router() as root:
        yield root


@pytest.fixture
def reach(router, sshd):
    """reach(host="key", **options): a context at a host of the lab's ssh_config."""
    def go(host="key", **options):
        options.setdefault("ssh_config", sshd.ssh_config)
        return router.ssh(host, **options)

    return go


@pytest.fixture(scope="session")
def odd():
    """The odd sshd."""
    try:
        server = OddSshd.up()
    except CannotStart as error:
        pytest.skip("odd sshd: %s" % error)
    yield server
    server.down()


@pytest.fixture
def far(router, odd):
    """far(host, **options): a context at a host of the odd ssh_config."""
    def go(host="free", **options):
        options.setdefault("ssh_config", odd.ssh_config)
        return router.ssh(host, **options)

    return go


@pytest.fixture(scope="session")
def bare_config(sshd, tmp_path_factory):
    """An ssh_config without any key: what a test gives is all that there is."""
    path = tmp_path_factory.mktemp("bare") / "config"
    lines = pathlib.Path(sshd.ssh_config).read_text().splitlines()
    path.write_text("\n".join(line for line in lines if "IdentityFile" not in line) + "\n  IdentityFile none\n")
    return path
