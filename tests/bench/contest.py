"""Sides in processes of their own, and taking turns among them."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("raw", "contextree", "mitogen", "execnet", "multiprocessing")


class SideFailed(Exception):
    """A side cannot do it; the text is its traceback."""


class Side:
    """A process of the side ``name``; ends with ``close``."""

    def __init__(self, name):
        self.name = name
        env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.side", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=env,
        )

    def ask(self, **request):
        """One request; its value. SideFailed."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SideFailed("the process of %s has ended" % self.name)
        answer = json.loads(line)
        if "error" in answer:
            raise SideFailed(answer["error"])
        return answer["value"]

    def close(self):
        """End it."""
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Entry:
    """One thing that a side has open, and what it has measured so far. ``label``: "side" or "side/variant"."""

    def __init__(self, side, label, number):
        self.side = side
        self.label = label
        self.number = number
        self.samples = []
        self.error = None

    def run(self, count):
        """One sample more."""
        if self.error is None:
            try:
                self.samples.append(self.side.ask(run=self.number, count=count))
            except SideFailed as error:
                self.error = str(error)


class Contest:
    """The sides, each started when it is first needed. A context manager."""

    def __init__(self):
        self.sides = {}
        self.failed = {}  # label -> why

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for side in self.sides.values():
            side.close()

    def side(self, name):
        """The process of that side."""
        if name not in self.sides:
            self.sides[name] = Side(name)
        return self.sides[name]

    def take_turns(self, entries, rounds, count, fresh=False, warm=True):
        """{label: [sample, ...]} of ``entries``: (label, what, options) or (label, what, options, its own count).

        All are opened, then each takes a sample in turn, ``rounds`` times, beginning with another one each time.
        ``fresh``: in new processes. ``warm``: a short sample ahead that does not count. A peer that fails is left out
        and noted in ``failed``; raw and contextree may not."""
        with contextlib.ExitStack() as stack:
            opened = []
            for label, what, options, *rest in entries:
                name = label.partition("/")[0]
                side = self.side(name)
                if fresh:
                    side = Side(name)
                    stack.callback(side.close)
                try:
                    number = side.ask(open=what, options=options)
                except SideFailed as error:
                    self.note(label, error)
                    continue
                stack.callback(side.ask, close=number)
                entry = Entry(side, label, number)
                entry.count = rest[0] if rest else count
                opened.append(entry)
            for entry in opened if warm and not fresh else ():
                entry.run(max(1, entry.count // 10))
                entry.samples.clear()
            for turn in range(rounds):
                for at in range(len(opened)):
                    entry = opened[(at + turn) % len(opened)]
                    entry.run(entry.count)
            for entry in opened:
                if entry.error:
                    self.note(entry.label, entry.error)
            return {entry.label: entry.samples for entry in opened if entry.error is None}

    def note(self, label, error):
        """Keep why a peer is left out; the others must work."""
        if label.partition("/")[0] in ("raw", "contextree"):
            raise SideFailed("%s: %s" % (label, error))
        self.failed[label] = str(error).strip().splitlines()[-1]
