"""S-01 to S-08, MT-06, MT-07, P-62: ids, routes, names and sources that a child may not claim."""

import pytest

from contextree.core.wire import values
from contextree.core.wire.frames import (
    CALL, CALLS, DATA, FIN, GOAWAY, IDS, NUMBER, OPEN, OPENER, PING, RESET, ROUTE_ADD, ROUTE_DEL,
)
from tests.attacks import functions


def route(number, parent, name, trusted=False, state="up", facts=None):
    return values.encode([number, parent, name, trusted, state, {} if facts is None else facts])


def block(child, count=64):
    """Ask for ids as a child that wants children does: (first, end)."""
    assert child.send(IDS, NUMBER.pack(count))
    data = child.wait_for(IDS).payload
    return NUMBER.unpack(data[:4])[0], NUMBER.unpack(data[4:])[0]


def snapshot(tree):
    return {number: (info.name, info.parent, info.link, info.state) for number, info in tree.engine.infos.items()}


@pytest.mark.parametrize("claim",
                         ["root", "itself", "sibling", "unallocated", "another's block", "a string", "negative"])
def test_s_01_claimed_ids_are_refused(tree, hostile, claim):
    with tree.hostile(name="other") as other:
        first, _ = block(other)
        number = {"root": 0, "itself": hostile.id, "sibling": tree.sibling.id, "unallocated": 4000000000,
                  "another's block": first, "a string": "1", "negative": -1}[claim]
        before = snapshot(tree)
        hostile.send(ROUTE_ADD, route(number, hostile.id, "hostile.x"))
        tree.barrier(hostile)
        assert snapshot(tree) == before
        assert tree.police()["violations"] == 1
        tree.complaint("hostile: reported context")
        # what comes later is not spoilt: the true owner gets its id all the same
        other.send(ROUTE_ADD, route(first, other.id, "other.x"))
        tree.barrier(other)
        assert tree.router.context_by_id(first).name == "other.x"


def test_s_01_twenty_violations_cost_the_link_and_no_other(tree, hostile):
    for number in range(21):
        hostile.send(ROUTE_ADD, route(number + 4000000000, hostile.id, "hostile.x"))
    assert hostile.closed()
    assert tree.police()["disconnected"] == 1
    died = hostile.context.wait(5)
    assert "broke the rules" in str(died)


def test_s_02_frames_in_the_name_of_the_root_reach_nobody(tree, hostile, tmp_path):
    canary = tmp_path / "canary"
    from contextree.parent.pickling import pack_call

    data, _, _ = pack_call(functions.write, (str(canary), "x"), {}, None, lambda: False)
    for src in (0, tree.sibling.id, hostile.id, 77777):
        hostile.open(CALL, data, channel=5, dst=tree.sibling.id, src=src)
        hostile.open(CALL, data, channel=6, dst=0, src=src)
    tree.barrier(hostile)
    assert tree.sibling.call(functions.exists, str(canary)) is False
    police = tree.police()
    assert police["spoofed"] == 6  # three false sources, two frames each
    assert police["refused"] == 2
    tree.complaint("in the name of context 0")


@pytest.mark.parametrize("name", [
    "hostile.a\nb", "hostile.\x1b[2J", "hostile.]", "hostile." + "x" * 65000, "hostile.\u202eabc", "", 7, None,
    "hostile./x", "sibling.x", "sibling", "other", "hostile", "hostilex", b"hostile.x",
])
def test_s_03_names_are_checked(tree, hostile, name):
    first, _ = block(hostile)
    before = snapshot(tree)
    hostile.send(ROUTE_ADD, route(first, hostile.id, name)[:65536])
    tree.barrier(hostile)
    assert snapshot(tree) == before
    assert tree.police()["violations"] == 1
    tree.settled()
    assert all(line.isprintable() and len(line) < 1000 for line in tree.log.texts)


def test_mt_07_a_name_is_given_once_and_by_the_parent_that_made_it(tree, hostile):
    first, _ = block(hostile)
    hostile.send(ROUTE_ADD, route(first, hostile.id, "hostile.x", state="connecting"))
    hostile.send(ROUTE_ADD, route(first, hostile.id, "hostile.y"))
    hostile.send(ROUTE_ADD, route(hostile.id, 0, "sibling"))
    hostile.send(ROUTE_ADD, route(tree.sibling.id, 0, "hostile.sibling"))
    hostile.send(ROUTE_ADD, route(first + 1, tree.sibling.id, "sibling.x"))
    tree.barrier(hostile)
    assert tree.router.context_by_id(first).name == "hostile.x"
    assert tree.router.context_by_id(hostile.id).name == "hostile"
    assert tree.router.context_by_id(tree.sibling.id).name == "sibling"
    assert tree.police()["violations"] == 4
    hostile.send(ROUTE_ADD, route(first, hostile.id, "hostile.x"))
    tree.barrier(hostile)
    assert tree.router.context_by_id(first).state == "up"


