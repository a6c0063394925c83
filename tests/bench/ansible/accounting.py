"""Processor time and memory of a process and of all that it ever starts: a control group of its own.

A process stays in the group of its parent whatever it does (setsid, double fork, another account), so the group
knows of multiplexers and daemons that ``wait4`` never sees, and of processes that ended long ago. Either kind of
hierarchy will do: cpuacct of version 1, or version 2, where each group has ``cpu.stat``. Needs root.
"""

import contextlib
import os
import secrets
import threading
import time
from pathlib import Path

from tests.bench.measure import pss
from tests.lab import processes
from tests.lab.poll import until

PREFIX = "ctxt-bench-"
OLD = 3600  # seconds: nobody is about to use it any more


class CannotAccount(Exception):
    """No control group can be made here; the text says why."""


def home():
    """(the folder of our own group in a hierarchy that accounts for processor time, its version). CannotAccount."""
    mine = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, options = line.split()[:4]
        if kind == "cgroup" and "cpuacct" in options.split(","):
            path = next((path for names, path in mine.items() if "cpuacct" in names.split(",")), "/")
            found.insert(0, (Path(folder + path), 1))
        elif kind == "cgroup2":
            found.append((Path(folder + mine.get("", "/")), 2))
    for folder, version in found:
        if os.access(folder, os.W_OK) and (version == 1 or (folder / "cpu.stat").exists()):
            return folder, version
    raise CannotAccount("no control group for processor time that may be written to: this needs root")


class Group:
    """A group of processes. ``close`` ends what is left in it."""

    def __init__(self, name):
        folder, self.version = home()
        for left in folder.glob(PREFIX + "*"):  # of runs that were killed; those with processes in them stay
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > OLD:
                    left.rmdir()
        self.folder = folder / (PREFIX + secrets.token_hex(3) + "-" + name)
        try:
            self.folder.mkdir()
        except OSError as error:
            raise CannotAccount("%s: %s" % (self.folder, error.strerror)) from error

    def words(self, *command):
        """The words of ``command``, to be run inside."""
        return ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.folder / "cgroup.procs"), *map(str, command)]

    def add(self, pid):
        """Have a running process in the group, and what it starts from now on."""
        (self.folder / "cgroup.procs").write_text("%d\n" % pid)

    def seconds(self):
        """(user, system) seconds of processor time, of those that have ended too."""
        if self.version == 1:
            names = ("cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys")
            both, user, system = (int((self.folder / name).read_text()) / 1e9 for name in names)
            user = both * user / ((user + system) or 1)  # the sum is exact, the parts are samples of the clock's ticks
            return user, both - user
        found = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
        return int(found["user_usec"]) / 1e6, int(found["system_usec"]) / 1e6

    def members(self):
        """{pid: command line} of those that live."""
        pids = [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]
        alive = [who for who in map(processes.identity, pids) if processes.alive(who)]
        return {who[0]: processes.command_line(who[0]) for who in alive}

    def end(self, pids):
        """Kill these members, and wait until they are gone."""
        processes.end([who for who in map(processes.identity, pids) if who])

    def close(self):
        """Kill what is left, and remove the group. Safe to repeat."""
        if not self.folder.exists():
            return

        def removed():
            self.end(self.members())
            try:
                self.folder.rmdir()
            except OSError:  # something started meanwhile, or a zombie is not collected yet
                return False
            return True

        until(removed, "the processes of %s to end" % self.folder.name)


class Peak:
    """While it is open, looks at a group's memory; then ``value`` is the most bytes that it had (PSS: shared pages
    count once). Looking costs time, so nothing else is measured meanwhile. A context manager."""

    def __init__(self, group, interval=0.05):
        self.group = group
        self.interval = interval
        self.value = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc_info):
        self.stop.set()
        self.thread.join()

    def look(self):
        """Until told to stop."""
        while not self.stop.wait(self.interval):
            total = 0
            for pid in (self.group.folder / "cgroup.procs").read_text().split():
                try:
                    total += pss(int(pid))["pss"]
                except (OSError, KeyError):  # it has just ended
                    continue
            self.value = max(self.value, total)
