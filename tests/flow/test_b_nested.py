"""B-02: contexts that call each other in turn."""

import threading

import contextree
from tests.flow import turns


def test_b_02_mutual_recursion():
    """Each waits for the other, twenty deep; neither needs to ask for threads."""
    with contextree.Router() as router:
        one, other = router.fork(), router.local()
        router.grant(one, other)
        router.grant(other, one)
        assert one.with_options(timeout=30).call(turns.bounce, one, other, 20) == 20
        assert other.with_options(timeout=30).call(turns.bounce, other, one, 7) == 7


def test_b_02_who_waits_for_a_future_or_for_the_next_item_waits_like_a_call():
    with contextree.Router() as router:
        one, other = router.fork(), router.local()
        router.grant(one, other)
        router.grant(other, one)
        assert one.with_options(timeout=30).call(turns.bounce_by_future, one, other, 20) == 20
        stream = other.with_options(timeout=30).stream(turns.bounce_by_stream, other, one, 10)
        assert list(stream) == list(range(10, -1, -1))


def test_b_02_calls_from_above_keep_their_order_meanwhile():
    """They are run one after the other on the main thread, also while its function waits for another context."""
    with contextree.Router() as router:
        one, other = router.fork(), router.fork()
        router.grant(one, other)
        waits = one.submit(turns.hold, other)
        assert other.with_options(threads=1, timeout=30).call(turns.held)
        later = one.submit(threading.current_thread)
        assert not later.done() and one.ping(30) < 30 and not later.done()
        other.with_options(threads=1).call(turns.release)
        assert waits.result(30) == "released"
        assert one.call(turns.on_main_thread)
        assert later.exception(30)  # a thread cannot be sent; it ran last
