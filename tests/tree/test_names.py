"""Names, ids and handles: the same everywhere, and early; what the tree tells of itself."""

import functools
import logging
import os
import re
import sys

import pytest

import contextree
from contextree.connect.plan import PYTHON, Plan
from tests.lab import processes
from tests.lab.poll import until
from tests.tree import far


def test_names_are_known_in_every_ancestor_before_the_first_line_is_logged(router, caplog):
    caplog.set_level(logging.INFO)
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            number = getattr(record, "context_id", None)
            if number and "hello" in record.getMessage():
                seen.append((record.context, router.context_by_id(number).name, record.name))

    handler = Handler()
    logging.getLogger("contextree").addHandler(handler)
    try:
        context = router.local(name="a", on_start=[far.hello])
        for name in "bcd":
            context = context.local(name=name, on_start=[far.hello])
        until(lambda: len(seen) == 4, "four greetings")
    finally:
        logging.getLogger("contextree").removeHandler(handler)
    assert seen == [(name, name, "contextree." + name) for name in ("a", "a.b", "a.b.c", "a.b.c.d")]
    assert [router.context_by_id(1).call(far.known, number.id) for number in router.contexts] == [
        "a", "a.b", "a.b.c", "a.b.c.d"]


def test_context_by_id_anywhere(router):
    first = router.local(name="first")
    second = first.fork(name="second")
    beside = router.local(name="beside")
    for context in (first, second, beside):
        for other in (first, second, beside):
            assert context.call(far.name_of, other.id) == other.name == router.context_by_id(other.id).name
        assert context.call(far.name_of, 0) == "master"
    with pytest.raises(contextree.UsageError, match="there is no context 4711"):
        router.context_by_id(4711)
    with pytest.raises(contextree.UsageError, match="there is no context 4711"):
        second.call(far.name_of, 4711)


def test_p_26_a_context_that_was_passed_is_the_same_object(router):
    first = router.local(name="first")
    second = first.local(name="second")
    assert router.context_by_id(second.id) is second
    for context in (first, second):
        for passed in (first, second):
            answer, text, same = context.call(far.back, passed)
            assert answer is passed and same
            assert text == "<Context %d %s>" % (passed.id, passed.name)
        assert context.call(far.keep, second) and context.call(far.keep, second)
    nested = {"list": [first, (second,)]}
    assert first.call(dict, nested)["list"][1][0] is second


def test_a_context_that_was_passed_can_be_called_downward_and_by_grant(router):
    first, beside = router.local(name="first"), router.local(name="beside")
    below = first.local(name="below")
    assert first.call(far.call_it, below, os.getpid) == below.pid
    with pytest.raises(contextree.Refused, match="not granted"):
        first.with_options(timeout=20).call(far.call_it, beside, os.getpid)
    router.grant(first, beside)
    assert first.call(far.call_it, beside, os.getpid) == beside.pid


def test_a_child_grows_a_child_and_hands_it_up(router):
    first = router.local(name="first")
    own = first.call(far.grow_here, "own")
    assert own.name == "first.own" and own is router.context_by_id(own.id)
    assert own.call(os.getppid) == first.pid
    assert own.parent is first and first.children == [own]
    assert "first.own" in first.call(far.tree_here)


def nothing_was_started(router, context, ids=True):
    """There is ``context`` and nothing else, and no id has been used up (``ids=False``: but those that went ahead of
    the request)."""
    assert router.contexts == [context] and not processes.descendants(context.pid)
    assert [who[0] for who in processes.descendants(os.getpid()) if processes.alive(who)] == [context.pid]
    assert router.local().id == context.id + 1 or not ids


@pytest.mark.parametrize("name", ["a/b", "", "a b", "x" * 129, "x" * 200, "a\n", 3, b"a", ["a"], "\x1b[31m"])
def test_names_that_are_not(router, name):
    """Nothing is started and no id is used up."""
    context = router.local()
    for grow in (router.local, router.fork, context.local, context.fork, functools.partial(router.fork, direct=True),
                 functools.partial(router.ssh, "host"), functools.partial(context.ssh, "host")):
        with pytest.raises(contextree.UsageError, match="name"):
            grow(name=name)
    with pytest.raises(contextree.UsageError, match="name"):
        context.grow(Plan([PYTHON], name, "mine"))
    nothing_was_started(router, context)


