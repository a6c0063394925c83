"""A loop with a reaper, on pidfds and on timers; what is shared by the reaper's tests."""

import pytest

from contextree.parent.loop import Loop as Broker
from contextree.parent.reaper import Reaper
from tests.parent.tools import BACKENDS


@pytest.fixture
def broker():
    """A loop on a thread of its own, without errors in its callbacks."""
    broker = Broker()
    broker.start()
    yield broker
    broker.stop()
    assert broker.count["errors"] == 0


@pytest.fixture(params=BACKENDS)
def reaper(broker, request):
    """A reaper, once with pidfds and once on a system without. All its children must be gone after the test."""
    reaper = Reaper(broker, stop_interval=0.01, **BACKENDS[request.param])
    reaper.backend = request.param
    yield reaper
    assert reaper.alive == 0, "children left: %s" % reaper._children


@pytest.fixture
def pidfd_reaper(broker):
    """A reaper with pidfds."""
    reaper = Reaper(broker)
    yield reaper
    assert reaper.alive == 0, "children left: %s" % reaper._children