@pytest.mark.parametrize("facts", [
    {"version": 5}, {"version": "x" * 200}, {"started": "soon"}, {"pid": [1]}, {"method": 1}, {"version": [3, "x"]},
    {"via": {}},
    {"started": float("nan")}, {"platform": "\x1b[2J"}, {"executable": "a\nb"}, {"pid": 10 ** 200}, {"uid": "root"},
    {1: 2}, [1],
])
def test_s_03_facts_of_a_subtree_cannot_break_the_tree_view(tree, hostile, facts):
    first, _ = block(hostile)
    hostile.send(ROUTE_ADD, route(first, hostile.id, "hostile.x", facts=facts))
    tree.barrier(hostile)
    text = tree.router.tree()
    assert "sibling" in text and all(line.isprintable() for line in text.splitlines())
    assert len(text.splitlines()) == 1 + len(tree.engine.infos)


def test_s_03_a_chain_of_contexts_has_an_end(tree, hostile):
    first, _ = block(hostile, 256)
    parent = hostile.id
    name = "hostile"
    for number in range(first, first + 60):
        name += ".x"
        hostile.send(ROUTE_ADD, route(number, parent, name[:128]))
        parent = number
    tree.barrier(hostile)
    assert "hostile.x.x" in tree.router.tree()
    for number in range(first + 60, first + 70):
        hostile.send(ROUTE_ADD, route(number, parent, name[:128]))
        parent = number
    tree.barrier(hostile)
    assert tree.police()["violations"] > 0


def test_s_04_a_sibling_as_source_is_dropped_and_counted(tree, hostile):
    for kind in (DATA, OPEN, RESET, PING, ROUTE_ADD, ROUTE_DEL, GOAWAY):
        hostile.send(kind, b"x" * 20, src=tree.sibling.id, channel=1, cls=CALLS)
    tree.barrier(hostile)
    assert tree.police()["spoofed"] == 7
    tree.complaint("in the name of context %d" % tree.sibling.id)


def test_s_05_replies_to_the_siblings_calls_cannot_be_forged(tree, hostile, tmp_path):
    gate = tmp_path / "gate"
    future = tree.sibling.submit(functions.wait_for, str(gate))
    numbers = {number for _, number, _ in tree.engine.core.channels}
    assert numbers
    for number in numbers | set(range(max(numbers) + 20)):
        for src in (hostile.id, tree.sibling.id):
            for flags in (FIN, FIN | OPENER):
                hostile.send(DATA, b"\0\xa6forged", channel=number, src=src, flags=flags, cls=CALLS)
                hostile.send(RESET, b"\0no", channel=number, src=src, flags=flags)
    tree.barrier(hostile)
    gate.write_text("go")
    assert future.result(10) == "the true answer"
    assert tree.police()["spoofed"] > 0 and tree.engine.core.count["late"] > 0


def call(child):
    """Have the root call the hostile child: (future, the OPEN frame)."""
    future = child.context.submit(functions.echo, 1)
    opened = child.wait_for(OPEN, lambda frame: frame.payload[0] == CALL)
    return future, opened


def test_s_06_only_the_first_reply_counts(tree, hostile):
    future, opened = call(hostile)
    hostile.answer(opened, b"\0\x01")
    hostile.answer(opened, b"\0\x02")
    tree.barrier(hostile)
    assert future.result(5) == 1
    assert tree.engine.core.count["late"] == 1


def test_s_06_a_reply_that_claims_that_more_will_come_ends_the_call(tree, hostile):
    future, opened = call(hostile)
    hostile.answer(opened, b"\0\x01", flags=0)
    hostile.answer(opened, b"\0\x02", flags=0)
    hostile.answer(opened, b"\0\x03")
    tree.barrier(hostile)
    assert future.result(5) == 1
    assert opened.channel not in [number for _, number, _ in tree.engine.core.channels]


def test_s_06_a_blocking_call_likewise(tree, hostile):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(hostile.context.call, functions.echo, 1)
        opened = hostile.wait_for(OPEN, lambda frame: frame.payload[0] == CALL)
        hostile.answer(opened, b"\0\x01", flags=0)
        hostile.answer(opened, b"\0\x02", flags=0)
        assert future.result(5) == 1
    tree.barrier(hostile)
    assert opened.channel not in [number for _, number, _ in tree.engine.core.channels]


