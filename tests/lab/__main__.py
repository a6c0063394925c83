"""``python -m tests.lab``: pythons | chroot | sshd up --state FILE | sshd down --state FILE"""

import argparse
import sys

from tests.lab import pythons
from tests.lab.sshd import CannotStart, Sshd


def main():
    """Run one command; returns the exit status. The last line printed says why something could not be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pythons", help="list every Python that tests can use")
    commands.add_parser("chroot", help="prepare the chroot with the newest Pythons (root)")
    sshd = commands.add_parser("sshd", help="start or stop a private sshd (root)")
    sshd.add_argument("action", choices=["up", "down"])
    sshd.add_argument("--keeper", type=int, help="pid: while it lives nobody sweeps the server away")
    sshd.add_argument("--state", required=True, metavar="FILE")
    options = parser.parse_args()
    try:
        return {"pythons": _pythons, "chroot": _chroot, "sshd": _sshd}[options.command](options)
    except (CannotStart, pythons.CannotPrepare) as error:
        print(error)
        return 1


def _pythons(options):
    for python in pythons.find():
        print("%-5s %-9s %-7s %s" % (python.minor, python.version, python.origin, " ".join(python.argv)))
    absent = [minor for minor in pythons.MINORS if minor not in pythons.one_each()]
    if absent:
        print("not on this machine: " + " ".join(absent))
    return 0


def _chroot(options):
    ready = pythons.prepare_chroot()
    print("chroot: " + ", ".join("Python " + python.version for python in ready))
    return 0


def _sshd(options):
    if options.action == "up":
        server = Sshd.up(state=options.state, keeper=options.keeper)
        print("sshd: port %d, users %s" % (server.port, " ".join(server.users)))
        for line in server.left_out:
            print("sshd: " + line)
    else:
        Sshd.load(options.state).down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
