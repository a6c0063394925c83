"""S-34, S-40, P-24, P-63, MT-06: who may talk to whom, and what a lying intermediate can do."""

import pytest

import contextree
from contextree.core.wire import values
from contextree.core.wire.frames import (
    CALL, CALLS, DATA, FIN, IDS, NUMBER, OPEN, PING, PONG, RESET, ROUTE_ADD, ROUTE_DEL,
)
from contextree.testing import ScriptedChild
from tests.attacks import functions
from tests.lab.poll import until


@pytest.fixture(scope="module")
def family():
    """root -> a, b, middle -> left, right; a and b are beside each other, left and right below one intermediate."""
    with contextree.Router() as router:
        a, b, middle = router.local(name="a"), router.local(name="b"), router.local(name="middle")
        left, right = middle.fork(name="left"), middle.fork(name="right")
        yield router, a, b, middle, left, right


def refusals(context):
    return context.call(functions.police_here)["refused"]


@pytest.mark.leaks("the family of this module starts its threads when they are first needed")
def test_s_40_without_a_grant_siblings_are_refused_where_their_ways_meet(family):
    router, a, b, middle, left, right = family
    before = dict(router.engine.count)
    with pytest.raises(contextree.Refused, match="not granted"):
        a.call(functions.call_other, b, 1)
    assert router.engine.count["refused"] == before["refused"] + 1
    with pytest.raises(contextree.Refused, match="not granted"):
        left.call(functions.call_other, right, 1)
    assert router.engine.count["refused"] == before["refused"] + 1, "the intermediate refuses, the root is not asked"
    assert refusals(middle) == 1
    with pytest.raises(contextree.Refused, match="not granted"):
        left.call(functions.call_other, a, 1)
    assert router.engine.count["refused"] == before["refused"] + 2
    assert b.call(functions.echo, "alive") == "alive"


@pytest.mark.leaks("the family of this module starts its threads when they are first needed")
def test_s_40_p_63_p_24_a_grant_binds_both_subtrees_in_one_direction(family):
    router, a, b, _middle, left, right = family
    router.grant(left, right)
    assert left.call(functions.call_other, right, 5) == (5, right.id)
    with pytest.raises(contextree.Refused):
        right.call(functions.call_other, left, 5)
    with pytest.raises(contextree.Refused):
        left.call(functions.call_other, a, 5)
    with pytest.raises(contextree.Refused):
        a.call(functions.call_other, right, 5)
    router.grant(a, b)
    below_a, below_b = a.fork(name="below"), b.fork(name="below")
    assert below_a.call(functions.call_other, below_b, 6) == (6, below_b.id)
    assert a.call(functions.call_other, below_b, 7) == (7, below_b.id)
    with pytest.raises(contextree.Refused):
        below_b.call(functions.call_other, below_a, 6)
    assert list(below_a.call(functions.stream_other, below_b, 50)) == list(range(50))
    below_b.shutdown()
    with pytest.raises(contextree.ContextreeError):
        below_a.call(functions.call_other, below_b, 6)
    assert a.call(functions.call_other, b, 8) == (8, b.id)


@pytest.mark.leaks("the family of this module starts its threads when they are first needed")
def test_mt_06_a_name_is_the_same_in_every_ancestor(family):
    _router, _a, _b, middle, left, _right = family
    third = left.fork(name="third")
    try:
        assert third.name == "middle.left.third"
        for context in (middle, left, third):
            assert context.call(functions.name_of, third.id) == "middle.left.third"
    finally:
        third.shutdown()


@pytest.fixture
def intermediate(tree):
    """A hostile intermediate with one true-looking child of its own: (scripted child, id of the one below)."""
    with tree.hostile() as child:
        child.send(IDS, NUMBER.pack(1))
        first = NUMBER.unpack(child.wait_for(IDS).payload[:4])[0]
        child.send(ROUTE_ADD, values.encode([first, child.id, "hostile.below", False, "up", {}]))
        tree.barrier(child)
        yield child, first


def test_s_34_what_an_intermediate_withholds_ends_by_the_callers_deadline(tree, intermediate):
    child, number = intermediate
    below = tree.router.context_by_id(number)
    with pytest.raises(contextree.CallTimeout):
        below.with_options(timeout=0.2).call(functions.echo, 1)
    with pytest.raises(contextree.CallTimeout):
        below.ping(0.2)
    child.wait_for(PING)
    assert tree.sibling.call(functions.echo, 1) == 1


