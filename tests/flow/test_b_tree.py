"""B-01 to B-12 with real children: who is slow costs its own sender time, and nobody's memory."""

import itertools
import os
import signal
import threading
from concurrent import futures

import pytest

import contextree
from contextree.core import process
from contextree.core.wire.flow import CREDIT_MAX, CREDIT_START
from contextree.core.wire.frames import ACK, FIN, NUMBER, OPEN, STREAM
from contextree.parent import calls
from contextree.testing import ScriptedChild
from tests.flow import functions
from tests.lab.poll import until

MB = 1 << 20


@pytest.fixture
def router():
    with contextree.Router() as router:
        yield router


def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def median(values):
    return sorted(values)[len(values) // 2]


def unread_bytes(stream):
    return sum(cost for _, _, cost in list(stream.mailbox.items))


def in_background(function, *args):
    future = futures.Future()

    def run():
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run).start()
    return future


def test_b_01_a_function_that_blocks_holds_up_its_own_context_alone(router):
    busy, other = router.local(name="busy"), router.local(name="other")
    future = busy.submit(functions.nap)
    assert busy.ping(10) < 10, "its loop answers all the same"
    assert [other.call(functions.echo, n) for n in range(100)] == list(range(100))
    assert busy.with_options(threads=2).call(functions.echo, 1) == 1
    future.cancel()
    busy.kill()


def test_b_03_b_06_both_directions_full_and_nobody_waits_for_the_other(router):
    """Each end writes 64 MB while the other does, through the same link."""
    child = router.local()
    data = os.urandom(MB)
    replies = [child.submit(functions.echo, data) for _ in range(64)]
    assert all(reply.result(60) == data for reply in replies)
    assert not router.engine.core.channels


def test_b_05_one_unread_stream_of_fifty_holds_up_nobody(router):
    child = router.local().with_options(threads=64)
    before = rss()
    unread = child.stream(functions.endless)
    others = [child.stream(functions.chunks, 20) for _ in range(49)]
    assert sum(len(piece) for piece in itertools.chain(*others)) == 49 * 20 * 65536
    until(lambda: len(unread.mailbox), "the unread one to have something")
    waiting = unread_bytes(unread)
    assert 0 < waiting <= CREDIT_START, "nobody reads it, so it has got its first window and no more"
    assert rss() - before < 64 * MB
    unread.close()
    assert child.call(functions.open_channels) is not None
    until(lambda: not router.engine.core.channels, "the channels to be gone")


def test_b_12_a_ping_during_bulk_comes_between_the_frames(router):
    child = router.local()
    idle = median([child.ping(10) for _ in range(50)])
    future = in_background(lambda: sum(len(piece) for piece in child.stream(functions.chunks, 1500)))
    loaded = []
    while not future.done():
        loaded.append(child.ping(10))
    assert future.result() == 1500 * 65536
    assert len(loaded) > 10
    # a frame of 64 KiB takes well below a millisecond here; a queue of messages would take many
    assert median(loaded) < idle * 20 + 0.05


def test_b_04_an_import_goes_on_during_bulk(router):
    far = router.local(name="far").with_options(threads=4)
    future = in_background(lambda: sum(len(piece) for piece in far.stream(functions.chunks, 1000)))
    assert far.call(functions.rare_import) == "wsgiref.simple_server"
    assert [far.call(functions.echo, n) for n in range(20)] == list(range(20))
    assert future.result(60) == 1000 * 65536


def test_b_07_ten_thousand_cancels_leave_no_channel_and_no_credit_behind(router):
    child = router.local()
    link = router.engine.children[child.id].link
    blocker = child.submit(functions.nap)
    pending = [child.submit(functions.echo, b"x" * 100) for _ in range(10000)]
    assert all(future.cancel() for future in pending)
    assert [future.cancelled() for future in pending] == [True] * 10000
    assert len(router.engine.core.channels) <= 1
    streams = [child.stream(functions.endless, 1000) for _ in range(50)]
    for stream in streams:
        stream.close()
    child.ping(10)
    blocker.cancel()
    assert not any(link.unsent.values())
    child.kill()
    assert not router.engine.core.channels and not router.engine.core.grown


