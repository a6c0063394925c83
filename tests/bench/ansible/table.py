"""What is said of the runs: a table for the screen, for docs/ansible/benchmark.md, and JSON."""

from tests.bench.measure import median, quantile

RATIOS = (("strategy", "mitogen"), ("strategy", "pipelining"), ("strategy", "stock"), ("connection", "mitogen"))


def title(row):
    """One line that says what was run."""
    what = "%s %d" % (row.name, row.count)
    return "%s, %d host%s, %g ms" % (what, row.hosts, "" if row.hosts == 1 else "s", row.delay * 1000)


def medians(runs):
    """{figure: median} of some runs."""
    return {name: median([run.figures()[name] for run in runs]) for name in runs[0].figures()}


def counted(row):
    """{side: medians} of those that are not void."""
    return {side: medians(runs) for side, runs in row.runs.items() if side not in row.void}


def ratio(row, ours, other, figure="wall"):
    """The median of other/ours of each round, or None: how many times less ours took."""
    if {ours, other} & set(row.void) or not (row.runs.get(ours) and row.runs.get(other)):
        return None
    pairs = zip(row.runs[ours], row.runs[other], strict=False)
    return median([b.figures()[figure] / max(1e-9, a.figures()[figure]) for a, b in pairs])


HEADINGS = ["side", "wall s", "middle half", "controller CPU s", "user", "target CPU s", "user", "kB a host", "turns",
            "connections", "peak MB"]  # fmt: skip


def lines_of(row):
    """[[cell]] of the sides of a row."""
    found = []
    for side, figures in counted(row).items():
        walls = [run.wall for run in row.runs[side]]
        found.append([
            side, "%.2f" % figures["wall"], "%.2f to %.2f" % (quantile(walls, 0.25), quantile(walls, 0.75)),
            "%.2f" % figures["controller"], "%.2f" % figures["controller user"], "%.2f" % figures["target"],
            "%.2f" % figures["target user"], "%.0f" % (figures["bytes"] / 1000 / row.hosts), "%.0f" % figures["turns"],
            "%.0f" % figures["connections"], "%.0f" % (row.peaks[side] / 1e6) if side in row.peaks else "",
        ])  # fmt: skip
    return found


def ratios_of(row):
    """Sentences: how many times less ours took than others."""
    found = []
    for ours, other in RATIOS:
        wall, processor = ratio(row, ours, other), ratio(row, ours, other, "controller")
        if wall is not None:
            found.append("%s/%s: wall %.2fx, controller CPU %.2fx" % (other, ours, wall, processor))
    return found


def text(row):
    """For the screen."""
    table = [HEADINGS, *lines_of(row)]
    widths = [max(len(line[at]) for line in table) for at in range(len(HEADINGS))]
    out = ["== " + title(row)]
    out += ["  " + "  ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in
                             enumerate(zip(line, widths, strict=True))) for line in table]  # fmt: skip
    out += ["  -> " + each for each in ratios_of(row)]
    out += ["  VOID %s: %s" % pair for pair in row.void.items()]
    return "\n".join(out)


def markdown(rows):
    """For the page: a line for each side of each row."""
    out = ["| what | " + " | ".join(HEADINGS) + " |", "|---" * (len(HEADINGS) + 1) + "|"]
    for row in rows:
        out += ["| %s | %s |" % (title(row), " | ".join(line)) for line in lines_of(row)]
    out += ["", "| what | " + " | ".join("%s / %s" % (b, a) for a, b in RATIOS) + " |"]
    out += ["|---" * (len(RATIOS) + 1) + "|"]
    for row in rows:
        cells = []
        for pair in RATIOS:
            wall, processor = ratio(row, *pair), ratio(row, *pair, "controller")
            cells.append("" if wall is None else "%.2f (%.2f)" % (wall, processor))
        out.append("| %s | %s |" % (title(row), " | ".join(cells)))
    out += ["", "How many times as long the other took: wall time, in brackets controller CPU; medians of the rounds."]
    out += ["Void: %s, %s: %s" % (title(row), side, why) for row in rows for side, why in row.void.items()]
    return "\n".join(out)


def as_dict(row):
    """For JSON: all samples."""
    return {
        "case": row.name, "count": row.count, "hosts": row.hosts, "delay": row.delay,
        "void": row.void, "peaks": row.peaks,
        "runs": {side: [run.figures() for run in runs] for side, runs in row.runs.items()},
    }  # fmt: skip
