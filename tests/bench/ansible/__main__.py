"""``python -m tests.bench.ansible``: the command line."""

import argparse
import datetime as dt
import json
import os
import signal
import sys
from pathlib import Path

from tests.bench import report
from tests.bench.ansible import sides as who
from tests.bench.ansible import table
from tests.bench.ansible.accounting import CannotAccount
from tests.bench.ansible.cases import CASES
from tests.bench.ansible.contest import Row, take_turns
from tests.bench.ansible.field import Field
from tests.lab.sshd import CannotStart

PAGE = who.ROOT / "docs" / "ansible" / "benchmark.md"


def names(known, text):
    """A list of names with commas, each known."""
    found = text.split(",")
    for name in found:
        if name.partition(":")[0] not in known:
            raise argparse.ArgumentTypeError("%r is none of %s" % (name, ", ".join(known)))
    return found


def parse(words):
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ansible", description=__doc__)
    parser.add_argument("--cases", metavar="NAME[:COUNT],...", type=lambda text: names(CASES, text),
                        default=[name for name in CASES if name not in ("copysame", "ping", "debug")],
                        help="of %s; COUNT of it instead of the usual number" % ", ".join(CASES))  # fmt: skip
    parser.add_argument("--sides", metavar="NAME,...", type=lambda text: names(who.SIDES, text), default=[*who.SIDES],
                        help="of %s; what the first one does is what all must do" % ", ".join(who.SIDES))  # fmt: skip
    parser.add_argument("--hosts", metavar="N,...", type=lambda text: [*map(int, text.split(","))], default=[1, 10])
    parser.add_argument("--delay", metavar="MS,...", type=lambda text: [float(ms) / 1000 for ms in text.split(",")],
                        default=[0, 0.025], help="one way")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="a run more for each side, which looks at memory")
    parser.add_argument("--ansible", metavar="VENV", default=os.environ.get("CONTEXTREE_ANSIBLE", sys.prefix),
                        help="whose Ansible runs (default: $CONTEXTREE_ANSIBLE, or that of this Python)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write all samples")
    parser.add_argument("--write", action="store_true", help="put the table into docs/ansible/benchmark.md")
    parser.add_argument("--verbose", action="store_true", help="say each run")
    return parser.parse_args(words)


def measure(options, say):
    """[Row], (version of Ansible, {side: why it cannot take part})."""
    rows = []
    with Field(options.ansible, max(options.hosts)) as field:
        cannot = {side: why for side in options.sides if (why := who.absent(side, field.where))}
        sides = [side for side in options.sides if side not in cannot]
        for name in options.cases:
            name, _, count = name.partition(":")
            function, usual = CASES[name]
            for hosts in options.hosts:
                for delay in options.delay:
                    row = Row(name, int(count or usual), hosts, delay)
                    take_turns(field, sides, row, function(row.count), options.rounds, options.memory,
                               say if options.verbose else lambda text: None)  # fmt: skip
                    rows.append(row)
                    say(table.text(row) + "\n")
        return rows, field.version, cannot


def main(words=None):
    """Measure; 1 when something is void or cannot be measured."""
    options = parse(words)
    if not (Path(options.ansible) / "bin" / "ansible-playbook").exists():
        print("%s has no ansible-playbook: say --ansible VENV, or set CONTEXTREE_ANSIBLE" % options.ansible)
        return 1
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that all is cleared away
    before = report.load()
    print("%s; %s" % (report.machine(), before), flush=True)
    try:
        rows, version, cannot = measure(options, lambda text: print(text, flush=True))
    except (CannotStart, CannotAccount) as error:
        print("not measured: %s" % error)
        return 1
    for side, why in cannot.items():
        print("left out: %s: %s" % (side, why))
    about = {"date": str(dt.datetime.now(dt.timezone.utc).date()), "machine": report.machine(), "load": before,
             "ansible-core": version, "rounds": options.rounds}  # fmt: skip
    if options.json:
        Path(options.json).write_text(json.dumps({**about, "rows": [table.as_dict(row) for row in rows]}, indent=1))
    if options.write:
        told = "Measured on %(date)s with ansible-core %(ansible-core)s, %(rounds)d rounds: %(machine)s; %(load)s."
        report.write("\n\n".join([report.BEGIN, told % about, table.markdown(rows), report.END]), PAGE)
    return 1 if cannot or any(row.void for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