def test_s_06_a_reply_after_the_cancel_is_dropped(tree, hostile):
    future, opened = call(hostile)
    assert future.cancel()
    hostile.wait_for(RESET)
    hostile.answer(opened, b"\0\x01")
    tree.barrier(hostile)
    assert tree.engine.core.count["late"] == 1


def test_s_06_a_reply_on_a_channel_of_another_child_is_dropped(tree, hostile):
    with tree.hostile(name="other") as other:
        future, opened = call(other)
        hostile.answer(opened, b"\0\x07")
        tree.barrier(hostile)
        assert not future.done()
        other.answer(opened, b"\0\x01")
        assert future.result(5) == 1


def test_s_07_a_child_can_neither_call_upward_nor_end_anybody(tree, hostile):
    hostile.send(GOAWAY, b"0", dst=tree.sibling.id)
    hostile.send(GOAWAY, b"0", dst=0)
    tree.complaint("may not end others")
    for number, kind in enumerate((1, 2, 3, 6, 0, 255)):
        hostile.open(kind, b"\1x", channel=100 + number)
        reset = hostile.wait_for(RESET)
        assert reset.channel == 100 + number and b"not granted" in reset.payload
        hostile.open(kind, b"\1x", channel=200 + number, dst=tree.sibling.id)
        reset = hostile.wait_for(RESET)
        assert reset.channel == 200 + number and reset.src == tree.sibling.id
    tree.barrier(hostile)
    assert tree.police()["refused"] == 12
    assert tree.police()["violations"] == 2
    assert tree.sibling.state == "up"


def test_s_08_route_del_of_others_changes_nothing(tree, hostile):
    before = snapshot(tree)
    for numbers in ([tree.sibling.id], [0], [hostile.id], [99999], [0, tree.sibling.id, hostile.id], ["x"], [None],
                    [[]]):
        hostile.send(ROUTE_DEL, values.encode([numbers, "gone"]))
    tree.barrier(hostile)
    assert snapshot(tree) == before
    assert tree.police()["refused"] + tree.police()["violations"] >= 8
    assert tree.sibling.call(functions.echo, 3) == 3


@pytest.mark.parametrize("payload", [
    b"", b"\xc1", values.encode([]), values.encode(5), values.encode({}), values.encode([1, 2, 3]),
    values.encode([5, "x"]), values.encode([[1], "x", 3]), values.encode([None, None]), values.encode("xx"),
    values.encode([[1.5], float("inf")]),
    values.encode([1, {}, "n", [], {}, ()]), values.encode([[], [], [], [], [], []]),
], ids=repr)
@pytest.mark.parametrize("kind", [ROUTE_ADD, ROUTE_DEL, IDS])
def test_s_08_malformed_reports_are_violations(tree, hostile, kind, payload):
    before = snapshot(tree)
    hostile.send(kind, payload)
    tree.barrier(hostile)
    assert snapshot(tree) == before


def test_p_62_id_blocks_never_overlap(tree, hostile):
    with tree.hostile(name="other") as other:
        got = []
        for count in (1, 64, 1, 1000, 4096, 2):
            got += [block(child, count) for child in (hostile, other)]
        ids = [number for first, end in got for number in range(first, end)]
        assert len(ids) == len(set(ids))
        assert not {0, hostile.id, other.id, tree.sibling.id} & set(ids)
        assert min(end - first for first, end in got) >= 1


def test_p_62_the_number_of_ids_of_one_child_has_a_limit(tree, hostile):
    for _ in range(20):
        hostile.send(IDS, NUMBER.pack(4096))
    tree.barrier(hostile)
    assert tree.police()["violations"] > 0
    assert tree.link(hostile).blocks.room() <= (1 << 16) + 4096 + 64
    for count in (0, 4097, 0xffffffff):
        hostile.send(IDS, NUMBER.pack(count))
    tree.barrier(hostile)


def test_p_62_an_id_is_never_given_a_second_life(tree, hostile):
    first, _ = block(hostile)
    hostile.send(ROUTE_ADD, route(first, hostile.id, "hostile.x"))
    hostile.send(ROUTE_DEL, values.encode([[first], "ended"]))
    tree.barrier(hostile)
    assert tree.router.context_by_id(first).state == "died"
    hostile.send(ROUTE_ADD, route(first, hostile.id, "hostile.y"))
    tree.barrier(hostile)
    assert tree.router.context_by_id(first).state == "died"
    assert tree.police()["violations"] == 1
