"""What gevent's and cothread's programs of checks have in common: each check runs in a process of its own."""

import os
import signal
import sys
import time

from tests.fork.tools import program

FORKED = 30.0


def run(module, check, *, before="", options=("-W", "error"), env=None, quiet=True, timeout=50):
    """Run ``check`` of ``module`` in a process of its own, after the lines ``before``; it must say "good"."""
    text = "%s\nfrom %s import %s\n%s()\nprint('good')" % (before, module, check, check)
    done = program(text, *options, check=False, timeout=timeout, env=env or {})
    assert (done.returncode, done.stdout) == (0, "good\n"), done.stderr or done.stdout
    assert not (quiet and done.stderr), done.stderr


class Ticker:
    """Counts how often others got to run, by a sleep of the kind of loop: ``start(function)`` spawns, ``sleep`` waits.

    ``with ticker.ticks(at_least=40)``: so often at the least, while the block runs. ``ticker.after(40)`` is a path
    at which a file will be once it has ticked so often: for what is called in the block to wait for, at any pace."""

    def __init__(self, start, sleep):
        self.count = 0
        self.due = []  # [(count, path)]
        self.sleep = sleep
        self.running = True
        start(self._tick)

    def _tick(self):
        while self.running:
            self.count += 1
            while self.due and self.due[0][0] <= self.count:
                os.close(os.open(self.due.pop(0)[1], os.O_CREAT | os.O_EXCL, 0o644))
            self.sleep(0.005)  # sleeps: it ticks

    def after(self, count):
        """Where a file will be after so many ticks from now. ``greens_far.until_there`` waits for it and removes it."""
        self.due.append((self.count + count, "/tmp/contextree-ticks-%d-%d" % (os.getpid(), self.count + count)))
        return self.due[-1][1]

    def ticks(self, at_least):
        """A block in which it must tick."""
        return _Ticks(self, at_least)

    def stop(self):
        self.running = False


class _Ticks:
    def __init__(self, ticker, at_least):
        self.ticker, self.at_least = ticker, at_least

    def __enter__(self):
        self.before = self.ticker.count

    def __exit__(self, kind, error, traceback):
        seen = self.ticker.count - self.before
        assert kind or seen >= self.at_least, "%d ticks, wanted %d" % (seen, self.at_least)


def raises(kind, function, *args, **options):
    """The exception that the call raises, which must be of ``kind``."""
    try:
        value = function(*args, **options)
    except kind as error:
        return error
    raise AssertionError("%r came instead of %s" % (value, kind.__name__))


def interrupt_me():
    """Ctrl-C for this process."""
    os.kill(os.getpid(), signal.SIGINT)


def wait_for(condition, sleep, what, timeout=20):
    """Until ``condition()``, looked at between sleeps of the kind of loop."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited for %s" % what
        sleep(0.005)  # sleeps: as tests.lab.poll does, by the loop's own sleep


def patched():
    """Whether gevent has patched this process."""
    return "gevent.monkey" in sys.modules and sys.modules["gevent.monkey"].is_module_patched("threading")
