"""After every test: no descriptor and no thread more than before. Helpers of these tests."""

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from contextree.core import process
from contextree.parent.loop import Loop as Broker
from contextree.testing import VirtualClock, joined_pair
from tests.lab import poll

ROOT = Path(__file__).parents[2]


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the listing's own
    return found


def threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


@pytest.fixture(autouse=True)
def nothing_leaks():
    gc.collect()
    before, threads_before = descriptors(), threads()
    yield
    gc.collect()
    # a thread's last breath is after it has told that it ended
    poll.until(lambda: not threads() - threads_before, "the end of a thread that was left behind", 5, 0.001)
    assert descriptors() == before, "a descriptor was left behind"
    assert not process._own and not process.keep


@pytest.fixture
def broker():
    """A loop on a thread of its own."""
    loop = Broker()
    loop.start()
    yield loop
    loop.stop()


@pytest.fixture
def loop():
    """A loop that the test drives."""
    loop = Broker()
    yield loop
    loop.stop()


@pytest.fixture
def virtual():
    clock = VirtualClock()
    loop = Broker(clock=clock, poller=clock.poller())
    yield loop
    loop.stop()


@pytest.fixture
def pair():
    ends = joined_pair()
    yield ends
    for end in ends:
        end.close()


def run_script(text: str, *options: str, python: str = sys.executable, timeout: float = 60, **more) -> str:
    """Run ``text`` in a fresh interpreter; its output. It must exit with 0 and say nothing on stderr.

    There ``contextree`` is a bare package, as in a child: the door itself needs a newer Python than core does."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONWARNINGS="error")
    door = ("import sys; d = sys.modules['contextree'] = type(sys)('contextree'); "
            f"d.__path__ = [{str(ROOT / 'contextree')!r}]\n")
    command = [python, *options, "-c", door + text]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, **more)
    assert done.returncode == 0 and not done.stderr, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(condition, what: str = "condition", limit: float = 20.0) -> None:
    """Let other threads run until ``condition()`` holds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"never came true: {what}"
        time.sleep(0)


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def settle(loop):
    while loop.next_delay() == 0.0:
        loop.poll_once(0)
