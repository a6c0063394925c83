"""What is measured, and against which budget: one function for each name of ``--only``, which returns rows.

A budget compares two sides of the same row, turn by turn: the ratio is the median of the ratios of all turns, so that
a machine that grows slow in the middle of it slows both.
"""

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.measure import median
from tests.lab.sshd import Sshd

PYTHON = "%d.%d" % sys.version_info[:2]
MB = 1 << 20


class Scale(NamedTuple):
    """How much of it: turns, calls of a turn, pipelined calls, bytes, processes, a crowd, bytes to a slow reader."""

    turns: int
    calls: int
    piped: int
    size: int
    starts: int
    crowd: int
    slow: int
    pings: int


SCALES = {
    "tiny": Scale(1, 5, 20, MB, 1, 3, 4 * MB, 5),
    "quick": Scale(5, 200, 2000, 32 * MB, 3, 200, 300 * MB, 400),
    "normal": Scale(9, 400, 4000, 64 * MB, 5, 200, 300 * MB, 1000),
    "full": Scale(21, 1000, 10000, 128 * MB, 7, 200, 1024 * MB, 3000),
}


class Budget(NamedTuple):
    """What was asked for: ``value`` must be at most (or at least) ``limit``."""

    text: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def kept(self):
        """Whether it is."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


class Row:
    """One row: ``values`` are {label: [sample, ...]}, of ``unit``: s, /s, B/s, B; of any other name: a plain number."""

    def __init__(self, name, title, unit, values):
        self.name = name
        self.title = title
        self.unit = unit
        self.values = values
        self.budgets = []

    def compare(self, text, one, other, limit, at_least=False):
        """Add a budget on ``one`` divided by ``other``; not where a peer could not be measured."""
        if one in self.values and other in self.values:
            ratios = [a / b for a, b in zip(self.values[one], self.values[other], strict=True)]
            self.budgets.append(Budget(text, median(ratios), limit, at_least))
        return self

    def require(self, text, value, limit, at_least=False):
        """Add a budget on a number."""
        self.budgets.append(Budget(text, value, limit, at_least))
        return self

    def as_dict(self):
        """For JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "values": self.values,
            "budgets": [{**budget._asdict(), "kept": budget.kept} for budget in self.budgets],
        }


class Lab:
    """What the rows need: the contest, the scale, and a private sshd that is started when it is first asked for."""

    def __init__(self, contest, scale, sshd=None):
        self.contest = contest
        self.scale = scale
        self.stack = contextlib.ExitStack()
        self._sshd = sshd

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.stack.close()

    @property
    def sshd(self):
        """The private sshd; CannotStart where there can be none."""
        if self._sshd is None:
            self._sshd = Sshd.up()
            self.stack.callback(self._sshd.down)
        return self._sshd

    def turns(self, entries, count, **options):
        """Have all of ``entries`` measured as often as the scale says."""
        return self.contest.take_turns(entries, options.pop("rounds", self.scale.turns), count, **options)


def pick(samples, key):
    """One number of samples that are dicts."""
    return {label: [sample[key] for sample in values if key in sample] for label, values in samples.items()}


def round_trip(lab):
    """A call and its answer: where the system puts the processes, and with all of them on one processor.

    Beside it the raw round trip between two processors: waking another one takes ten times as long as all the rest of
    it, and which of the two a raw pair gets is the scheduler's choice."""
    rows = []
    for one_cpu in (False, True):
        pinned = {"one_cpu": True} if one_cpu else {}
        entries = [(name, "round_trip", pinned) for name in ("raw", "contextree", "mitogen", "execnet")]
        entries += [("multiprocessing/Pipe", "round_trip", pinned)]
        if not one_cpu:
            entries += [("multiprocessing/Pool", "round_trip", {"pool": True})]
            entries += [("raw/between two processors", "round_trip", {"apart": True})]
        title = "call round trip, local child" + (", all on one processor" if one_cpu else "")
        row = Row("round-trip", title, "s", lab.turns(entries, lab.scale.calls))
        row.compare("≤ 2x raw", "contextree", "raw", 2)
        row.compare("≤ 2x raw between two processors", "contextree", "raw/between two processors", 2)
        rows.append(row.compare("mitogen ≥ 4x as long", "mitogen", "contextree", 4, True))
    return rows


def pipelined(lab):
    """Calls a second with several on their way."""
    rows = []
    for outstanding in (1, 8, 64, 1000, 0):
        options = {"outstanding": outstanding}
        found = lab.turns(
            [(name, "pipelined", options) for name in ("raw", "contextree", "mitogen", "execnet", "multiprocessing")],
            lab.scale.piped,
        )
        row = Row("pipelined", "pipelined calls, %s outstanding" % (outstanding or "all"), "/s", found)
        if outstanding in (1000, 0):
            row.compare("≥ 4x mitogen", "contextree", "mitogen", 4, True)
        rows.append(row)
    return rows


