"""A router for each test, and what executors are tried with."""

import pytest

import contextree


@pytest.fixture
def router():
    """A root that ends with the test."""
    with contextree.Router() as router:
        yield router


@pytest.fixture
def pair(router):
    """Two contexts."""
    return [router.fork(), router.fork()]


@pytest.fixture
def gate(tmp_path):
    """A path for ``functions.hold``, opened at the end."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def lines(path):
    return path.read_text().split() if path.exists() else []
