"""What gevent's programs of checks call in their children: gevent, and the standard library."""

import os
import socket

import gevent
import gevent.event
import gevent.subprocess

GOOD = [[0, 1, 2], "timed out", "woken", 1, True]


def use_gevent(nap=0.0):
    """Greenlets of this process, timeouts, wakes from threads, a subprocess, a resolver: (what happened, pid)."""
    done = []

    def one(number):
        gevent.sleep(0.02)  # sleeps: other greenlets run meanwhile
        done.append(number)

    gevent.joinall([gevent.spawn(one, number) for number in range(3)], timeout=10)
    result = [done]
    try:
        with gevent.Timeout(0.01):
            gevent.sleep(10)  # sleeps: other greenlets run meanwhile
    except gevent.Timeout:
        result.append("timed out")
    hub = gevent.get_hub()
    woken = gevent.event.Event()
    # a loop of libev that is woken before the pool's thread is done may find nothing else to wait for: LoopExit
    ticking = gevent.spawn(gevent.sleep, 60)  # sleeps: it is killed below
    hub.threadpool.apply(hub.loop.run_callback_threadsafe, (woken.set,))
    result.append("woken" if woken.wait(10) else "not woken")
    ticking.kill()
    result.append(gevent.subprocess.call(["false"]))
    result.append(bool(hub.resolver.getaddrinfo("localhost", 80, socket.AF_INET)))
    gevent.sleep(nap)  # sleeps: what was inherited would run now
    return result, os.getpid()


def hub_facts():
    """(identity of the hub, default loop?, descriptors of event polls here, those that watch one that is not ours)."""
    gevent.sleep(0)
    hub = gevent.get_hub()
    polls = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if "eventpoll" in os.readlink("/proc/self/fd/" + name):
                with open("/proc/self/fdinfo/" + name) as info:
                    polls[int(name)] = {int(line.split()[1]) for line in info if line.startswith("tfd")}
        except OSError:
            pass
    return id(hub), hub.loop.default, hub.loop.fileno(), polls


def collect():
    """Collect garbage thrice."""
    import gc

    gc.unfreeze()
    for _ in range(3):
        gc.collect()
    return 0
