"""One run of one side, and how they take turns; what they did is compared."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import select
import subprocess
import time

from tests.bench.ansible.accounting import Peak
from tests.bench.ansible.sides import OURS

LIMIT = 600  # seconds for one run


@dataclasses.dataclass
class Run:
    """What was measured and seen in one run."""

    wall: float
    controller: tuple  # (user, system) seconds of processor time
    target: tuple
    counts: dict  # of the proxy
    status: int
    output: dict  # task -> lines, sorted
    files: dict  # path -> what it is
    left: list
    said: str  # the last lines, where the status is not 0
    peak: int = 0
    stock: dict | str = ""  # what one of ours has left to stock: it did not measure itself

    def figures(self):
        """For the table and for JSON."""
        return {
            "wall": self.wall,
            "controller": sum(self.controller),
            "target": sum(self.target),
            "controller user": self.controller[0],
            "target user": self.target[0],
            "bytes": self.counts["out"] + self.counts["back"],
            "turns": self.counts["turns"],
            "connections": self.counts["connections"],
        }

    def differs(self, other):
        """How what was done differs from another run: a sentence, or None."""
        if self.status != other.status:
            return "status %d, not %d: %s" % (self.status, other.status, self.said[-600:])
        for what, mine, wanted in ("output", self.output, other.output), ("files", self.files, other.files):
            for key in [*wanted, *mine]:
                if mine.get(key) != wanted.get(key):
                    return "%s, %s: %.300s, not %.300s" % (what, key, mine.get(key), wanted.get(key))
        return None


def tasks_of(text):
    """{heading: its lines, sorted}: hosts answer in any order. Stars and empty lines do not count."""
    found, heading = {}, "at the beginning"
    for line in text.splitlines():
        line = line.rstrip("* ")
        again = re.match(r"(PLAY|TASK|RUNNING HANDLER|PLAY RECAP)\b.*", line)
        if again:
            heading, number = line, 1
            while heading in found:  # the same name again, as in a role that is used twice
                number += 1
                heading = "%s #%d" % (line, number)
        if line:
            found.setdefault(heading, []).append(line)
    return {heading: sorted(lines) for heading, lines in found.items()}


def tree_of(folder):
    """{path: (kind and mode, owner, content's hash or where it points to)} of all below a folder."""
    found = {}
    for above, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(above, name)
            facts = os.lstat(path)
            what = ""
            if os.path.islink(path):
                what = os.readlink(path)
            elif name in files:
                with open(path, "rb") as file:
                    what = hashlib.sha256(file.read()).hexdigest()
            found[os.path.relpath(path, folder)] = [oct(facts.st_mode), facts.st_uid, facts.st_gid, what]
    return found


def run(field, side, case, hosts, delay, peak=False):
    """One Run."""
    with field.prepared(side, case, hosts) as (folder, words, env):
        with open(folder / "out", "w+") as out, open(folder / "err", "w+") as err:
            before = field.controller.seconds(), field.target.seconds()
            field.ask_proxy("begin %f" % delay)
            start = time.perf_counter()
            process = subprocess.Popen(
                field.controller.words(*words), cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
            memory = Peak(field.controller)
            try:
                with memory if peak else contextlib.nullcontext():
                    if not ended(process):
                        field.controller.end(field.controller.members())
            except BaseException:
                field.controller.end(field.controller.members())
                raise
            finally:
                status = process.wait()
            wall = time.perf_counter() - start
            left = field.settle()
            counts = field.ask_proxy("end")
            after = field.controller.seconds(), field.target.seconds()
            out.seek(0)
            err.seek(0)
            text = out.read()
            spent = [tuple(b - a for a, b in zip(*pair, strict=True)) for pair in zip(before, after, strict=True)]
            said = "" if not status else "\n".join((text + err.read()).splitlines()[-12:])
        stock = left_to_stock(folder / "statistics") if side in OURS and not case.local else ""
        files = tree_of(field.files_of(""))
        return Run(wall, *spent, counts, status, tasks_of(text), files, left, said, memory.value, stock)


def left_to_stock(path):
    """What the multiplexer's statistics say was left to core's own connection, if there is anything."""
    if not path.exists():
        return "everything: it wrote no statistics"
    return json.loads(path.read_text()).get("fallbacks") or ""


def ended(process):
    """Wait for its end; False: it takes too long. (With a limit Popen.wait looks only 20 times a second.)"""
    watched = os.pidfd_open(process.pid)
    try:
        return bool(select.select([watched], [], [], LIMIT)[0])
    finally:
        os.close(watched)


class Row:
    """A case with so many hosts at such a distance: what each side took."""

    def __init__(self, name, count, hosts, delay):
        self.name, self.count, self.hosts, self.delay = name, count, hosts, delay
        self.runs = {}  # side -> [Run]
        self.peaks = {}  # side -> bytes
        self.void = {}  # side -> why it does not count
        self.reference = None  # (side, Run) that the others are compared with

    def add(self, side, done):
        """Take a run in, or make the side's row void."""
        if self.reference is None:
            self.reference = side, done
        why = done.differs(self.reference[1])
        if why:
            self.void.setdefault(side, "unlike %s: %s" % (self.reference[0], why))
        elif done.status and side == self.reference[0]:
            self.void.setdefault(side, "status %d: %s" % (done.status, done.said[-600:]))
        if done.stock:
            self.void.setdefault(side, "left to stock: %s" % (done.stock,))
        if done.left:
            self.void.setdefault(side, "left behind: " + "; ".join(done.left))
        if done.peak:
            self.peaks[side] = done.peak
        else:
            self.runs.setdefault(side, []).append(done)


def take_turns(field, sides, row, case, rounds, memory=False, say=lambda text: None):
    """Fill a row: each side in turn, another one first in each round. ``memory``: a run more for each, for it alone."""
    for turn in range(rounds + memory):
        for at in range(len(sides)):
            side = sides[(at + turn) % len(sides)] if turn else sides[at]  # the first side is the reference
            done = run(field, side, case, row.hosts, row.delay, peak=turn == rounds)
            say("    %-10s %6.2f s" % (side, done.wall))
            row.add(side, done)