def test_b_07_streams_that_are_closed_early_end_there_too(router):
    child = router.local()
    for _ in range(300):
        with child.stream(functions.endless, 20000) as stream:
            assert len(next(stream)) == 20000
    mine = set(child.call(functions.open_channels))
    assert len(mine) == 1, "only the call that asks"
    link = router.engine.children[child.id].link
    assert not any(link.unsent.values()) and link.open_count == 0 and not router.engine.core.channels


def test_b_07_a_cancel_does_not_overtake_the_call_that_it_cancels(router, tmp_path):
    """While the link is full the call waits in its queue; the reset must not be there first, or the call would run."""
    child = router.local()
    with ScriptedChild(router, "slow") as slow:
        slow.send(ACK, NUMBER.pack(1 << 22))  # so that the link window is not what holds it up
        while router.engine.children[slow.id].link.out.queued < 100000:
            slow.context.submit(functions.echo, b"x" * 10000)
        future = slow.context.submit(functions.echo, "to be cancelled")
        number = future.channel.number
        future.cancel()
        kinds = []
        while len(kinds) < 2:
            frame = slow.receive()
            if frame.channel == number:
                kinds.append(frame.kind)
        assert kinds == [2, 4], "OPEN, then RESET"
    assert child.call(functions.echo, 1) == 1


@pytest.mark.timeout(120)
def test_b_10_many_senders_and_a_slow_reader_keep_to_the_budget(router):
    """40 children, 5 streams each, all sending as much as they may while nobody reads, then somebody slowly does."""
    children = [router.fork().with_options(threads=5) for _ in range(40)]
    before = rss()
    streams = [child.stream(functions.endless) for child in children for _ in range(5)]
    full = CREDIT_START - 2 * 65536
    until(lambda: all(sum(cost for _, _, cost in list(stream.mailbox.items)) >= full for stream in streams),
          "all to be full", 30)
    held = sum(cost for stream in streams for _, _, cost in list(stream.mailbox.items))
    assert held <= len(streams) * CREDIT_START
    for _ in range(3):
        for stream in streams:
            assert len(next(stream)) == 65536
    assert rss() - before < len(streams) * CREDIT_START * 1.2 + 4 * CREDIT_MAX
    assert children[0].ping(10) < 10
    for stream in streams:
        stream.close()


def test_b_10_windows_grow_only_while_the_budget_has_room(router, monkeypatch):
    from contextree.core import router as core

    child = router.local().with_options(threads=20)
    monkeypatch.setattr(core, "BUDGET", 0)
    streams = [child.stream(functions.endless) for _ in range(16)]
    windows = set()
    for _ in range(90):
        for stream in streams:
            next(stream)
        windows.add(tuple(stream.channel.flow.window for stream in streams))
    last = max(windows, key=sum)
    assert sum(window > CREDIT_START for window in last) <= 4
    assert len(router.engine.core.grown) <= 4
    for stream in streams:
        stream.close()
    assert not router.engine.core.grown, "what has ended gives its room back"


def test_b_11_a_dead_child_of_a_relay_gives_back_what_waited_for_it(router):
    """An intermediate forwards to a child that stops, then dies: the others below it never notice."""
    middle = router.local(name="middle")
    dead, alive = middle.fork(name="dead"), middle.fork(name="alive")
    pid = dead.pid
    dead.call(functions.echo, 1)
    os.kill(pid, signal.SIGSTOP)
    waiting = [dead.submit(functions.length, bytes(MB)) for _ in range(14)]
    for number in range(20):
        assert alive.call(functions.length, bytes(MB)) == MB, number
    assert middle.call(functions.memory) < 200 * MB
    os.kill(pid, signal.SIGKILL)
    for future in waiting:
        assert isinstance(future.exception(20), contextree.ContextDied)
    assert [alive.call(functions.length, bytes(MB)) for _ in range(20)] == [MB] * 20
    link = router.engine.children[middle.id].link
    until(lambda: not any(link.unsent.values()) and not link.out, "the link to be empty")
    assert middle.call(functions.echo, 1) == 1


