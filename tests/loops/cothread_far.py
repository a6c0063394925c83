"""What cothread's programs of checks call in their children: cothread, and the standard library."""

import os
import threading

import cothread

GOOD = [0, 1, 2, "called", "timed out"]


def use_cothread():
    """Cothreads of this process, callbacks from its threads, timeouts: (what happened, pid)."""
    done = []

    def one(number):
        cothread.Sleep(0.02)
        done.append(number)

    cothread.WaitForAll([cothread.Spawn(one, number) for number in range(3)], 10)
    event = cothread.Event()
    thread = threading.Thread(target=cothread.Callback, args=(event.Signal, "called"))
    thread.start()
    done.append(event.Wait(10))
    thread.join()
    try:
        cothread.Event().Wait(0.01)
    except cothread.Timedout:
        done.append("timed out")
    cothread.Sleep(0.2)  # sleeps: what was inherited would run now
    return done, os.getpid()