def test_full_names_are_long_and_have_an_end(router):
    """Each part has 128 characters, the whole 512: what would not be known above is not started."""
    context = router.local(name="a" * 128)
    for letter in "bc":
        context = context.fork(name=letter * 128)
    assert router.context_by_id(context.id).name == ".".join(letter * 128 for letter in "abc")
    with pytest.raises(contextree.UsageError, match="longer than 512 characters: give shorter names by name="):
        context.fork(name="d" * 128)
    below = context.fork(name="d" * 125)
    assert len(below.name) == 512 and below.call(len, "abc") == 3
    with pytest.raises(contextree.UsageError, match="longer than 512"):
        below.local()
    assert len(router.contexts) == 4 and context.children == [below] and not below.children


def test_unknown_keywords_are_named_and_start_nothing(router):
    context = router.local(name="first")
    for grow in (router.local, router.fork, context.local, context.fork, functools.partial(router.fork, direct=True),
                 functools.partial(router.local, via=context), functools.partial(router.ssh, "host"),
                 functools.partial(context.ssh, "host")):
        with pytest.raises((contextree.UsageError, TypeError), match="bogus"):
            grow(bogus=1)
    with pytest.raises(contextree.UsageError, match="direct"):
        context.fork(direct=True)
    nothing_was_started(router, context, ids=False)


def test_tree_shows_what_there_is(router):
    first = router.local(name="first")
    second = first.fork(name="second")
    first.call(len, b"x" * 300000)
    lines = router.tree().splitlines()
    assert lines[0].split() == ["context", "id", "pid", "by", "state", "python", "start", "rtt", "in", "out"]
    starts = [match.start() for match in re.finditer(r"\S+", lines[0])]
    cells = [lines[1][begin:end].strip() for begin, end in zip(starts, [*starts[1:], None], strict=True)]
    row = dict(zip(lines[0].split(), cells, strict=True))
    assert (row["context"], row["id"], row["pid"], row["by"], row["state"]) == (
        "first", str(first.id), str(first.pid), "local", "up")
    assert row["python"] == "%d.%d.%d" % sys.version_info[:3]
    assert row["start"].endswith(" ms") and row["out"].endswith("kB")
    assert lines[2].startswith("  first.second  ") and str(second.pid) in lines[2]
    second.shutdown()
    assert "first.second" not in router.tree()


def test_stats_count(router):
    first = router.local(name="first")
    before = router.stats()
    for number in range(10):
        first.call(sum, [number])
    after = router.stats()
    assert after["router"]["opened"] == before["router"]["opened"] + 10
    assert after["router"]["channels"] == 0
    assert after["links"]["first"]["frames_in"] >= before["links"]["first"]["frames_in"] + 10
    assert after["children"]["children"] == 1 and after["loop"]["watched"] >= 3
    first.shutdown()
    assert router.stats()["links"] == {} and router.stats()["children"]["reaped"] == 1


def test_dump_of_a_busy_child_shows_what_it_does(router):
    context = router.local().local()
    context.submit(far.busy_in_a_function_with_a_telling_name)
    until(lambda: "busy_in_a_function_with_a_telling_name" in context.dump(), "the busy function in the dump")
    text = context.dump()
    assert "MainThread" in text and "the loop" in text and "tests/tree/far.py" in text


def test_a_slow_callback_of_the_loop_is_named(router):
    def a_slow_callback():
        end = router.broker.clock() + 0.1
        while router.broker.clock() < end:
            pass

    router.broker.defer(a_slow_callback)
    until(lambda: router.stats()["loop"]["slowest"][0] >= 0.1, "the loop to note it")
    assert "a_slow_callback" in router.stats()["loop"]["slowest"][1]


def test_state_and_facts(router):
    context = router.local()
    assert context.state == "up"
    assert context.facts["uid"] == os.getuid() and context.facts["platform"] == sys.platform
    assert context.facts["executable"] == context.call(eval, "__import__('sys').executable")
    context.shutdown()
    assert context.state == "died" and context.pid is None and context.children == []
