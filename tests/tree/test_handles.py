"""Context handles as values: equality, keys, text, copies, pickles."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

import contextree
from tests.tree import far


def test_a_handle_and_its_twins_are_one_key(router):
    first, second = router.local(name="first"), router.fork(name="second")
    twin = first.with_options(timeout=5)
    assert first == twin and hash(first) == hash(twin) and first is not twin
    assert first != second and twin != second and first != first.id and first != "first"
    answers = {first: 1, second: 2}
    answers[twin] = 3
    assert answers == {first: 3, second: 2} and len({first, twin, twin.with_options(threads=2)}) == 1
    assert twin in router.contexts and router.contexts.index(twin) == 0
    with contextree.Router() as other:
        stranger = other.local(name="first")
        assert stranger.id == first.id and stranger != first and len({first, stranger}) == 2


def test_text_of_handles(router):
    context = router.local(name="first")
    assert repr(context) == repr(context.with_options(timeout=1)) == "<Context %d first>" % context.id
    assert repr(router) == "<Router master, 1 contexts>"
    context.shutdown()
    assert repr(context) == "<Context %d first>" % context.id


def test_a_copy_of_a_handle_is_the_handle(router):
    context = router.local()
    twin = context.with_options(timeout=5)
    for each in (context, twin):
        assert copy.copy(each) is each and copy.deepcopy(each) is each
    assert copy.deepcopy({"web": [twin]})["web"][0].options == {"timeout": 5}


def test_a_handle_is_unpickled_in_calls_and_nowhere_else(router):
    """On a thread of its own: the tests before this one have run calls on this one."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(unpickle_everywhere, router).result(40)


def unpickle_everywhere(router):
    context = router.local(name="first")
    data = pickle.dumps(context)
    for turn in range(2):
        with pytest.raises(contextree.UsageError, match=r"\d+ first> means nothing here: a context is unpick"):
            pickle.loads(data)
        assert context.call(far.give_back, context) is context, turn
        assert context.call(far.give_back, context.with_options(timeout=9)).options == {}, "options are the caller's"
    assert context.call(far.through_pickle, context) is context
    with pytest.raises(contextree.UsageError, match="this is not a context"):
        contextree.current_router()


def test_a_handle_in_an_exception_is_the_handle(router):
    context = router.local()
    with pytest.raises(far.About) as caught:
        context.call(far.fail_about, context)
    assert caught.value.args[0] is context
