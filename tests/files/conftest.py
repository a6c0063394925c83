"""A tree for the files, and ways to look at a folder."""

import pytest

import contextree


@pytest.fixture(scope="module")
def tree():
    """A router for a module, whose contexts end with it."""
    with contextree.Router() as router:
        yield router


@pytest.fixture(scope="module")
def web(tree):
    """One local context."""
    return tree.local(name="web")


@pytest.fixture
def router():
    """A tree for one test."""
    with contextree.Router() as root:
        yield root
