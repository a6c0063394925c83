"""Routers, and the hosts of a network of their own."""

import pytest

import contextree
from tests.lab.network import Network
from tests.lab.sshd import CannotStart


@pytest.fixture
def router():
    """A tree for one test."""
    with contextree.Router(grace=1.0) as root:
        yield root


@pytest.fixture(scope="session")
def network(sshd):
    """client --- alpha --- beta, and client --- gamma."""
    try:
        net = Network(sshd, {"alpha": "client", "beta": "alpha", "gamma": "client"})
    except CannotStart as error:
        pytest.skip(str(error))
    yield net
    net.down()
