"""Every kind of loop, and a router for threads."""

import pytest

import contextree
from contextree.parent.loop import Loop
from contextree.parent.reaper import Reaper
from tests.loops.worlds import WORLDS


@pytest.fixture(params=WORLDS, ids=[kind.name for kind in WORLDS])
def world(request):
    """One kind of event loop."""
    return request.param()


@pytest.fixture
def router():
    """A tree for each test."""
    with contextree.Router(grace=1.0) as tree:
        yield tree


@pytest.fixture
def web(router):
    """A context that they call."""
    return router.local(name="web")


@pytest.fixture
def reaper():
    """What watches the processes of a test."""
    loop = Loop()
    loop.start()
    reaper = Reaper(loop)
    yield reaper
    loop.stop()
    assert not reaper.alive
