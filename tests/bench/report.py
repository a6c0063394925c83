"""The table: on the screen, in JSON, in docs/performance.md (between two marks; the rest there is written by hand)."""

import datetime as dt
import os
import platform

from tests.bench.contest import NAMES, ROOT
from tests.bench.measure import cpus, median, quantile

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- table: written by python -m tests.bench -->", "<!-- end of the table -->"


def number(value, unit):
    """A value with its unit, in three digits."""
    steps = {
        "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")),
        "/s": ((1e3, "k/s"), (1, "/s")),
        "B/s": ((1e9, "GB/s"), (1e6, "MB/s")),
        "B": ((1 << 20, "MiB"), (1, "B")),
    }.get(unit, ((1, ""),))
    step, name = next(((step, name) for step, name in steps if abs(value) >= step), steps[-1])
    value /= step
    digits = 0 if abs(value) >= 100 or name == "B" else 1 if abs(value) >= 10 else 2
    return (("%%.%df %%s" % digits) % (value, name)).strip()


def cell(values, unit):
    """Median, and the middle half where there is more than one sample."""
    text = number(median(values), unit)
    if len(values) > 2:
        text += " (%s to %s)" % (number(quantile(values, 0.25), unit), number(quantile(values, 0.75), unit))
    return text


def cells(row):
    """[cell of each of NAMES]; variants of a side in one cell."""
    found = []
    for name in NAMES:
        parts = []
        for label, values in row.values.items():
            side, _, variant = label.partition("/")
            if side == name and values:
                parts.append((variant + ": " if variant else "") + cell(values, row.unit))
        found.append("; ".join(parts))
    return found


def verdict(budget):
    """A budget and what came of it."""
    return "%s: %s, %s" % (
        budget.text,
        ("%.2f" % budget.value).rstrip("0").rstrip("."),
        "kept" if budget.kept else "MISSED",
    )


def text(row):
    """A row for the screen."""
    lines = [row.title]
    for name, what in zip(NAMES, cells(row), strict=True):
        if what:
            lines.append("    %-16s %s" % (name, what))
    return "\n".join(lines + ["    -> " + verdict(budget) for budget in row.budgets])


def machine():
    """The kind of machine, without anything that names it."""
    return "%s %s, %s, %d CPUs, %s %s" % (
        platform.system(),
        platform.release().split("-")[0],
        platform.machine(),
        cpus(),
        platform.python_implementation(),
        platform.python_version(),
    )


def load():
    """What else the machine did, in words."""
    waiting = os.getloadavg()[1] / cpus()
    return (
        "quiet"
        if waiting < 0.7
        else "in use"
        if waiting < 1.5
        else "busy with other work (load %.1f for each CPU)" % waiting
    )


def markdown(rows, mode, before, failed):
    """The table, with when and on what it was measured."""
    lines = [
        BEGIN,
        "",
        "Measured on %s by `python -m tests.bench --%s`: %s; the machine was %s at the start."
        % (dt.datetime.now(dt.timezone.utc).date(), mode, machine(), before),
        "",
        "| what | " + " | ".join(NAMES) + " | budget: ratio |",
        "|---" * (len(NAMES) + 2) + "|",
    ]
    for row in rows:
        budgets = "; ".join(verdict(budget).replace("MISSED", "**missed**") for budget in row.budgets)
        lines.append("| %s | %s | %s |" % (row.title, " | ".join(cells(row)), budgets))
    lines += ["", "Medians; in brackets the middle half of the samples. Ratios are medians of the ratios of each turn."]
    lines += [
        "%s could not be measured: `%s`" % (label, why.replace("`", "'")) for label, why in sorted(failed.items())
    ]
    return "\n".join(lines + ["", END])


def write(table, page=PAGE):
    """Put the table between the marks of the page."""
    old = page.read_text() if page.exists() else "# Performance\n\n%s\n%s\n" % (BEGIN, END)
    page.write_text(old[: old.index(BEGIN)] + table + old[old.index(END) + len(END) :])
