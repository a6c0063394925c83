"""The importer in forks of children: its cache is inherited, new modules come from the new parent."""

import importlib
import sys

import pytest

from tests.fork import far


def test_mt_21_the_cache_is_inherited(router, tmp_path, monkeypatch):
    """A direct fork of a child knows all that its parent knows; what is new it gets through its parent."""
    (tmp_path / "shipped_one.py").write_text(
        "def where():\n    import os\n    return __loader__.__class__.__name__, os.getpid()\n")
    (tmp_path / "shipped_two.py").write_text("import shipped_one\ndef again():\n    return shipped_one.where()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import shipped_one
    import shipped_two

    child = router.local(python="/usr/bin/env " + sys.executable + " -I")
    assert child.call(shipped_one.where)[0] == "Importer"
    asked = child.call(far.requests)
    number = child.call(far.grow, "direct")[0]
    below = router.context_by_id(number)
    assert below.call(far.loader_is_inherited, "shipped_one")
    start = below.call(far.requests)
    loader, pid = below.call(shipped_one.where)
    assert (loader, pid) == ("Importer", below.pid)
    assert below.call(far.requests) == start  # not one request
    assert below.call(far.module_parent) == child.id
    assert below.call(shipped_two.again) == ("Importer", below.pid)
    assert child.call(far.requests) >= asked


def test_mt_22_fork_while_a_thread_imports(router):
    """A thread of the child waits for the source of a module while another forks: the fork imports it."""
    child = router.local()
    number = child.with_options(timeout=30).call(far.fork_while_importing)
    below = router.context_by_id(number).with_options(timeout=30)
    assert below.call(far.import_any, "slowly_shipped") == "slowly_shipped"


def test_mt_23_package_of_the_master_and_of_children(router):
    """A direct fork of the root has the real package, other children a stub with the public names."""
    import contextree

    path = contextree.__file__
    assert router.fork(direct=True).call(far.package_file) == path
    assert router.fork().call(far.package_file) is None
    local = router.local()
    assert local.call(far.package_file) is None
    below = router.context_by_id(local.call(far.grow, "direct")[0])
    assert below.call(far.package_file) is None
    assert below.call(far.name) == below.name


def test_direct_fork_in_a_child_shares_its_memory(router):
    for context in (router.local(), router.fork(), router.fork(direct=True)):
        number, (seen, _), pid = context.call(far.grow_where_remembered)
        assert seen == context.pid != pid
        assert router.context_by_id(number).pid == pid


def test_mt_23_two_routers_in_one_process():
    import contextree

    with contextree.Router("one") as one, contextree.Router("two") as two:
        a, b = one.fork(direct=True), two.fork(direct=True)
        c, d = one.fork(), two.fork()
        assert [x.call(far.add, 1) for x in (a, b, c, d)] == [1] * 4
        one.close()
        assert [x.call(far.add, 1) for x in (b, d)] == [1] * 2


@pytest.mark.parametrize("direct", [False, True])
def test_mt_24_growing_needs_no_importer(router, direct):
    """The router knows of none; where the finders are gone, contexts grow all the same of what is in memory."""
    assert not hasattr(router.engine.core, "importer")
    child = router.fork(direct=direct)
    child.fork().shutdown()  # so that the parent's half is in the memory of a child of the template too
    assert child.call(far.lose_the_importer) == 2
    for grow in (child.fork, child.local):
        below = grow()
        assert below.call(abs, -3) == 3 and below.name.startswith(child.name)
    with pytest.raises(ModuleNotFoundError):
        child.call(importlib.import_module, "tests.fork.nowhere")
