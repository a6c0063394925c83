"""Channels: two-way, paced, closed from either end, handed from context to context."""

import gc
import os
import threading
import time

import pytest

import contextree
from contextree.core.wire.flow import CREDIT_START
from contextree.parent.channel_end import BURIED
from tests.calls import far_ends as f
from tests.calls.functions import Adder, identity
from tests.lab.poll import until


def fill(channel, item):
    """Send until the channel is full."""
    while channel.send_nowait(item):
        pass


class TestTalking:
    def test_both_ways_in_order(self, place):
        with place.channel() as channel:
            future = place.submit(f.double_all, channel)
            for number in range(50):
                channel.send(number)
            assert [channel.receive(timeout=10) for _ in range(50)] == list(range(0, 100, 2))
            channel.send_eof()
            assert list(channel) == ["the end"]
            assert future.result(10) == 50

    def test_p_11_iteration_ends_after_what_was_buffered(self, place):
        channel = place.channel()
        future = place.submit(f.send_all, channel.connect(), [1, "two", b"three", None, {"four": (4,)}])
        assert future.result(10) is None
        assert list(channel) == [1, "two", b"three", None, {"four": (4,)}]
        with pytest.raises(contextree.Closed):
            channel.receive(timeout=10)
        with pytest.raises(contextree.Closed):
            channel.send("more")

    def test_large_and_small_bytes_and_objects_arrive_whole(self, place):
        with place.channel() as channel:
            future = place.submit(f.lengths, channel)
            sent = [os.urandom(size) for size in (0, 1, 4096, 4097, 70000, 3 << 20)]
            for data in sent:
                channel.send(data)
            channel.send({"a": [sent[4]]})
            channel.send_eof()
            assert future.result(20) == [len(data) for data in sent] + ["dict"]

    def test_values_of_our_own_modules_are_shared_as_for_calls(self, place):
        with place.channel() as channel:
            future = place.submit(f.take_one, channel)
            channel.send(Adder(5))
            assert future.result(10) == "Adder"

    def test_what_cannot_be_sent_is_an_error_and_the_channel_lives_on(self, local):
        with local.channel() as channel:
            future = local.submit(f.take_one, channel)
            with pytest.raises(contextree.NotSendable):
                channel.send(threading.Lock())
            channel.send("fine")
            assert future.result(10) == "str"

    def test_a_channel_whose_far_end_is_here(self, router, place):
        with router.channel() as channel:
            future = place.submit(f.ready_and_double, channel)
            assert channel.receive(timeout=20) == "ready", "the one who was called speaks first"
            for number in range(20):
                channel.send(number)
            channel.send_eof()
            assert list(channel) == list(range(0, 40, 2)) + ["the end"]
            assert future.result(10) == 20

    def test_p_27_a_channel_comes_back_as_the_same_object(self, router, place):
        for channel in (place.channel(), router.channel()):
            assert place.call(identity, channel) is channel
            assert place.call(identity, [channel, channel])[1] is channel


class TestPacing:
    def test_b_05_a_sender_waits_and_its_memory_is_bounded(self, local):
        with local.channel() as channel:
            gate = local.channel()
            future = local.submit(f.count_after, channel, gate)
            fill(channel, b"x" * 10000)
            sent = 0
            with pytest.raises(contextree.CallTimeout):
                channel.send(b"late", timeout=0)
            waiting = sum(len(view) for view, _ in channel.end.channel.out)
            assert waiting < 4 * CREDIT_START
            gate.send("go")
            for sent in range(200):  # noqa: B007  its last value is used
                channel.send(b"y" * 10000, timeout=10)
            channel.send_eof()
            assert future.result(10) > sent

    def test_p_12_zero_timeout_differs_from_waiting(self, local):
        with local.channel() as channel:
            with pytest.raises(contextree.CallTimeout):
                channel.receive_nowait()
            future = local.submit(f.double_all, channel)
            channel.send(1)
            assert channel.receive(timeout=10) == 2
            with pytest.raises(contextree.CallTimeout):
                channel.receive(timeout=0.01)
            channel.send(2)
            assert channel.receive() == 4, "a timeout lost nothing"
            channel.send_eof()
            assert future.result(10) == 2

    def test_an_unread_channel_holds_up_no_other(self, local):
        with local.channel() as stuck, local.channel() as other:
            holder = local.with_options(threads=2)
            gate = local.channel()
            waiting = holder.submit(f.count_after, stuck, gate)
            fill(stuck, b"x" * 50000)
            future = holder.submit(f.double_all, other)
            other.send(4)
            assert other.receive(timeout=10) == 8
            other.send_eof()
            assert future.result(10) == 1
            stuck.send_eof()
            gate.send("go")
            assert waiting.result(10) > 0


