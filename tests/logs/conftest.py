"""A router that wants every record."""

import logging

import pytest

import contextree


@pytest.fixture
def router(caplog):
    """A tree for one test whose children send records from DEBUG on."""
    caplog.set_level(logging.DEBUG)
    with contextree.Router(log_level=logging.DEBUG) as root:
        yield root
