"""A router, and what stands for methods whose programs need not be here: their hops are read, not opened."""

import pytest

import contextree


@pytest.fixture
def router():
    """A tree for one test."""
    with contextree.Router() as root:
        yield root
