"""More than one router in a process, and routers that go from thread to thread."""

import os
import sys
import threading

import pytest

import contextree
from tests.lab import processes


def figures():
    """How many descriptors and threads this process has."""
    return len(os.listdir("/proc/self/fd")), len(sys._current_frames())


def in_a_thread(function, *args):
    """What ``function(*args)`` returns or raises on a thread of its own."""
    box = []

    def run():
        try:
            box.append((function(*args), None))
        except BaseException as error:
            box.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    value, error = box.pop()
    if error is not None:
        raise error
    return value


@pytest.mark.parametrize("first_one_first", [True, False])
def test_mt_23_two_trees_do_not_know_of_each_other(first_one_first):
    with contextree.Router("one", grace=0.5) as one, contextree.Router("two", grace=0.5) as two:
        trees = [one, two]
        for tree in trees:
            below = tree.local(name="first").fork(name="below")
            tree.fork(name="last.of." + tree.name)
            assert [each.name for each in tree.contexts] == ["first", "first.below", "last.of." + tree.name]
            assert below.name == "first.below"
        assert [each.id for each in one.contexts] == [each.id for each in two.contexts], "ids are each tree's own"
        assert not {each.pid for each in one.contexts} & {each.pid for each in two.contexts}
        ended, kept = trees if first_one_first else trees[::-1]
        gone = [processes.identity(each.pid) for each in ended.contexts]
        handle = ended.contexts[0]
        ended.close()
        assert not any(processes.alive(who) for who in gone)
        with pytest.raises(contextree.Closed, match="the router %s was closed" % ended.name):
            handle.call(abs, -1)
        assert [each.call(abs, -number) for number, each in enumerate(kept.contexts)] == [0, 1, 2]
        assert kept.local().call(abs, -3) == 3 and kept.fork().call(abs, -4) == 4


def test_a_context_of_another_tree_is_refused():
    """Its id means another context here: nothing may be granted to that, started below it or told it by mistake."""
    with contextree.Router(grace=0.5) as one, contextree.Router(grace=0.5) as two:
        first, second = one.fork(name="first"), one.fork(name="second")
        strange, stranger = two.fork(name="strange"), two.fork(name="stranger")
        for pair in ((first, stranger), (strange, second), (strange, stranger)):
            with pytest.raises(contextree.UsageError, match="must both be of this tree"):
                one.grant(*pair)
        assert not one.engine.grants and not two.engine.grants
        for grow in (one.fork, one.local, first.fork):
            with pytest.raises(contextree.UsageError, match="a context of this tree, not <Context 1 strange>"):
                grow(via=strange)
        with pytest.raises(contextree.UsageError, match="via= wants a context"):
            one.local(via="first")
        with pytest.raises(contextree.UsageError, match="<Context 2 stranger> is of another tree: here 2 is second"):
            second.call(repr, stranger)
        assert second.call(abs, -1) == 1 and one.contexts == [first, second] and two.contexts == [strange, stranger]


def test_a_router_goes_from_thread_to_thread():
    router = in_a_thread(contextree.Router)
    contexts = in_a_thread(lambda: [router.local(), router.fork(), router.fork(direct=True)])
    below = in_a_thread(contexts[0].fork)
    assert in_a_thread(lambda: [each.call(abs, -5) for each in [*contexts, below]]) == [5] * 4
    future = in_a_thread(below.submit, abs, -6)
    stream = in_a_thread(below.stream, range, 3)
    assert future.result(20) == 6 and list(stream) == [0, 1, 2]
    in_a_thread(contexts[1].shutdown)
    in_a_thread(router.close)
    assert router.closed and all(each.state == "died" for each in [*contexts, below])


def test_twenty_routers_in_a_row_leave_nothing():
    seen = []
    for number in range(20):
        with contextree.Router(grace=0.5) as router:
            context = router.fork() if number % 2 else router.local()
            assert context.submit(abs, -number).result(20) == number
        seen.append(figures())
    assert len(set(seen)) == 1, seen
