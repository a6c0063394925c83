"""S-39: random and mutated frames on a child's link. Nothing escapes, nothing stays, nobody else notices."""

import random
import threading
import time

import pytest

from contextree.core.wire import values
from contextree.core.wire.frames import (
    BULK, CALL, CALLS, CREDIT, DATA, FIN, IDS, LOG, LOGS, MORE, NUMBER, OPEN, OPEN_HEAD, OPENER, RESET, RESOURCE,
    ROUTE_ADD, ROUTE_DEL, STREAM,
)
from tests.attacks import functions
from tests.attacks.test_s_09_floods import rss


def mutated(random_, child, good):
    """Frames, good and bad ones, as one chunk of bytes with whole frames in it for most of the time."""
    kinds = list(range(16)) + [CREDIT, DATA, OPEN, RESET] * 3
    out = []
    for _ in range(50):
        choice = random_.random()
        if choice < 0.3:
            data = bytearray(random_.choice(good))
            for _ in range(random_.randrange(1, 4)):
                at = random_.randrange(len(data))
                if at in (0, 2, 16, 17, 18, 19):  # these end the link at once, which others test
                    continue
                data[at] = random_.randrange(256)
            out.append(bytes(data))
            continue
        payload = random_.randbytes(random_.choice((0, 1, 4, 8, 13, 40, 300)))
        if choice < 0.5:
            payload = values.encode([random_.choice([1, 0, child.id, 7, "x", None, [], 1.5, b"x"])
                                     for _ in range(random_.randrange(8))])
        out.append(child.frame(random_.choice(kinds), payload, flags=random_.randrange(256), cls=random_.randrange(4),
                               channel=random_.choice((0, 1, 2, 3, 50, random_.getrandbits(32))),
                               dst=random_.choice((0, 0, 0, child.id, 1, random_.getrandbits(32))),
                               src=random_.choice((child.id, child.id, child.id, child.id, 0, 1,
                                                   random_.getrandbits(32)))))
    return b"".join(out)


def fuzz(tree, frames, seed):
    """Send so many frames, with a new child whenever one was thrown out."""
    random_ = random.Random(seed)
    sent = children = 0
    while sent < frames:
        children += 1
        with tree.hostile() as child:
            link = tree.link(child)
            link.opens.rate = link.opens.burst = link.opens.level = 1e9
            link.strikes = -10 ** 6  # the rules are tested elsewhere; here as much as possible is to get through
            link.noise = -10 ** 6
            futures = [child.context.submit(functions.echo, n) for n in range(3)]
            stream = child.context.stream(functions.echo, 1)
            opened = [child.wait_for(OPEN, lambda frame: frame.payload[0] in (CALL, STREAM)) for _ in range(4)]
            good = [child.frame(DATA, b"\0\x01", dst=0, channel=frame.channel, flags=flags, cls=cls)
                    for frame in opened for flags in (0, MORE, FIN) for cls in (CALLS, BULK)]
            good += [child.frame(CREDIT, NUMBER.pack(70), channel=opened[0].channel), child.frame(IDS, NUMBER.pack(3)),
                     child.frame(ROUTE_DEL, values.encode([[5], "x"])),
                     child.frame(LOG, values.encode([1, b"line"]), cls=LOGS),
                     child.frame(LOG, values.encode([0, "n", 20, "t", "p", 1, "f", 1.0, None]), cls=LOGS),
                     child.frame(ROUTE_ADD, values.encode([5, child.id, "hostile.x", False, "up", {}])),
                     child.frame(OPEN, OPEN_HEAD.pack(RESOURCE, 0, 0, 9, 0) + values.encode(["name", 1]),
                                 flags=FIN | OPENER)]
            sink = threading.Thread(target=drain, args=(child,))
            sink.start()
            while sent < frames and child.write(mutated(random_, child, good)):
                sent += 50
            child.sock.shutdown(2)
            sink.join()
            stream.close()
            for future in futures:
                future.cancel()
        assert tree.sibling.call(functions.echo, sent) == sent
        assert not tree.errors, tree.errors[-1]
    return children


def drain(child):
    try:
        while child.sock.recv(1 << 20):
            pass
    except OSError:
        pass


def test_s_39_fuzz(tree):
    seed = 20240
    before = rss()
    fuzz(tree, 50000, seed)
    assert rss() - before < 64 << 20
    assert not tree.errors


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_s_39_fuzz_a_million_frames(tree):
    seed = time.time_ns()
    print("seed", seed)
    before = rss()
    fuzz(tree, 10 ** 6, seed)
    assert rss() - before < 64 << 20
