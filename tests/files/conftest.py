"""A tree for the files, and ways to look at a folder."""

import pytest

import contextree
from contextree.core import process
from contextree.parent.importer import THREADS
from tests.lab.poll import until


@pytest.fixture(scope="module")
def tree():
    """A router for a module, whose contexts end with it. What it starts when it is first needed is started now: the
    guard looks at each test."""
    with contextree.Router() as router:
        modules = router.engine.modules
        while modules.threads < THREADS:
            modules.threads += 1
            process.start_thread(modules.work, ())
        until(lambda: len(modules.jobs.waiters) == THREADS, "the threads to run")
        router.fork().shutdown()  # the template
        yield router


@pytest.fixture(scope="module")
def web(tree):
    """One local context, with a template of its own."""
    context = tree.local(name="web")
    context.fork().shutdown()
    return context


@pytest.fixture
def router():
    """A tree for one test."""
    with contextree.Router() as root:
        yield root
