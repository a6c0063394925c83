"""How long a call may take goes on with the calls that it makes."""

import pytest

import contextree
from tests.calls import running as f
from tests.calls.conftest import run_out_of_time
from tests.lab.poll import until


@pytest.fixture
def chain(router):
    """Three contexts, each below the one before."""
    first = router.local(name="first")
    second = router.fork(via=first, name="second")
    third = router.local(via=second, name="third")
    assert third.call(f.marked) == second.call(f.marked) == first.call(f.marked) == []  # the module is everywhere
    return first, second, third


@pytest.mark.parametrize("way", [f.time_left, f.time_left_by_submit])
def test_a_deadline_travels_with_nested_calls(chain, way):
    first, second, third = chain
    left = first.with_options(timeout=30).call(way, [second, third])
    assert len(left) == 3 and 30 >= left[0] >= left[1] >= left[2] > 0
    assert first.call(way, [second, third]) == [None, None, None]


def test_the_sooner_one_counts(chain):
    first, second, _ = chain
    outer, inner = first.with_options(timeout=30).call(f.time_left_with, 5, second)
    assert 30 >= outer > 5 >= inner > 0
    outer, inner = first.with_options(timeout=5).call(f.time_left_with, 30, second)
    assert 5 >= outer >= inner > 0
    for timeout in (None, 1e9, float("inf")):
        assert first.with_options(timeout=5).call(f.time_left_with, timeout, second)[1] <= 5
        assert first.with_options(timeout=timeout).call(f.time_left_with, 5, second)[1] <= 5


def test_on_every_place(router, place):
    assert place.call(f.time_left) == [None]
    assert 0 < place.with_options(timeout=30).call(f.time_left)[0] <= 30


@pytest.mark.parametrize("threads", [0, 4])
def test_through_threads_there(chain, threads):
    first, second, third = [context.with_options(threads=threads) for context in chain]
    left = first.with_options(timeout=30).call(f.time_left, [second, third])
    assert 30 >= left[0] >= left[1] >= left[2] > 0
    futures = [first.with_options(timeout=timeout).submit(f.time_left, [second]) for timeout in (20, 40, None, 60)]
    for future, limit in zip(futures, (20, 40, None, 60), strict=True):
        for left in future.result(30):
            assert left is None if limit is None else limit - 20 < left <= limit


def test_threads_of_the_function_by_bind(chain):
    first, second, _ = chain
    plain, bound = first.with_options(timeout=30).call(f.time_left_on_pool, second)
    assert plain is None and 0 < bound <= 30


@pytest.mark.parametrize("way", ["call", "submit", "stream"])
def test_time_is_up_here_and_there(chain, way):
    """The function there gets CallTimeout from its own call, that one's function is told, and no more calls follow."""
    first, second, _ = chain
    text = run_out_of_time(lambda: first.call(f.marked), first, f.ask_until_over, way, second)
    assert "first did not answer ask_until_over within" in text
    assert first.call(f.marked) == [(way, "CallTimeout"), ("again", "CallTimeout")]
    assert second.call(f.marked) == [("until_over", True)]
    assert second.call(f.time_left) == [None]


def test_a_stream_that_goes_on_ends_with_the_call_that_reads_it(chain):
    first, second, _ = chain
    run_out_of_time(lambda: first.call(f.marked), first, f.read_slowly, second)
    assert first.call(f.marked) == [("CallTimeout", True)]
    until(lambda: second.call(f.marked) == ["closed"], "the generator to be closed")


def test_the_timeout_of_a_stream_is_for_each_item_and_so_no_deadline(chain):
    first, _, _ = chain
    assert list(first.with_options(timeout=30).stream(f.time_left_in_items, 3)) == [None] * 3
    with pytest.raises(contextree.CallTimeout):
        next(first.with_options(timeout=0.05).stream(f.nap))


def test_who_cannot_send_in_time_is_told(router):
    """A context that takes nothing: what waits for room on the way to it has its time, too."""
    place = router.local()
    place.submit(f.wait_at, "gate")
    router.engine.core.link_to(place.id).unsent[place.id] = 1 << 25
    try:
        with pytest.raises(contextree.CallTimeout, match="took nothing of what is on its way"):
            place.with_options(timeout=0.02).call(f.time_left)
    finally:
        router.engine.core.link_to(place.id).unsent[place.id] = 0
    place.with_options(threads=1).call(f.open_gate, "gate")
    assert place.call(f.time_left) == [None]