def test_b_11_a_nested_stream_that_nobody_reads_beside_one_at_full_speed(router):
    middle = router.local(name="middle")
    slow, fast = middle.fork(name="slow"), middle.fork(name="fast")
    unread = [slow.with_options(threads=8).stream(functions.endless) for _ in range(4)]
    for stream in unread:
        next(stream)
    assert sum(len(piece) for piece in fast.stream(functions.chunks, 500)) == 500 * 65536
    assert slow.ping(10) < 10
    assert middle.call(functions.memory) < 200 * MB
    for stream in unread:
        stream.close()
    assert slow.call(functions.echo, 2) == 2


def test_b_05_small_and_large_items_of_one_stream_stay_in_order_through_a_relay(router):
    """Small items travel as calls, large ones as bulk: neither may overtake the other, however full the links are."""
    middle = router.local(name="middle")
    below = middle.fork(name="below").with_options(threads=4)
    noise = below.stream(functions.endless, 200000)
    got = [len(item) for item in below.stream(functions.mixed, 300)]
    assert got == [functions.mixed_size(number) for number in range(300)]
    noise.close()


def test_b_08_a_defer_flood_of_other_threads_stops_no_sender(router):
    """The queue of deferred functions is full: whoever holds a link's lock must not wait for the loop, which may want
    it."""
    child = router.local()
    broker = router.broker
    gate = process.Waiter()
    broker.limit = 100
    entered = process.Waiter()
    broker.defer(lambda: (entered.wake(), gate.wait(20)))
    entered.wait()
    for _ in range(100):
        broker.defer_nowait(len, ())
    sent = in_background(lambda: [child.submit(functions.length, bytes(200000)) for _ in range(20)])
    replies = sent.result(10)
    gate.wake()
    assert [reply.result(20) for reply in replies] == [200000] * 20


def test_b_06_who_submits_without_reading_waits_when_too_much_is_under_way(router):
    """A child that does not run takes nothing: the outgoing queue stops at its limit, and goes on when the child
    does."""
    child = router.local()
    child.call(functions.echo, 1)
    link = router.engine.children[child.id].link
    os.kill(child.pid, signal.SIGSTOP)
    before = rss()
    replies = []
    done = in_background(lambda: replies.extend(child.submit(functions.length, bytes(100000)) for _ in range(1000)))
    until(lambda: link.out.queued + sum(link.unsent.values()) >= calls.BACKLOG, "the queue to be full")
    count = len(replies)
    assert not done.done() and count < 1000
    assert link.out.queued + sum(link.unsent.values()) < calls.BACKLOG + 200000
    assert rss() - before < 64 * MB
    os.kill(child.pid, signal.SIGCONT)
    done.result(30)
    assert [reply.result(30) for reply in replies] == [100000] * 1000


def test_b_06_a_waiting_sender_is_told_of_the_end(router):
    child = router.local()
    child.call(functions.echo, 1)
    link = router.engine.children[child.id].link
    os.kill(child.pid, signal.SIGSTOP)
    done = in_background(lambda: [child.submit(functions.length, bytes(100000)) for _ in range(1000)])
    until(lambda: link.out.queued + sum(link.unsent.values()) >= calls.BACKLOG, "the queue to be full")
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(contextree.ContextDied):
        done.result(20)


def test_b_09_a_peer_that_gives_one_byte_of_credit_at_a_time_gets_its_bytes(router):
    with ScriptedChild(router, "miser") as miser:
        stream = miser.context.stream(functions.echo, 1)
        opened = miser.wait_for(OPEN, lambda frame: frame.payload[0] == STREAM)
        miser.answer(opened, b"\0\x05", flags=FIN)
        assert list(stream) == [5]
        assert not any(router.engine.children[miser.id].link.unsent.values())


def test_b_13_counters_add_up_after_a_storm(router):
    child = router.local()
    replies = [child.submit(functions.echo, bytes(number * 100)) for number in range(201)]
    assert sum(len(reply.result(10)) for reply in replies) == 200 * 201 * 50
    link = router.engine.children[child.id].link
    stats = router.stats()["links"][child.name]
    assert stats["queued"] == 0 and stats["bytes_out"] >= sum(stats["sent"])
    assert link.frames_in >= 201 and stats["bytes_in"] > 200 * 201 * 50
    assert router.stats()["router"]["channels"] == 0