def test_s_34_replays_and_reordering_affect_its_own_subtree_alone(tree, intermediate):
    child, number = intermediate
    below = tree.router.context_by_id(number)
    futures = [below.submit(functions.echo, n) for n in range(5)]
    opened = [child.wait_for(OPEN, lambda frame: frame.payload[0] == CALL) for _ in range(5)]
    for position in (3, 1, 1, 4, 3, 0, 2, 2):
        child.answer(opened[position], b"\0" + bytes([position]), src=number)
    for frame in opened:  # sent back as they came, and in the name of the sibling
        child.send(OPEN, frame.payload, channel=frame.channel, dst=0, src=number, flags=frame.flags, cls=CALLS)
        child.send(DATA, b"\0\x09", channel=frame.channel, dst=0, src=tree.sibling.id, flags=FIN, cls=CALLS)
    tree.barrier(child)
    assert [future.result(5) for future in futures] == [0, 1, 2, 3, 4]
    assert tree.police()["spoofed"] == 5 and tree.police()["refused"] == 5


def test_s_34_a_subtree_can_be_lost_by_its_intermediate_and_nobody_else_is(tree, intermediate):
    child, number = intermediate
    below = tree.router.context_by_id(number)
    future = below.submit(functions.echo, 1)
    child.send(ROUTE_DEL, values.encode([[number], "x" * 30000 + "\x1b[2J"]))
    with pytest.raises(contextree.ContextDied):
        future.result(5)
    assert below.state == "died" and tree.sibling.state == "up"


def test_s_40_a_hostile_grandchild_below_an_honest_intermediate(tree):
    """The police is in every parent: what a grandchild may not do ends at its own parent, whose link lives on."""
    middle = tree.router.local(name="middle")
    try:
        with ScriptedChild(tree.router, "bad", via=middle) as bad:
            assert bad.name == "middle.bad" and bad.parent == middle.id
            for src in (0, middle.id, tree.sibling.id):
                bad.open(CALL, b"x", dst=0, src=src, channel=3)
                bad.open(CALL, b"x", dst=tree.sibling.id, src=src, channel=3)
            bad.open(CALL, b"x", dst=tree.sibling.id, channel=4)
            reset = bad.wait_for(RESET)
            assert reset.channel == 4 and b"not granted" in reset.payload
            police = middle.call(functions.police_here)
            assert police["spoofed"] == 6
            assert tree.police()["spoofed"] == 0 and tree.police()["refused"] == 1
            tree.complaint("in the name of")
            # what is in the class of control frames passes every queue, so it is not for data
            bad.send(DATA, b"x" * 60000, dst=0, channel=9)
            bad.send(PONG, b"x" * 60000, dst=0, channel=9)
            assert tree.sibling.call(functions.echo, 3) == 3
            until(lambda: middle.call(functions.police_here)["violations"] == 2, "the violations to be counted")
            # a flood of control frames for the root costs the grandchild, not the link of its parent
            block = bad.frame(PONG, b"x" * 4000, dst=0) * 60
            for _ in range(40):
                bad.write(block)
            assert middle.call(functions.echo, 4) == 4
            for number in range(40):
                bad.send(DATA, b"x" * 30, dst=0, channel=number)
            assert bad.closed()
            assert "broke the rules" in str(bad.context.wait(5))
        assert middle.call(functions.echo, 5) == 5
    finally:
        middle.shutdown()
        tree.engine.core.count.update(dict.fromkeys(tree.engine.core.count, 0))


def test_s_11_bulk_beyond_the_window_through_an_intermediate_closes_that_link_alone(tree):
    """The one that it is for does not read; who forwards must not be filled up."""
    middle = tree.router.local(name="middle")
    try:
        sink = middle.fork(name="sink")
        with ScriptedChild(tree.router, "bad", via=middle) as bad:
            tree.router.grant(bad.context, sink)
            sink.submit(functions.stop_myself)
            before = middle.call(functions.memory)
            frame = bad.frame(DATA, b"x" * 65536, dst=sink.id, channel=1, flags=4, cls=2)
            sent = 0
            while sent < 64 << 20 and bad.write(frame):
                sent += len(frame)
            assert bad.closed() and sent < 64 << 20
            assert "window" in str(bad.context.wait(5))
            assert middle.call(functions.memory) - before < 48 << 20
            assert middle.call(functions.echo, 5) == 5
        sink.kill()
    finally:
        middle.shutdown()