class TestEnding:
    def test_p_10_closing_wakes_all_who_wait(self, local):
        channel = local.channel()
        outcomes = []

        def wait():
            try:
                outcomes.append(channel.receive())
            except contextree.Closed as error:
                outcomes.append(error)

        threads = [threading.Thread(target=wait) for _ in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: len(channel.mailbox.waiters) == 5, "five who wait")
        channel.close()
        for thread in threads:
            thread.join(10)
        assert [type(outcome) for outcome in outcomes] == [contextree.Closed] * 5

    def test_close_delivers_what_was_sent_and_tells_the_sender_there(self, place):
        channel = place.channel()
        future = place.submit(f.read_then_write, channel)
        for number in range(100):
            channel.send(number)
        channel.close()
        assert future.result(20) == (100, "Closed")

    def test_what_was_sent_before_eof_arrives_though_the_handle_is_gone(self, place):
        """Its end is closed as soon as it has sent its last, while much of that still waits for credit."""
        for _ in range(10):
            with place.channel() as channel:
                sending = place.submit(f.send_and_forget, channel, 16)
                assert [len(data) for data in channel] == [65536] * 16
                assert sending.result(20) == "sent"

    def test_who_sends_to_an_end_that_was_closed_after_eof_is_told(self, place):
        channel = place.channel()
        future = place.submit(f.send_until_error, channel.connect())
        channel.send_eof()
        channel.close()
        assert future.result(20) in ("CallCancelled", "Closed")

    def test_an_error_in_the_block_aborts(self, place):
        channel = place.channel()
        future = place.submit(f.read_to_error, channel.connect())
        channel.send(1)
        assert channel.receive(timeout=10) == "got 1"
        with pytest.raises(ZeroDivisionError), channel:
            raise ZeroDivisionError
        assert future.result(10) == "CallCancelled"

    def test_p_01_the_death_of_the_other_end(self, router, place):
        channel = place.channel()
        future = place.submit(f.echo_then_wait, channel)
        channel.send("a")
        assert channel.receive(timeout=10) == "a"
        place.kill()
        with pytest.raises(contextree.ContextDied):
            channel.receive(timeout=10)
        with pytest.raises(contextree.ContextDied):
            channel.send("b")
        with pytest.raises(contextree.ContextDied):
            future.result(10)

    def test_what_came_before_a_death_is_still_there(self, local):
        channel = local.channel()
        local.submit(f.send_then_die, channel.connect(), 3)
        assert isinstance(local.wait(10), contextree.ContextDied)
        assert [channel.receive(timeout=10) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(contextree.ContextDied):
            channel.receive(timeout=10)

    def test_a_forgotten_handle_closes_its_end(self, local):
        channel = local.channel()
        future = local.submit(f.read_to_error, channel)
        channel.send(1)
        assert channel.receive(timeout=10) == "got 1"
        core = channel.end.core
        del channel
        gc.collect()
        assert future.result(10) == "Closed"
        until(lambda: not core.channels, "nothing is left of it")

    def test_nothing_is_left_after_many(self, router, local):
        core = router.engine.core
        for _ in range(BURIED + 50):
            with local.channel() as channel:
                future = local.submit(f.double_all, channel)
                channel.send(1)
                assert channel.receive(timeout=10) == 2
            assert future.result(10) == 1
        until(lambda: not core.channels, "the channels here")
        until(lambda: local.call(f.open_channels) <= 1, "those there, but for this call's")
        assert not core.early
        assert local.call(f.graves) <= BURIED, "what has ended is remembered for a while, not for ever"

    def test_mt_01_in_a_forked_process_it_is_refused_and_harmless(self, local):
        with local.channel() as channel:
            future = local.submit(f.double_all, channel)
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    channel.receive(timeout=1)
                except contextree.ForkedError:
                    channel.close()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            channel.send(21)
            assert channel.receive(timeout=10) == 42
            channel.send_eof()
            assert future.result(10) == 1


class TestHandedOn:
    def test_two_siblings_with_a_grant_talk_past_us(self, router):
        left, right = router.local(name="left"), router.fork(name="right")
        router.grant(left, right)
        before = sum(branch.link.bytes_in for branch in router.engine.children.values())
        channel = right.channel()
        total = right.submit(f.lengths, channel)
        sent = left.submit(f.send_all, channel, [b"x" * 1000] * 50)
        assert sent.result(20) is None
        assert total.result(10) == [1000] * 50
        assert not router.engine.core.channels
        assert sum(branch.link.bytes_in for branch in router.engine.children.values()) - before < 100_000

    def test_s_40_without_a_grant_they_are_refused(self, router):
        left, right = router.local(name="left"), router.local(name="right")
        channel = right.channel()
        waiting = right.submit(f.take_one, channel)
        with pytest.raises(contextree.Refused):
            left.call(f.send_and_wait, channel)
        with channel:
            channel.send("from here")
            assert waiting.result(10) == "str", "who was refused has not taken the other end"

    def test_gi_15_there_are_two_ends_and_no_third(self, router):
        left, right = router.local(name="left"), router.local(name="right")
        router.grant(left, right)
        with right.channel() as channel:
            future = right.submit(f.double_all, channel)
            channel.send(1)
            assert channel.receive(timeout=10) == 2
            with pytest.raises(contextree.Refused, match="two ends"):
                left.call(f.send_and_wait, channel)
            channel.send_eof()
            assert future.result(10) == 1

    def test_who_comes_when_both_ends_have_gone_is_told_so(self, router):
        left, right = router.local(name="left"), router.local(name="right")
        router.grant(left, right)
        channel = right.channel()
        future = right.submit(f.double_all, channel)
        with channel:
            channel.send(1)
            assert channel.receive(timeout=10) == 2
        assert future.result(10) == 1
        with pytest.raises(contextree.Refused, match="has ended"):
            left.call(f.send_and_wait, channel)

    def test_a_grandchild_reaches_the_root_by_a_channel(self, router):
        below = router.local().fork()
        with router.channel() as channel:
            future = below.submit(f.send_all, channel, list(range(10)))
            assert list(channel) == list(range(10))
            assert future.result(10) is None


class TestUntrusted:
    def test_plain_data_upward_and_anything_downward(self, stranger):
        with stranger.channel() as channel:
            future = stranger.submit(f.double_all, channel)
            channel.send(3)
            assert channel.receive(timeout=10) == 6
            channel.send_eof()
            assert future.result(10) == 1
        with stranger.channel() as channel:
            channel.send(1)
            with pytest.raises(contextree.NotSendable):
                stranger.call(f.send_object, channel)

    def test_p_26_p_27_handles_come_back_as_themselves(self, router, stranger, local):
        channel = stranger.channel()
        assert stranger.call(identity, [channel, stranger, local]) == [channel, stranger, local]

    def test_s_31_a_channel_that_is_not_its_own_is_refused(self, router, stranger, local):
        with pytest.raises(contextree.DecodeError, match="not its sender's"):
            stranger.call(f.forge_channel, local.id)
        assert isinstance(stranger.call(f.own_channel), contextree.Channel), "one to itself it may give away"
        with pytest.raises(contextree.DecodeError, match="not known here"):
            stranger.call(f.forge_context, 4_000_000)

    def test_s_40_a_token_that_nobody_awaits_opens_nothing(self, router, stranger):
        before = router.engine.count["refused"]
        with pytest.raises(contextree.Refused):
            stranger.call(f.open_forged, 0)
        assert router.engine.count["refused"] == before + 1
        assert not router.engine.core.early


class TestSelect:
    def test_all_are_served_in_turn(self, local):
        channels = [local.channel() for _ in range(8)]
        pool = local.with_options(threads=8)
        for channel in channels:
            pool.submit(f.send_all, channel.connect(), list(range(30)))
        counts = dict.fromkeys(channels, 0)
        left = list(channels)
        while left:
            ready = contextree.select(left, timeout=20)
            assert ready
            first = ready[0]  # the worst that a caller can do
            try:
                first.receive_nowait()
                counts[first] += 1
            except contextree.Closed:
                left.remove(first)
        assert set(counts.values()) == {30}

    def test_a_flood_does_not_starve_a_trickle(self, local):
        pool = local.with_options(threads=2)
        flood, trickle = local.channel(), local.channel()
        for channel, many in ((flood, 2000), (trickle, 5)):
            pool.submit(f.send_all, channel.connect(), [0] * many)
        until(lambda: len(trickle.mailbox) == 5 and len(flood.mailbox) > 50, "something of both")
        order = []
        while order.count(trickle) < 5:
            first = contextree.select([flood, trickle], timeout=10)[0]
            first.receive_nowait()
            order.append(first)
        assert len(order) <= 11
        flood.close()

    def test_timeout_and_streams(self, local):
        channel = local.channel()
        start = time.monotonic()
        assert contextree.select([channel], timeout=0.01) == []
        assert time.monotonic() - start >= 0.01
        assert not channel.mailbox.waiters
        with local.stream(range, 3) as stream:
            assert contextree.select([channel, stream], timeout=10) == [stream]
            assert list(stream) == [0, 1, 2]
        assert contextree.select([]) == []
