"""The rule of the heartbeat, in virtual time: what is counted, when a link is dead, what it costs."""

import os
import socket

import pytest

import contextree
from contextree.core import process
from contextree.core.streams import Link
from contextree.core.wire.frames import CONTROL, PONG, frame
from contextree.parent.heartbeat import DEAD, LOOKS, Heart, checked
from contextree.parent.loop import Loop
from contextree.testing import VirtualClock


class World:
    """A loop in virtual time, with links to others on the same loop."""

    def __init__(self):
        self.clock = VirtualClock()
        self.poller = self.clock.poller()
        self.loop = Loop(clock=self.clock, poller=self.poller)
        self.heart = Heart(self.loop)
        self.links = []
        self.frames = 0

    def child(self, heartbeat, answers=True):
        """Something with a heartbeat at the other end of a link; without ``answers`` nobody reads there."""
        ours, theirs = socket.socketpair()
        child = Child(self)
        fds = [process.own(end.detach()) for end in (ours, theirs)]
        ends = [Link(self.loop, fd, fd, self.received, child.lost) for fd in fds]
        child.link, child.other = ends
        child.link.start()
        if answers:
            child.other.start()
        self.links += ends
        self.heart.watch(child, heartbeat)
        return child

    def received(self, *frame):
        self.frames += 1

    def run(self, seconds):
        """Let the time pass; nothing happens at the end of it but the end."""
        over = []
        self.loop.timer(seconds, over.append, True)
        while not over:
            self.loop.poll_once()

    def close(self):
        for link in self.links:
            link.close("the test is over")
        self.loop.stop()


class Child:
    """What the heart sees of a Branch."""

    def __init__(self, world):
        self.world = world
        self.born = world.clock.now
        self.died = self.silence = None

    def lifeless(self, seconds):
        self.died, self.silence = self.world.clock.now, seconds
        self.link.close("it is silent")

    def lost(self, link, reason):
        pass


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


def test_who_is_silent_is_dead_within_the_heartbeat(world):
    children = [world.child(heartbeat, answers=False) for heartbeat in (2, 7, 60)]
    world.run(61)
    for child, heartbeat in zip(children, (2, 7, 60), strict=True):
        assert heartbeat * DEAD / LOOKS - 0.5 <= child.died - child.born <= heartbeat + 0.5
        assert child.silence == child.died - child.born


def test_who_answers_lives_and_is_seldom_asked(world):
    child = world.child(8)
    world.run(800)
    assert child.died is None
    assert 200 <= child.link.frames_in <= 400  # answers: each third look finds that nothing had come twice
    assert child.link.rtt == 0


def test_any_byte_is_life(world):
    """Frames that come by themselves, from somebody who never reads what we ask."""
    child = world.child(8, answers=False)

    def speak():
        os.write(child.other.wfd, frame(PONG, 0, CONTROL, 0, 0, 0))
        world.loop.timer(6.5, speak)

    speak()
    world.run(800)
    assert child.died is None and child.link.probe_sent is not None and world.frames > 100


def test_silence_begins_with_the_last_byte(world):
    child = world.child(8)
    world.run(100)
    world.loop.forget(child.other.rfd)
    start = world.clock.now
    world.run(20)
    assert 6 <= child.died - start <= 10.5


def test_our_own_sleep_is_one_look(world):
    """Suspended, stopped, in a debugger: however long, and again and again, a child must not die of it."""
    child = world.child(8)
    for _ in range(3 * LOOKS):
        world.clock.advance(3600)
        world.loop.poll_once()  # the first turn afterwards reads what is there, then looks
        world.run(2)
    assert child.died is None
    silent = world.child(8, answers=False)
    for count in range(1, DEAD):
        world.clock.advance(3600)
        world.loop.poll_once()
        assert silent.died is None, count


def test_many_links_share_a_timer(world):
    for _ in range(200):
        world.child(8)
    turns = world.loop.stats()["turns"]
    world.run(8 * 10)
    stats = world.loop.stats()
    assert stats["timers"] <= 3, stats  # the heart's, that of ``run``, and cancelled ones
    assert stats["turns"] - turns <= 80 * 3 + 10  # a tick; what was sent is read by one end, then by the other


def test_nothing_runs_when_nobody_has_one(world):
    child = world.child(8)
    world.run(10)
    child.link.close("it leaves")
    world.run(10)
    assert world.heart.timer is None and world.heart.beats == []
    late = world.child(1, answers=False)  # and it begins again
    world.run(3)
    assert late.died is not None


def test_a_short_heartbeat_does_not_wait_for_a_long_one(world):
    world.child(6000)
    short = world.child(1, answers=False)
    world.run(3)
    assert short.died is not None


@pytest.mark.parametrize("wrong", [0, -1, "5", True, float("nan"), float("inf"), 1e9, [1]])
def test_wrong_values_are_refused(router, wrong):
    with pytest.raises(contextree.UsageError, match="heartbeat= wants a number of seconds"):
        router.local(heartbeat=wrong)
    with pytest.raises(contextree.UsageError, match="heartbeat="):
        contextree.Router(heartbeat=wrong)
    assert checked(None) is None and checked(5) == 5.0
