"""The one place under tests/ that sleeps: waiting for a condition that no descriptor announces."""

import time


def until(condition, what, timeout=10.0, interval=0.02):
    """Return the first true value of ``condition()``; AssertionError naming ``what`` when none came in time."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("waited %g s for %s" % (timeout, what))
        time.sleep(interval)
