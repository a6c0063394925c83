"""A router for each test."""

import pytest

import contextree


@pytest.fixture
def router():
    """A tree for one test."""
    with contextree.Router(grace=0.5) as root:
        yield root
