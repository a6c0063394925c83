"""A router for each test, and one context of every kind that calls must work in alike."""

import sys

import pytest

import contextree
from contextree.connect import local as local_method


@pytest.fixture
def router():
    """A root that ends with the test."""
    with contextree.Router() as router:
        yield router


@pytest.fixture
def local(router):
    """An exec'd child with this Python and this ``sys.path``."""
    return router.local()


@pytest.fixture(params=["local", "exec", "fork", "direct", "3.8", "3.6", "nested"])
def place(request, router, pythons):
    """Contexts that share everything with us, some things, or nothing but the wire."""
    return grow(router, pythons, request.param)


def grow(router, pythons, kind):
    """A context of one kind."""
    if kind == "nested":
        return router.local(via=router.fork())
    if kind in ("local", "fork"):
        return getattr(router, kind)()
    if kind == "direct":
        return router.fork(direct=True)
    if kind == "exec":
        return router.local(python=[sys.executable])
    if kind not in pythons:
        pytest.skip("no Python %s here" % kind)
    return router.local(python=pythons[kind].argv)


def run_out_of_time(begun, place, function, *args):
    """Have the time of a call be up while its function runs: ``begun()`` says that it did. On a busy machine half a
    second may be over before that. The text of the CallTimeout."""
    for timeout in (0.5, 2, 8):
        with pytest.raises(contextree.CallTimeout) as info:
            place.with_options(timeout=timeout).call(function, *args)
        if begun():
            return str(info.value)
    raise AssertionError("the function does not begin")


@pytest.fixture
def stranger(router):
    """A child that is not trusted: its answers are plain data."""
    plan = local_method.plan(name="stranger")
    plan.trusted = False
    return router.grow(plan)
