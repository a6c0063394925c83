"""A host with the private sshd, by paramiko."""

import pathlib

import pytest

from tests.methods.way import Way


@pytest.fixture(scope="session")
def way_paramiko(sshd, tmp_path_factory):
    """In this process, without the ssh program."""
    way = Paramiko(sshd)
    way.no_keys = tmp_path_factory.mktemp("paramiko") / "config"
    way.no_keys.write_text("PubkeyAuthentication no\n" + pathlib.Path(sshd.ssh_config).read_text())
    return way


class Paramiko(Way):
    name, method, tail = "paramiko", "ssh", "ssh.key"

    def __init__(self, sshd):
        self.sshd = sshd

    def open(self, router, **options):
        return router.ssh("key", transport="paramiko", ssh_config=self.sshd.ssh_config, **options)

    def wrong_credentials(self, router):
        return router.ssh("password", transport="paramiko", ssh_config=self.no_keys, password="wrong")

    def missing_target(self, router):
        return router.ssh("no-such-target.invalid", transport="paramiko", ssh_config="none")
