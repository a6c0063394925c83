"""S-10 to S-12, S-38, S-39 and what belongs to them: floods, frames that never end, credit, windows, fuzz.

Why this file is long: one flood after the other against the same tree, which is built once.
"""

import threading

import pytest

from contextree.core.wire import values
from contextree.core.wire.errors import ConnectError, PeerError
from contextree.core.wire.flow import CREDIT_START
from contextree.core.wire.frames import (
    ACK, BULK, CALL, CALLS, CONTROL, CREDIT, DATA, ECHO, FIN, GOAWAY, HELLO, IDS, LOG, MAX_PAYLOAD,
    MODULES, MORE,
    NUMBER, OPEN, OPEN_HEAD, OPENER, PING, PONG, PROBE, RESET, RESOURCE, ROUTE_ADD, SIZE, STREAM,
)
from tests.attacks import functions
from tests.lab.poll import until


def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def flood(child, data, bytes_total):
    """Write ``data`` again and again; how many bytes went out before the parent closed the link. A second thread
    reads."""
    def read():
        try:
            while child.sock.recv(1 << 20):
                pass
        except OSError:
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    block = data * max(1, (1 << 18) // len(data))
    sent = 0
    while sent < bytes_total and child.write(block):
        sent += len(block)
    return sent


def until_closed(tree, child):
    until(lambda: child.context.state == "died", "the link of the attacker to be closed", 20)
    return str(child.context.wait(5))


def call(child, function=functions.echo, *args):
    future = child.context.submit(function, *(args or (1,)))
    return future, child.wait_for(OPEN, lambda frame: frame.payload[0] == CALL)


REQUESTS = {
    "modules": lambda child: b"".join(
        child.frame(OPEN, OPEN_HEAD.pack(MODULES, 0, 0, 1 << 18, 0) + b"\0\0\0\0secretmod%d" % n, flags=FIN | OPENER,
                    cls=CALLS, channel=n) for n in range(1, 5000)),
    "many names": lambda child: b"".join(
        child.frame(OPEN, OPEN_HEAD.pack(MODULES, 0, 0, 1 << 18, 0) + b"\0\0\0\0"
                    + b"\n".join(b"m%d" % k for k in range(5000)),
                    flags=FIN | OPENER, cls=CALLS, channel=n) for n in range(1, 200)),
    "resources": lambda child: b"".join(
        child.frame(OPEN, OPEN_HEAD.pack(RESOURCE, 0, 0, 1 << 18, 0) + values.encode(["name", n]), flags=FIN | OPENER,
                    cls=CALLS, channel=n) for n in range(1, 5000)),
    "calls": lambda child: b"".join(
        child.frame(OPEN, OPEN_HEAD.pack(CALL, 0, 0, 1 << 18, 0), flags=FIN | OPENER, cls=CALLS, channel=n)
        for n in range(1, 5000)),
    "ids": lambda child: child.frame(IDS, NUMBER.pack(1)) * 5000,
    "routes": lambda child: b"".join(
        child.frame(ROUTE_ADD, values.encode([n, child.id, "hostile.x", False, "up", {}]))
        for n in range(10000, 15000)),
    "pings": lambda child: child.frame(PING) * 5000,
    "pongs of nobody's pings": lambda child: child.frame(HELLO) * 5000,
    "goaways": lambda child: child.frame(GOAWAY) * 5000,
    "empty resets": lambda child: child.frame(RESET) * 5000,
    "short credits": lambda child: child.frame(CREDIT, b"abc") * 5000,
    "probes that nobody may send so fast": None,
}


@pytest.mark.parametrize("what", [what for what, make in REQUESTS.items() if make])
def test_s_10_a_flood_of_requests_ends_with_its_link(tree, hostile, what):
    data = REQUESTS[what](hostile)
    before = rss()
    flood(hostile, data, 200 << 20)
    assert "broke the rules" in until_closed(tree, hostile) or "does not read" in until_closed(tree, hostile)
    assert tree.police()["disconnected"] + ("does not read" in str(hostile.context.wait(1))) >= 1
    assert rss() - before < 64 << 20
    assert tree.log.texts


@pytest.mark.parametrize("kind", [PROBE, ECHO, PONG, RESET, CREDIT, DATA, ACK], ids=str)
def test_s_10_a_flood_that_costs_nothing_to_drop_leaves_the_siblings_quick(tree, hostile, kind):
    """Such frames are dropped, at the speed of the link: the loop must still look after the others in between."""
    payload = {CREDIT: NUMBER.pack(1), RESET: b"\0", ACK: NUMBER.pack(0)}.get(kind, b"")
    data = hostile.frame(kind, payload, channel=77, cls=CONTROL, flags=FIN) * 4000
    idle = sorted(tree.sibling.ping(10) for _ in range(20))
    done = threading.Event()

    def attack():
        flood(hostile, data, 8 << 20)
        done.set()

    thread = threading.Thread(target=attack)
    before = rss()
    thread.start()
    pings = []
    while not done.is_set():
        pings.append(tree.sibling.ping(10))
    thread.join()
    pings.sort()
    assert len(pings) > 5
    assert pings[len(pings) // 2] < idle[len(idle) // 2] + 0.25
    assert rss() - before < 64 << 20
    if hostile.context.state == "up":
        tree.settled()


def test_s_10_open_channels_of_a_child_are_counted(tree, hostile):
    """Requests of several frames that do not end: few of them, with little memory each."""
    head = OPEN_HEAD.pack(MODULES, 0, 0, CREDIT_START, 0)
    for number in range(1, 30):
        hostile.send(OPEN, head + b"\0" * 30000, flags=MORE | OPENER, channel=number, cls=CALLS)
    tree.barrier(hostile)
    assert tree.link(hostile).open_count <= 16
    assert tree.police()["violations"] > 0


def test_s_11_a_request_gets_no_credit_for_its_parts(tree, hostile):
    head = OPEN_HEAD.pack(RESOURCE, 0, 0, CREDIT_START, 0)
    hostile.send(OPEN, head, flags=MORE | OPENER, channel=9, cls=BULK)
    sent = 0
    while sent < CREDIT_START - 70000:
        hostile.send(DATA, b"\0" * 65000, flags=MORE | OPENER, channel=9, cls=BULK)
        sent += 65020
    tree.barrier(hostile)
    assert tree.police()["violations"] == 0
    for _ in range(3):
        hostile.send(DATA, b"\0" * 65000, flags=MORE | OPENER, channel=9, cls=BULK)
    reset = hostile.wait_for(RESET)
    assert reset.channel == 9 and b"credit" in reset.payload
    until(lambda: tree.police()["violations"] >= 1, "the violation to be counted")


@pytest.mark.parametrize("length", [0xffffffff, 0x80000000, MAX_PAYLOAD + 1])
def test_s_11_a_length_beyond_the_limit_closes_the_link_at_once(tree, hostile, length):
    hostile.send(DATA, b"x", length=length, cls=BULK)
    assert hostile.closed()
    assert "broke the protocol" in until_closed(tree, hostile)


@pytest.mark.parametrize("fields", [{"version": 0}, {"version": 0x20}, {"version": 0xf0}, {"cls": 4}, {"cls": 255}],
                         ids=repr)
def test_s_11_a_frame_of_another_version_or_class_closes_the_link(tree, hostile, fields):
    hostile.send(DATA, b"x", **fields)
    assert hostile.closed()


def test_s_11_a_frame_that_comes_byte_by_byte_or_never_ends_costs_its_own_size(tree, hostile):
    future, opened = call(hostile)
    data = hostile.frame(DATA, b"\0\x05", dst=0, channel=opened.channel, flags=FIN, cls=CALLS)
    for index in range(len(data)):
        hostile.write(data[index:index + 1])
        if not index % 7:
            assert tree.sibling.call(functions.echo, index) == index
    assert future.result(5) == 5
    hostile.write(hostile.frame(DATA, b"x" * 1000, length=MAX_PAYLOAD, cls=BULK))
    tree.settled()
    assert len(tree.link(hostile).tail) <= MAX_PAYLOAD + SIZE
    with pytest.raises(TimeoutError):
        hostile.context.with_options(timeout=0.2).call(functions.echo, 1)  # the caller's own deadline fires


def test_s_11_a_message_that_never_ends_stops_at_the_limit(tree, hostile):
    """Parts of no size, or of one byte, cost no more memory than they bring; the sum has the router's limit."""
    core = tree.engine.core
    limit, core.max_message = core.max_message, 1 << 20
    try:
        future, opened = call(hostile)
        before = rss()
        left = CREDIT_START
        for size, count in ((0, 100000), (1, 100000), (60000, 40)):
            part = hostile.frame(DATA, b"x" * size, dst=0, channel=opened.channel, flags=MORE, cls=BULK)
            batch = min(1000, CREDIT_START // 4 // len(part))
            for _ in range(count // max(batch, 1)):
                while left < CREDIT_START // 2 and not future.done():
                    frame = hostile.receive()
                    left += NUMBER.unpack(frame.payload)[0] if frame.kind == CREDIT else 0
                    if frame.kind == RESET:
                        assert b"larger than the limit" in frame.payload
                        break
                hostile.write(part * batch)
                left -= len(part) * batch
        assert rss() - before < 16 << 20
        with pytest.raises(Exception, match="larger than the limit"):
            future.result(5)
    finally:
        core.max_message = limit


def test_s_12_more_data_than_credit_is_reset_and_counted(tree, hostile):
    stream = hostile.context.stream(functions.echo, 1)
    opened = hostile.wait_for(OPEN, lambda frame: frame.payload[0] == STREAM)
    for _ in range(CREDIT_START // 60000 + 2):
        hostile.answer(opened, b"\0\xc0" + b"x" * 59978, flags=0, cls=BULK)
    reset = hostile.wait_for(RESET)
    assert reset.channel == opened.channel and b"credit" in reset.payload
    tree.barrier(hostile)
    assert tree.police()["violations"] >= 1
    tree.complaint("credit or window exceeded")
    with pytest.raises(PeerError):
        list(stream)
    stream.close()


def test_s_12_credit_overflow_is_reset_and_credit_for_closed_channels_is_nothing(tree, hostile):
    future, opened = call(hostile)
    for _ in range(3):
        hostile.send(CREDIT, NUMBER.pack(0xffffffff), channel=opened.channel)
        hostile.send(CREDIT, NUMBER.pack(5), channel=99999)
    tree.barrier(hostile)
    assert tree.police()["violations"] == 1
    with pytest.raises(PeerError, match="credit overflow"):
        future.result(5)


def test_s_12_acknowledging_more_than_was_sent_closes_the_link(tree, hostile):
    for _ in range(8):
        hostile.send(ACK, NUMBER.pack(0xffffffff))
    assert hostile.closed()
    assert "acknowledged more" in until_closed(tree, hostile)


def test_s_12_data_after_the_end_is_counted_and_dropped(tree, hostile):
    stream = hostile.context.stream(functions.echo, 1)
    opened = hostile.wait_for(OPEN, lambda frame: frame.payload[0] == STREAM)
    hostile.answer(opened, b"\0\x01", flags=0)
    hostile.answer(opened, b"", flags=FIN)
    hostile.answer(opened, b"", flags=FIN)
    hostile.answer(opened, b"\0\x02", flags=0)
    hostile.answer(opened, b"\0\x03", flags=MORE)
    tree.barrier(hostile)
    assert list(stream) == [1]
    assert tree.engine.core.count["late"] == 3


def test_s_12_empty_data_is_not_free(tree, hostile):
    """Each frame costs its header in credit, so a stream of empty messages has an end too."""
    stream = hostile.context.stream(functions.echo, 1)
    opened = hostile.wait_for(OPEN, lambda frame: frame.payload[0] == STREAM)
    before = rss()
    hostile.write(hostile.frame(DATA, dst=0, channel=opened.channel, cls=CALLS) * (2 * CREDIT_START // SIZE))
    assert b"credit" in hostile.wait_for(RESET).payload
    assert rss() - before < 16 << 20
    with pytest.raises(PeerError):
        list(stream)
    stream.close()


def test_s_12_a_channel_with_a_huge_window_gets_no_more_than_it_was_sent(tree, hostile):
    hostile.open(MODULES, b"\0\0\0\0nothing", window=0xffffffff, channel=3)
    answer = hostile.wait_for(DATA)
    assert answer.channel == 3
    tree.barrier(hostile)
    assert tree.police()["violations"] == 0


def test_s_12_a_channel_with_no_window_cannot_hold_anything_up(tree, hostile):
    hostile.open(MODULES, b"\0\0\0\0nothing\nmore", window=0, channel=3)
    tree.barrier(hostile)
    hostile.open(MODULES, b"\0\0\0\0nothing", channel=4)
    assert hostile.wait_for(DATA).channel == 4


def test_s_12_a_child_that_never_reads_is_closed_when_its_control_frames_pile_up(tree, hostile):
    """It pings and never reads the answers: the queue has a limit, and then the link is closed."""
    tree.link(hostile).opens.rate = tree.link(hostile).opens.burst = tree.link(hostile).opens.level = 1e9
    before = rss()
    data = hostile.frame(PING) * 10000
    while hostile.write(data):
        pass
    assert "does not read" in until_closed(tree, hostile)
    assert rss() - before < 32 << 20


def test_s_38_hello_is_checked(tree):
    bad = [
        {"pid": None}, {"version": None}, {"pid": "x"}, {"pid": float("inf")}, {"pid": -1}, {"version": []},
        {"version": [3]},
        {"version": [3, 6]}, {"version": "3.6"}, {"version": [float("inf")] * 3}, {"version": [3, -6, 1]},
        {"version": 3},
        {"version": list(range(1000))}, {"uid": []}, {"platform": "\x1b[2J"}, {"platform": 5}, {"pid": 1 << 80},
    ]
    for fields in bad:
        with tree.hostile(boot=False) as child:
            child.hello(**fields)
            child.exit()
            with pytest.raises(ConnectError, match="a bad hello"):
                child.result()
            assert child.closed()


@pytest.mark.parametrize("payload",
                         [b"", b"\xc1", values.encode([]), values.encode("x"), values.encode(7), b"\x80\x04K\x01."],
                         ids=repr)
def test_s_38_a_hello_that_is_none(tree, payload):
    with tree.hostile(boot=False) as child:
        child.write(child.nonce + child.frame(HELLO, payload))
        child.exit()
        with pytest.raises(ConnectError, match="a bad hello"):
            child.result()


@pytest.mark.parametrize("kind", [DATA, OPEN, LOG, ROUTE_ADD, PING])
def test_s_38_frames_before_hello_are_refused(tree, kind):
    with tree.hostile(boot=False) as child:
        child.write(child.nonce + child.frame(kind, b"x" * 20))
        child.exit()
        with pytest.raises(ConnectError, match="a bad hello"):
            child.result()


def test_s_38_an_older_or_newer_protocol_is_refused_not_tried(tree):
    for version in (0, 0x20, 0xf0):
        with tree.hostile(boot=False) as child:
            child.write(child.nonce + child.frame(HELLO, b"x", version=version))
            child.exit()
            with pytest.raises(ConnectError, match="broke the protocol"):
                child.result()


def test_s_38_hello_in_anothers_name_and_a_second_hello(tree):
    with tree.hostile(boot=False) as child:
        child.hello(src=tree.sibling.id)
        child.exit()
        with pytest.raises(ConnectError, match="a bad hello"):
            child.result()
    with tree.hostile() as child:
        child.hello(alive=b"", nonce=b"")
        tree.barrier(child)
        assert tree.police()["violations"] == 1
        child.hello()  # with the nonce: that is no frame
        assert child.closed()


def test_s_34_ping_answers_cannot_be_forged_for_others(tree, hostile):
    with tree.hostile(name="other") as other:
        result = []
        thread = threading.Thread(target=lambda: result.append(other.context.ping(10)))
        thread.start()
        ping = other.wait_for(PING)
        for number in range(max(0, ping.channel - 100), ping.channel + 10):
            hostile.send(PONG, channel=number)
            hostile.send(PONG, channel=number, src=other.id)
        tree.barrier(hostile)
        assert not result
        other.send(PONG, channel=ping.channel)
        thread.join(10)
        assert result
