"""What the kernel has to do for one call: system calls, context switches (each wait is a wake-up), processor time.

The side and its children are looked at from outside; for the system calls by strace, in a second pass that does not
count for the rest, since it slows everything down.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile

from tests.bench.contest import Side
from tests.lab import processes
from tests.lab.poll import until

CALLS = 2000
WHAT = {
    "round-trip": ("round_trip", {}, CALLS),
    "pipelined": ("pipelined", {"outstanding": 64}, CALLS),
    "pipelined-all": ("pipelined", {"outstanding": 0}, CALLS),
    "result": ("bulk", {"direction": "result", "size": 1 << 25}, 4),
    "argument": ("bulk", {"direction": "argument", "size": 1 << 25}, 4),
    "stream": ("stream", {"chunk": 65536, "total": 1 << 26}, 1),
    "fork": ("start_fork", {}, 20),
    "local": ("start_local", {}, 5),
}
DIRECT = ("start_fork", {"direct": True}, 20)


def family(side):
    """The pids of a side's process and all below it."""
    return [side.process.pid] + [who[0] for who in processes.descendants(side.process.pid)]


def counters(pids):
    """(voluntary switches, others, seconds of processor time) of these processes so far."""
    waits = others = ticks = 0
    for pid in pids:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/status" % (pid, task)) as file:
                found = dict(line.split(":", 1) for line in file if "ctxt" in line)
            waits += int(found["voluntary_ctxt_switches"])
            others += int(found["nonvoluntary_ctxt_switches"])
        with open("/proc/%d/stat" % pid) as file:
            ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return waits, others, ticks / os.sysconf("SC_CLK_TCK")


def traced(side, number, count):
    """[(calls, errors, name)] of the system calls during a run, most frequent first; an empty list without strace."""
    if not shutil.which("strace"):
        return []
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "strace")
        words = ["strace", "-f", "-c", "-o", out] + [word for pid in family(side) for word in ("-p", str(pid))]
        tracer = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        watched = family(side)
        until(lambda: tracer.poll() is not None or all(tracer_of(pid) for pid in watched), "strace to attach")
        side.ask(run=number, count=count)
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
        with open(out) as file:
            lines = [line.split() for line in file]
    found = [
        (int(words[3]), int(words[4]) if len(words) == 6 else 0, words[-1])
        for words in lines
        if len(words) in (5, 6) and re.match(r"[\d.]+$", words[0]) and words[-1] != "total"
    ]
    return sorted(found, reverse=True)


def tracer_of(pid):
    """The pid that traces a process; 0: nobody."""
    with open("/proc/%d/status" % pid) as file:
        return int(re.search(r"TracerPid:\s*(\d+)", file.read())[1])


def run(name):
    """The report, as text."""
    what, options, count = WHAT[name]
    rows = [("raw", options), ("contextree", options)]
    if name == "fork":
        rows = [("contextree", options), ("contextree", DIRECT[1])]
    lines = []
    for label, options in rows:
        side = Side(label)
        try:
            number = side.ask(open=what, options=options)
            side.ask(run=number, count=max(1, count // 10))
            before = counters(family(side))
            value = side.ask(run=number, count=count)
            waits, others, seconds = [(b - a) / count for a, b in zip(before, counters(family(side)), strict=True)]
            lines.append(
                "%s %s: %.3g; of each: %.2f waits, %.2f other switches, %.3g ms of processor time"
                % (label, options or "", value, waits, others, seconds * 1000)
            )
            for calls, errors, syscall in traced(side, number, count)[:16]:
                lines.append(
                    "    %8.2f %s%s" % (calls / count, syscall, " (%.2f errors)" % (errors / count) if errors else "")
                )
            side.ask(close=number)
        finally:
            side.close()
    return "\n".join(lines)
