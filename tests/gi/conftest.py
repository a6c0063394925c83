"""A tree for each test."""

import pytest

import contextree


@pytest.fixture
def router():
    with contextree.Router(grace=1.0) as tree:
        yield tree
