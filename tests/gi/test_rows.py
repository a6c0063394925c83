"""Rows GI-09, GI-13 to GI-18, GI-21, GI-22, GI-25, in contextree's terms: what is passed to a child is a channel, and
what hands messages over is a channel or a stream. (GI-07, GI-11, GI-12, GI-19 and GI-24 are in tests/fork; those that
need gevent are in test_gevent_children.py.)"""

import json
import os
import random
import signal
import threading

import pytest

import contextree
from contextree.core.wire import frames, values
from contextree.testing import ScriptedChild
from tests.fork.far import descriptors
from tests.lab import processes
from tests.lab.poll import until
from tests.loops import greens_far as far


@pytest.mark.parametrize("direct", [False, True])
def test_gi_09_a_wait_that_times_out_leaves_the_child_running(router, direct):
    child = router.fork(direct=direct)
    with pytest.raises(contextree.CallTimeout):
        child.wait(0.05)
    assert child.call(abs, -1) == 1
    child.shutdown()
    assert child.wait(10).status.clean()


def test_gi_13_no_descriptor_changes_hands(router):
    """A channel that is passed on costs no descriptor on either side, however many there are."""
    child = router.fork().with_options(threads=16)
    child.call(abs, -1)
    before, theirs = descriptors(), child.call(descriptors)
    channels = [child.channel() for _ in range(8)]
    jobs = [child.submit(far.echo, channel) for channel in channels]
    for number, channel in enumerate(channels):
        channel.send(number)
        assert channel.receive(10) == number
    assert set(descriptors()) == set(before)
    assert set(child.call(descriptors)) == set(theirs)
    for channel in channels:
        channel.send_eof()
    for job in jobs:
        job.result(10)


def test_gi_15_a_channel_has_two_ends(router):
    """Whoever uses the handle first is the other end; for the next, the one who gave it away too, it is in use. It can
    be closed at any time: who waits on it is told."""
    first, second = router.fork(), router.fork()
    router.grant(second, first)
    channel = first.channel()
    echo = first.submit(far.echo, channel)
    assert second.call(far.use_and_keep, channel) == "taken"
    with pytest.raises(contextree.Refused):
        far.use(channel)
    second.kill()
    with pytest.raises(contextree.ContextDied):
        echo.result(10)
    mine = first.channel()
    with pytest.raises(contextree.Closed):
        receive_while_closed(mine)


def receive_while_closed(channel):
    """Close it when somebody waits on it."""
    until_waiting = threading.Thread(target=lambda: (until(lambda: channel.mailbox.waiters, "a waiter"),
                                                     channel.close()))
    until_waiting.start()
    try:
        channel.receive(20)
    finally:
        until_waiting.join()


def test_gi_17_an_end_that_is_cut_off_is_not_an_end(router):
    """The link is cut at every byte of the last item and the end: whole messages come, the last is never half a one,
    and the stream ends cleanly only where the end was told."""
    whole = [b"\0" + values.encode(item) for item in ("first", "second")]
    size = frames.SIZE
    rows = []
    for cut in range(size + len(whole[0]), 3 * size + len(whole[0]) + len(whole[1]) + 1):
        with ScriptedChild(router, name=f"cut{cut}") as child:
            stream = child.context.stream(len, "")
            call = child.wait_for(frames.OPEN, lambda frame: frame.cls == frames.CALLS)
            fields = {"dst": call.src, "channel": call.channel, "cls": frames.CALLS}
            data = (child.frame(frames.DATA, whole[0], **fields) + child.frame(frames.DATA, whole[1], **fields)
                    + child.frame(frames.DATA, flags=frames.FIN, **fields))
            assert len(data) == 3 * size + len(whole[0]) + len(whole[1])
            child.write(data[:cut])
            child.close()
        items, end = [], "clean"
        try:
            items.extend(stream)
        except contextree.ContextDied:
            end = "died"
        rows.append((cut, len(list(items)), end))
        assert end == ("clean" if cut == len(data) else "died"), rows
        assert items[:1] in ([], ["first"])
    assert rows[-1][2] == "clean"


