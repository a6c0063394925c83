"""Modules are shared before the call that needs them, whoever else calls at the same time."""

import sys
import threading

import contextree
from tests.importer import shared_once
from tests.lab.poll import until


def test_a_second_first_call_waits_for_the_sharing(monkeypatch):
    """Two threads call functions of one module for the first time: while it is being shared neither call is sent, as
    the context would be refused the module."""
    gate, asked = threading.Event(), []
    with contextree.Router() as router:
        stranger = router.local(python=[sys.executable])
        allow = router.engine.finder.allow

        def slow(name):
            asked.append(name)
            gate.wait(50)
            allow(name)

        monkeypatch.setattr(router.engine.finder, "allow", slow)
        results = []
        threads = [threading.Thread(target=lambda: results.append(stranger.call(shared_once.answer)))
                   for _ in range(4)]
        threads[0].start()
        until(lambda: asked, "the first call to share the module")
        opened = router.stats()["router"]["opened"]
        for thread in threads[1:]:
            thread.start()
        until(lambda: all(thread.is_alive() for thread in threads), "the others")
        assert not stranger.shared
        assert router.stats()["router"]["opened"] == opened
        gate.set()
        for thread in threads:
            thread.join()
    assert results == [42] * 4
