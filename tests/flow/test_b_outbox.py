"""B-01 to B-12 where no process is needed: credit, queues, classes and windows as pure bookkeeping."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextree.core.wire.flow import (
    BUDGET, CONTROL_LIMIT, CREDIT_MAX, CREDIT_START, LOG_LIMIT, QUANTUM, WINDOW_START, Bucket, Outbox, Receiving,
    growing,
)
from contextree.core.wire.frames import BULK, CALLS, CONTROL, DATA, LOGS, MAX_PAYLOAD, RESET, SIZE, frame


class Source:
    """A source of bulk frames: ``left`` of them, named by their channel."""

    def __init__(self, channel, left, size=MAX_PAYLOAD):
        self.channel = channel
        self.left = left
        self.size = size

    def pull(self):
        if not self.left:
            return None
        self.left -= 1
        return frame(DATA, 0, BULK, self.channel, 1, 0, b"")[:SIZE], memoryview(bytes(self.size))


def small(cls=CALLS, channel=1, size=40, kind=DATA):
    return frame(kind, 0, cls, channel, 1, 0, bytes(size))


def total(buffers):
    return sum(len(part) for part in buffers)


# -- credit


@given(st.lists(st.tuples(st.sampled_from(["send", "take", "take starved"]), st.integers(0, MAX_PAYLOAD)),
                max_size=300),
       st.integers(SIZE, CREDIT_START))
def test_b_07_credit_is_neither_lost_nor_made(steps, window):
    """What the sender may still send, what is unread, and what is owed make up the window, at any time."""
    flow = Receiving(window)
    credit, unread = window, []
    for what, size in steps:
        if what == "send":
            size = min(size, credit - SIZE)
            if size < 0:
                continue
            credit -= size + SIZE
            unread.append(size + SIZE)
            assert flow.arrived(size)
        elif unread:
            credit += flow.taken(unread.pop(0), what == "take starved" and not unread)
        assert credit == flow.granted
        assert credit + sum(unread) + flow.owed == flow.window
        assert window <= flow.window <= max(window, 2 * CREDIT_MAX)
    while unread:
        credit += flow.taken(unread.pop())
    assert credit >= flow.window / 2, "a sender whose messages were all read is not held up"


@given(st.integers(0, CREDIT_START), st.integers(0, 2 * CREDIT_START))
def test_s_12_more_than_the_credit_is_noticed(window, size):
    assert Receiving(window).arrived(size) is (size + SIZE <= window)


@given(st.integers(0, 100000))
def test_b_10_the_windows_of_all_channels_keep_to_the_budget(channels):
    large = growing(BUDGET, channels)
    assert large >= 4, "some may always grow, or far ones would crawl"
    assert channels * CREDIT_START + large * CREDIT_MAX <= max(BUDGET,
                                                               channels * CREDIT_START + 4 * CREDIT_MAX) + CREDIT_MAX


# -- the outbox


steps = st.lists(st.one_of(
    st.tuples(st.just("push"), st.sampled_from([CONTROL, CALLS, LOGS]), st.integers(0, MAX_PAYLOAD)),
    st.tuples(st.just("ring"), st.integers(1, 5), st.integers(1, MAX_PAYLOAD)),
    st.tuples(st.just("batch"), st.integers(1, 1 << 18), st.just(0)),
    st.tuples(st.just("ack"), st.integers(0, 1 << 18), st.just(0)),
), max_size=80)


@settings(max_examples=200)
@given(steps)
def test_b_12_the_window_is_kept_and_no_byte_is_lost(steps):
    out = Outbox()
    pushed = [0, 0, 0, 0]
    written = acked = 0
    for what, first, second in steps:
        if what == "push":
            data = small(first, size=second)
            out.push(first, data)
            pushed[first] += len(data)
        elif what == "ring":
            (out.calls or out.ring).append(Source(1, first, second))
            pushed[BULK] += first * (second + SIZE)
        elif what == "ack":
            first = min(first, written - acked)
            acked += first
            out.window += first
        else:
            control = out.control_bytes
            buffers, size = out.batch(first)
            assert size == total(buffers)
            assert control == 0 or out.control_bytes == 0, "control goes first, whatever the window"
            written += size - control
        assert out.window == WINDOW_START - (written - acked)
        assert out.window > -(MAX_PAYLOAD + SIZE), "at most one frame goes beyond the window"
        assert out.log_bytes <= LOG_LIMIT + MAX_PAYLOAD + SIZE
        assert out.queued == sum(len(item) for item in out.calls if type(item) is bytes)
    while out:
        out.window = 1 << 30
        buffers, _ = out.batch(1 << 18)
        assert buffers or not out, "something waits and nothing holds it up, yet nothing is written"
    sent = out.sent
    assert sent[CONTROL] == pushed[CONTROL] and sent[CALLS] == pushed[CALLS] and sent[BULK] == pushed[BULK]
    assert sent[LOGS] <= pushed[LOGS] and (out.dropped or sent[LOGS] == pushed[LOGS])


@pytest.mark.parametrize("busy", [(CALLS, BULK, LOGS), (CALLS, BULK), (BULK, LOGS), (CALLS, LOGS)])
def test_b_12_no_class_starves_another(busy):
    out = Outbox()
    if BULK in busy:
        out.ring.append(Source(1, 1 << 30))
    for _ in range(300):
        while CALLS in busy and out.queued < 1 << 20:
            out.push(CALLS, small(size=900))
        while LOGS in busy and out.log_bytes < 200000:
            out.push(LOGS, small(LOGS, size=900))
        out.window = 1 << 22
        out.batch(1 << 18)
    shares = [out.sent[cls] / QUANTUM[cls] for cls in busy]
    assert max(shares) < 1.3 * min(shares), dict(zip(busy, shares, strict=True))


@pytest.mark.parametrize("cls", [CALLS, BULK, LOGS])
def test_b_12_a_class_that_is_alone_has_the_whole_link(cls):
    out = Outbox()
    out.window = 1 << 30
    for _ in range(20):
        if cls == BULK:
            out.ring.append(Source(1, 4))
        else:
            out.push(cls, small(cls, size=MAX_PAYLOAD))
    for _ in range(200):
        if not out:
            break
        assert out.batch(1 << 18)[0] or not out, "it waits for nobody"
    assert not out


def test_b_03_credit_overtakes_data_even_when_the_window_is_used_up():
    out = Outbox()
    out.ring.append(Source(1, 100))
    out.window = 0
    out.push(CONTROL, small(CONTROL, channel=7))
    assert out.batch(1 << 18)[0] == [small(CONTROL, channel=7)]


def test_b_05_sources_take_turns():
    out = Outbox()
    out.window = 1 << 30
    for channel in range(10):
        out.ring.append(Source(channel, 100))
    buffers, _ = out.batch(1 << 18)
    channels = [int.from_bytes(head[4:8], "big") for head in buffers[::2]]
    assert channels == list(range(len(channels))), "one frame each"


def test_b_07_a_source_queues_behind_the_small_frames_before_it_and_a_reset_behind_its_open():
    out = Outbox()
    out.window = 0
    out.push(CALLS, small(channel=5))
    (out.calls or out.ring).append(Source(5, 1, 10))
    out.push(CONTROL, small(CONTROL, channel=5, kind=RESET, size=1))
    out.push(CONTROL, small(CONTROL, channel=6, kind=DATA))
    out.window = 1 << 20
    seen = []
    while out:
        seen += [bytes(part) for part in out.batch(1 << 18)[0]]
    kinds = [(part[0] & 15, part[2], part[7]) for part in seen if len(part) >= SIZE]
    assert kinds[0] == (DATA, CONTROL, 6)
    assert kinds[1] == (DATA, CALLS, 5)
    assert (RESET, CALLS, 5) in kinds, "the reset counts as a call, at both ends of the link"


def test_b_08_control_has_a_limit_and_logs_drop_their_oldest():
    out = Outbox()
    assert all(out.push(CONTROL, small(CONTROL)) for _ in range(CONTROL_LIMIT // 60))
    assert not out.push(CONTROL, small(CONTROL, size=100))
    for number in range(20000):
        out.push(LOGS, small(LOGS, channel=number))
    assert out.log_bytes <= LOG_LIMIT and out.dropped == 20000 - len(out.logs)
    assert out.logs[-1] == small(LOGS, channel=19999)


def test_b_09_a_peer_that_gives_little_credit_costs_linear_time():
    """A megabyte in frames of one byte each: no part of the message is copied again and again."""
    from contextree.core.router import Channel
    from contextree.core.wire.frames import OPENER

    class Stub:
        unsent = {}

    def pulled(count):
        channel = Channel(Stub, 1, 1, OPENER, Stub, 0)
        Stub.id = 0
        channel.out = [[memoryview(bytes(count)), OPENER]]
        start = time.process_time()
        for _ in range(count - 1):
            channel.credit = SIZE + 1
            _, payload = channel.pull()
            assert len(payload) == 1
        return time.process_time() - start

    pulled(1000)
    assert pulled(200000) < 30 * pulled(20000) + 0.5


@given(st.lists(st.floats(0, 10), max_size=200), st.integers(1, 100), st.integers(1, 100))
def test_b_08_a_bucket_gives_no_more_than_its_burst_and_its_rate(gaps, rate, burst):
    bucket = Bucket(rate, burst)
    now = given_ = 0
    for gap in gaps:
        now += gap
        given_ += bucket.take(now)
    assert given_ <= burst + now * rate + 1e-6
