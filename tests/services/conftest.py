"""A tree of its own for each test of joining: a router, a service of it, a listener; and
one for those of services."""

import pytest

import contextree
from tests.services import far


@pytest.fixture
def router():
    with contextree.Router(grace=1.0) as router:
        yield router


@pytest.fixture
def store(router):
    return router.serve("store", far.Store())


@pytest.fixture
def listener(router):
    with router.listen() as listener:
        yield listener


class Tree:
    """root -> a, b, middle -> left, right; ``store`` is an object that the root serves as ``service``."""

    def __init__(self, router):
        self.router = router
        self.a, self.b = router.fork(name="a"), router.fork(name="b")
        self.middle = router.local(name="middle")
        self.left, self.right = self.middle.fork(name="left"), self.middle.fork(name="right")
        self.store = far.Store()
        self.service = router.serve("store", self.store, threads=4)


@pytest.fixture(scope="module")
def tree():
    with contextree.Router(grace=1.0) as router:
        yield Tree(router)


@pytest.fixture
def granted(tree):
    """The root's service, granted to ``a``."""
    tree.router.grant_service(tree.service, tree.a)
    yield tree.service
    tree.router.revoke_service(tree.service, tree.a)