def test_gi_17_writers_do_not_interleave(router):
    """Two threads, a thousand messages each, of sizes around those of frames: each arrives whole, those of one writer
    in order."""
    child = router.fork()
    with child.channel() as channel:
        echo = child.submit(far.echo, channel)

        def write(letter):
            for number in range(1000):
                channel.send((letter, number, letter * random.choice((1, 100, 4097, 40000 if number % 50 == 0 else 9))))

        writers = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
        for writer in writers:
            writer.start()
        seen = {"a": [], "b": []}
        for _ in range(2000):
            letter, number, text = channel.receive(20)
            assert set(text) == {letter}
            seen[letter].append(number)
        for writer in writers:
            writer.join()
        assert seen == {"a": list(range(1000)), "b": list(range(1000))}
        channel.send_eof()
        echo.result(10)


def test_gi_18_a_timeout_loses_nothing(router):
    """Timeouts at random points of messages of many frames: what comes is whole and in order."""
    child = router.fork()
    with child.channel() as channel:
        echo = child.submit(far.echo, channel)
        sent = [bytes([number % 256]) * random.choice((10, 70000, 300000)) for number in range(200)]

        def send():
            for data in sent:
                channel.send(data)
            channel.send_eof()

        sender = threading.Thread(target=send)
        sender.start()
        got, timeouts = [], 0
        while len(got) < len(sent):
            try:
                got.append(channel.receive(random.random() * 0.0005))
            except contextree.CallTimeout:
                timeouts += 1
        sender.join()
        assert got == sent
        assert timeouts
        with pytest.raises(contextree.Closed):
            channel.receive(10)
        echo.result(10)


def test_gi_21_the_reader_is_gone(router):
    """It is killed while we send: an error for us, no SIGPIPE, and other channels live on."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        doomed, other = router.fork(), router.fork()
        with other.channel() as spare, doomed.channel() as channel:
            echo = other.submit(far.echo, spare)
            reading = doomed.submit(far.slow_reader, channel, "/nowhere")
            killer = threading.Thread(target=lambda: (
                until(lambda: channel.end.callbacks, "the sender to wait"), doomed.kill()))
            killer.start()
            with pytest.raises(contextree.ContextDied):
                send_for_ever(channel)
            killer.join()
            with pytest.raises(contextree.ContextDied):
                reading.result(10)
            spare.send("alive")
            assert spare.receive(10) == "alive"
            spare.send_eof()
            echo.result(10)
    finally:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def send_for_ever(channel):
    """Until that raises."""
    while True:
        channel.send(b"x" * 65536)


def test_gi_22_raw_bytes_text_and_objects(router):
    """bytes go as they are; text of whatever encoder is text; everything else by the default way."""
    child = router.fork()
    with child.channel() as channel:
        echo = child.submit(far.echo, channel)
        things = [b"", b"\0\xff" * 70000, json.dumps({"a": [1, None]}), "\u20ac\U0001f600", {"a": (1, 2.5, None, {3})}]
        for thing in things:
            channel.send(thing)
        channel.send_eof()
        back = list(channel)
        assert back == things and [type(one) for one in back] == [type(one) for one in things]
        assert json.loads(back[2]) == {"a": [1, None]}
        echo.result(10)


def test_gi_25_the_template_is_handed_descriptors(router):
    """A child of the template is no child of ours; its link and stderr were passed to it, and nothing else: we hold the
    other two ends, and the template none."""
    router.fork()
    template = router.engine.template.handle.pid
    before, theirs = set(descriptors()), os.listdir(f"/proc/{template}/fd")
    child = router.fork()
    assert child.call(os.getppid) == template != os.getpid()
    assert processes.stat(child.pid)[0] == template
    assert len(set(descriptors()) - before) == 2
    until(lambda: sorted(os.listdir(f"/proc/{template}/fd")) == sorted(theirs), "the template to close its copies")
    links = [target for fd, target in child.call(descriptors).items() if fd > 2 and target.startswith("socket")]
    assert len(links) == 1
