"""Small tools of those who measure: clocks, quantiles, what a process holds."""

import collections
import contextlib
import os
import time

from tests.lab import processes

clock = time.perf_counter


def quantile(values, part):
    """The value below which ``part`` of ``values`` lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def median(values):
    """The middle one."""
    return quantile(values, 0.5)


def each(function, count):
    """Seconds of each of ``count`` calls of ``function``."""
    times = []
    for _ in range(count):
        start = clock()
        function()
        times.append(clock() - start)
    return times


def rate(function, count):
    """``count`` divided by the seconds that ``function()`` takes."""
    start = clock()
    function()
    return count / (clock() - start)


def windowed(submit, result, count, outstanding):
    """``count`` calls with at most ``outstanding`` on their way (0: all of them), results in order; calls a second."""

    def go():
        waiting = collections.deque()
        for _ in range(count):
            if outstanding and len(waiting) >= outstanding:
                result(waiting.popleft())
            waiting.append(submit())
        while waiting:
            result(waiting.popleft())

    return rate(go, count)


def pss(pid):
    """{"pss": ..., "private": ...} of a process, in bytes: its share of what it uses, and what nobody else uses."""
    with open("/proc/%d/smaps_rollup" % pid) as file:
        found = {line.split()[0].rstrip(":"): int(line.split()[1]) * 1024 for line in file if line.endswith("kB\n")}
    return {"pss": found["Pss"], "private": found["Private_Clean"] + found["Private_Dirty"]}


def held():
    """What this process holds: descriptors, threads, children (zombies too)."""
    mine = [pid for pid in processes.every() if (processes.stat(pid) or (0,))[0] == os.getpid()]
    return {
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "children": len(mine),
    }


def cpus():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def one_cpu():
    """This process, and what it starts meanwhile, on one processor: no time goes into waking another one."""
    cpus = os.sched_getaffinity(0)
    try:
        pin({max(cpus)})
        yield
    finally:
        pin(cpus)


def pin(cpus):
    """Keep all threads of this process to these processors."""
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task), cpus)