def bulk(lab):
    """Bytes a second, each direction."""
    rows = []
    size = lab.scale.size
    for direction in ("result", "argument"):
        options = {"direction": direction, "size": size}
        peers = [(name, "bulk", options, 1) for name in ("contextree", "mitogen", "execnet", "multiprocessing")]
        raw = [
            ("raw", "bulk", options, 1),
            ("raw/pipe", "bulk", {**options, "by": "pipe"}, 1),
            ("raw/pipe, discarded", "bulk", {**options, "by": "pipe", "keep": False}, 1),
        ]
        if direction == "argument":
            del raw[-1]
        found = lab.turns(raw + peers, 1)
        row = Row("bulk", "bulk, call %s of %d MiB" % (direction, size // MB), "B/s", found)
        row.compare("≥ 0.7x raw pipe", "contextree", "raw/pipe", 0.7, True)
        rows.append(row.compare("≥ 4x mitogen", "contextree", "mitogen", 4, True))
    for chunk, text in ((65536, "64 KiB"), (MB, "1 MiB")):
        options = {"chunk": chunk, "total": max(size, chunk)}
        found = lab.turns(
            [(name, "stream", options, 1) for name in ("raw", "contextree", "mitogen", "execnet", "multiprocessing")], 1
        )
        row = Row("bulk", "bulk, stream of %s" % text, "B/s", found)
        row.compare("≥ 0.7x raw", "contextree", "raw", 0.7, True)
        rows.append(row.compare("≥ 4x mitogen", "contextree", "mitogen", 4, True))
    return rows


def ping(lab):
    """What a ping and a call wait for while a stream flows on the same link."""
    rows = []
    for what in ("ping", "call"):
        entries = [("contextree", "ping", {"what": what})] + [("mitogen", "ping", {"what": what})] * (what == "call")
        found = lab.turns(entries, lab.scale.pings, rounds=min(5, lab.scale.turns))
        values = {}
        for label in found:
            for key in ("busy", "idle"):
                name = label if key == "busy" else label + "/idle"
                values[name] = pick(found, key)[label]
        row = Row("ping", "%s during a stream on the same link, p99" % what, "s", values)
        rows.append(row.compare("≤ 5x idle", "contextree", "contextree/idle", 5))
    return rows


def start_local(lab):
    """exec'd, until the first result."""
    found = lab.turns(
        [(name, "start_local", {}) for name in ("raw", "contextree", "mitogen", "execnet")], lab.scale.starts
    )
    row = Row("start-local", "exec'd child, first result (raw: python -c pass)", "s", found)
    return [row.compare("≤ 1.3x raw", "contextree", "raw", 1.3)]


def start_ssh(lab):
    """By ssh, until the first result."""
    host = "py" + PYTHON
    config = lab.sshd.ssh_config
    if PYTHON not in lab.sshd.python_users:
        host = "key"
    options = {"host": host, "config": config}
    found = lab.turns([(name, "start_ssh", options) for name in ("raw", "contextree", "mitogen")], 1)
    row = Row("start-ssh", "ssh, first result (raw: ssh host python3 -c pass)", "s", found)
    return [row.compare("≤ 1.15x raw", "contextree", "raw", 1.15)]


def start_fork(lab):
    """Forked, until the first result, from a small process and from a large one."""
    rows = []
    for ballast in (0, 200_000_000):
        large = {"ballast": ballast}
        found = lab.turns(
            [
                ("raw", "start_fork", large),
                ("contextree/raw fork", "start_fork", {**large, "raw": True}),
                ("contextree", "start_fork", large),
                ("contextree/direct", "start_fork", {**large, "direct": True}),
                ("multiprocessing", "start_fork", large),
                *([] if ballast else [("mitogen", "start_fork", {})]),
            ],
            lab.scale.starts,
        )
        row = Row("start-fork", "fork, first result" + (", heap of 200 MB" if ballast else ""), "s", found)
        row.require("template ≤ 3 ms", median(found["contextree"]) * 1000, 3)
        rows.append(
            row.compare("direct ≤ 1.5x raw fork of that process", "contextree/direct", "contextree/raw fork", 1.5)
        )
    return rows


def bundle(lab):
    """Bytes on the wire."""
    found = lab.turns([(name, "bundle", {}) for name in ("contextree", "mitogen", "execnet")], 1, rounds=1)
    row = Row("bundle", "code sent to each child", "B", found)
    return [row.require("≤ 20,000 bytes", found["contextree"][0], 20_000)]


def memory(lab):
    """Of a child that has answered one call and waits."""
    found = lab.turns(
        [
            ("raw", "idle_child", {}),
            ("contextree", "idle_child", {}),
            ("contextree/fork", "idle_child", {"fork": True}),
            ("mitogen", "idle_child", {}),
            ("execnet", "idle_child", {}),
        ],
        1,
        rounds=min(3, lab.scale.turns),
    )
    row = Row("memory", "idle child, PSS (raw: an idle interpreter)", "B", pick(found, "pss"))
    row.compare("≤ 0.6x mitogen", "contextree", "mitogen", 0.6)
    return [row, Row("memory", "idle child, private memory", "B", pick(found, "private"))]


def crowd(lab):
    """Many children."""
    rows = []
    for kind, count in (("fork", lab.scale.crowd), ("exec", max(1, lab.scale.crowd // 10))):
        found = lab.turns([("contextree", "crowd", {"fork": kind == "fork"})], count, rounds=2, fresh=True)
        samples = found["contextree"]
        row = Row("crowd", "%d children by %s: created, called, shut down" % (count, kind), "s", pick(found, "all"))
        for name in ("fds", "threads", "children"):
            row.require("leaked %s = 0" % name, max(sample[name] for sample in samples), 0)
        row.require("memory of the master the second time ≤ +1 MiB", samples[-1]["grown"] / MB, 1)
        rows.append(row)
    return rows


def far_import(lab):
    """A line of 50 ms: the start, and a package of 60 modules, in round trips; the cost without delay is taken away."""
    script = str(Path(__file__).with_name("delay.py"))
    trip = 0.05 if lab.scale.turns > 1 else 0.01
    with tempfile.TemporaryDirectory() as folder:
        module = package(Path(folder), 60)
        entries = []
        for side in ("contextree", "mitogen"):
            for delay in (0, trip / 2):
                label = side if delay else side + "/near"
                entries.append(
                    (label, "far_import", {"delay": delay, "script": script, "folder": folder, "module": module})
                )
        found = lab.turns(entries, 1, rounds=min(5, lab.scale.turns), warm=False)
    rows = []
    for title, key, extra in (
        ("round trips until the first result, exec'd child", "start", 0),
        ("round trips of importing a package of 60 modules, beyond those of a call", "import", 1),
    ):
        values = {}
        for side in ("contextree", "mitogen"):
            if side in found and side + "/near" in found:
                # of each the best: what the machine adds to one start is as long as a round trip
                quickest = [min(sample[key] for sample in found[label]) for label in (side, side + "/near")]
                values[side] = [(quickest[0] - quickest[1]) / trip - extra]
        row = Row("far-import", title, "trips", values)
        if key == "import":
            row.require("≤ 2", median(values["contextree"]), 2.5)
        else:
            row.require("1 beside that of the call", median(values["contextree"]) - 1, 1.5)
        rows.append(row)
    return rows


def package(folder, count):
    """Write a package of ``count`` modules, each importing the next; the name of the one whose ``work`` needs all."""
    root = folder / "benchpackage"
    root.mkdir()
    (root / "__init__.py").write_text("")
    body = "".join("def f%d(a, b=%d):\n    return [a, b, {'k': a}]\n\n" % (n, n) for n in range(30))
    for number in range(count - 1):
        below = "from benchpackage import m%d\n" % (number + 1) if number < count - 2 else ""
        (root / ("m%d.py" % number)).write_text(below + body + "def work():\n    return 1\n")
    return "benchpackage.m0"


def slow_reader(lab):
    """A stream that is read slowly: memory at both ends, calls meanwhile."""
    total = lab.scale.slow
    pause = (5.0 if lab.scale.turns > 1 else 0.2) / (total / 65536 / 16)
    smaller = min(total, 100 * MB)
    found = lab.turns(
        [
            ("contextree", "slow_reader", {"total": total, "pause": pause}),
            ("mitogen", "slow_reader", {"total": smaller, "pause": pause}),
        ],
        1,
        rounds=1,
        fresh=True,
    )
    samples = found["contextree"]
    values = {
        "contextree": pick(found, "here")["contextree"],
        "contextree/the child": pick(found, "there")["contextree"],
    }
    if "mitogen" in found:
        values["mitogen/of %d MiB" % (smaller // MB)] = pick(found, "here")["mitogen"]
    row = Row("slow-reader", "stream of %d MiB to a slow reader: memory above base" % (total // MB), "B", values)
    row.require("both ends ≤ 16 MiB", max(sample[end] for sample in samples for end in ("here", "there")) / MB, 16)
    rows = [row]
    for name, title in (
        ("another", "call to another context meanwhile"),
        ("same", "call to the same context, threads=1, meanwhile"),
    ):
        values = {
            "contextree": pick(found, name + " busy")["contextree"],
            "contextree/idle": pick(found, name + " idle")["contextree"],
        }
        rows.append(Row("slow-reader", title, "s", values).compare("≤ 5x idle", "contextree", "contextree/idle", 5))
    return rows


ROWS: "dict[str, Any]" = {
    "round-trip": round_trip,
    "pipelined": pipelined,
    "bulk": bulk,
    "ping": ping,
    "start-local": start_local,
    "start-ssh": start_ssh,
    "start-fork": start_fork,
    "bundle": bundle,
    "memory": memory,
    "crowd": crowd,
    "far-import": far_import,
    "slow-reader": slow_reader,
}
