"""``python -m tests.bench``: the command line."""

import argparse
import json
import sys
import time
import traceback

from tests.bench import profile, report, wide
from tests.bench import rows as first
from tests.bench.contest import Contest, SideFailed
from tests.bench.rows import SCALES, Lab
from tests.lab.sshd import CannotStart

ROWS = {**first.ROWS, **wide.ROWS}


def run(names, scale, sshd=None, say=print):
    """(rows, {what could not be measured: why}) of the named measurements."""
    rows, failed = [], {}
    with Contest() as contest, Lab(contest, scale, sshd) as lab:
        for name in names:
            start = time.monotonic()
            try:
                found = ROWS[name](lab)
            except CannotStart as error:
                failed[name] = "private sshd: %s" % error
                continue
            except SideFailed as error:
                failed[name] = str(error).strip().splitlines()[-1]
                say("%s FAILED: %s" % (name, error))
                continue
            rows += found
            for row in found:
                say(report.text(row))
            say("    (%s: %.0f s)\n" % (name, time.monotonic() - start))
        failed.update(contest.failed)
    return rows, failed


def main(words=None):
    """Measure; 0 also when budgets are missed, 1 when something could not be measured that has to be."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure every budget beside the raw limit and peers."
    )
    parser.add_argument("--quick", action="store_true", help="a few minutes")
    parser.add_argument("--full", action="store_true", help="more turns and larger data")
    parser.add_argument("--only", metavar="NAME", action="append", choices=sorted(ROWS), help="of: " + ", ".join(ROWS))
    parser.add_argument("--json", metavar="FILE", help="write all samples")
    parser.add_argument(
        "--profile",
        metavar="NAME",
        choices=sorted(profile.WHAT),
        help="system calls, context switches and wake-ups of one call, of: " + ", ".join(profile.WHAT),
    )
    options = parser.parse_args(words)
    if options.profile:
        print(profile.run(options.profile))
        return 0
    mode = "full" if options.full else "quick" if options.quick else "normal"
    before = report.load()
    print("%s; %s; %s\n" % (report.machine(), before, mode))
    rows, failed = run(options.only or ROWS, SCALES[mode], say=lambda line: print(line, flush=True))
    for label, why in failed.items():
        print("not measured: %s: %s" % (label, why.strip().splitlines()[-1]))
    missed = [(row, budget) for row in rows for budget in row.budgets if not budget.kept]
    print("%d budgets, %d missed" % (sum(len(row.budgets) for row in rows), len(missed)))
    for row, budget in missed:
        print("  %s: %s" % (row.title, report.verdict(budget)))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(
                {"machine": report.machine(), "mode": mode, "rows": [row.as_dict() for row in rows], "failed": failed},
                file,
                indent=1,
            )
    broken = [name for name, why in failed.items() if name in ROWS and "sshd" not in why]
    if not options.only and not broken:
        report.write(report.markdown(rows, mode, before, failed))
        print("written: %s" % report.PAGE.relative_to(report.ROOT))
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        traceback.print_exc(limit=1)
        sys.exit(130)
