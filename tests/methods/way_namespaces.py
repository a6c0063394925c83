"""Containers of LXC and systemd, namespaces and root directories, as the suite of all ways reaches them."""

import shlex
import shutil

import pytest

from tests.lab.lxd import Incus
from tests.methods.way import Way

NAMES = ("lxc", "lxd", "incus", "nspawn", "machinectl", "setns", "setns_nsenter", "setns_lxc", "chroot", "jail")


class Box(Way):
    """A way into one target of a box."""

    separate = True
    wanted = "no-such-target"

    def __init__(self, method, target, name=None, tail=None, **options):
        self.method = method
        self.name = name or method
        self.target = target
        self.options = options
        self.tail = "%s.%s" % (method, tail or target)

    def open(self, router, *target, **options):
        return getattr(router, self.method)(*(target or (self.target,)), **{**self.options, **options})

    def wrong_credentials(self, router):
        return self.open(router, user="nobody-there")

    def missing_binary(self, router):
        program = {"lxd": "lxc", "nspawn": "systemd_nspawn", "machinectl": "systemd_run", "jail": "jexec",
                   "setns": "nsenter", "lxc": "lxc_attach"}.get(self.method, self.method)
        return self.open(router, **{program: "no-such-program"})

    def missing_target(self, router):
        return self.open(router, self.wanted)


@pytest.fixture(scope="session")
def way_lxc(lxc_box):
    """A container of LXC."""
    return Box("lxc", lxc_box.common, lxcpath=lxc_box.path)


@pytest.fixture(scope="session")
def way_lxd(lxd_box):
    """An unprivileged container of LXD."""
    return Box("lxd", lxd_box.common, lxc=lxd_box.client)


@pytest.fixture(scope="session")
def way_incus(request, tmp_path_factory):
    """An unprivileged container of Incus; where that is not installed, LXD behind a stand-in that checks the words."""
    if shutil.which("incus") and shutil.which("incusd", path=Incus.PATH):
        box = request.getfixturevalue("incus_box")
        return Box("incus", box.common, incus=box.client)
    box = request.getfixturevalue("lxd_box")
    script = tmp_path_factory.mktemp("incus") / "incus"
    script.write_text(INCUS % shlex.join(box.client))
    script.chmod(0o755)
    return Box("incus", box.common, incus=str(script))


INCUS = """#!/bin/sh
# the client of Incus takes these words as that of LXD does; any other is refused
case "$1 $2 $3 $4" in
    "exec --mode=non-interactive --env PYTHONSAFEPATH=contextree") ;;
    *) echo "Error: unknown command $1 $2 $3 $4" >&2; exit 1 ;;
esac
[ "$6" = -- ] || { echo "Error: unknown flag $6" >&2; exit 1; }
exec %s "$@"
"""


@pytest.fixture(scope="session")
def way_nspawn(nspawn_box):
    """A tree of our own."""
    tree = nspawn_box.common
    return Nspawned("nspawn", str(tree), tail=tree.name, register=False, extra_args=nspawn_box.extra_args)


class Nspawned(Box):
    wanted = "/no-such-target"


@pytest.fixture(scope="session")
def way_machinectl(machines_box):
    """A machine that runs systemd."""
    return Box("machinectl", machines_box.common, systemd_run=[*machines_box.inside, "systemd-run"])


@pytest.fixture(scope="session")
def setns_target(handmade_box):
    """The init of a container made by hand."""
    return handmade_box.common


class Process(Box):
    def missing_binary(self, router):
        return self.open(router, "nobody", kind="docker", program="no-such-program")

    def missing_target(self, router):
        return self.open(router, "no-such-target", **({} if "kind" in self.options else {"kind": "lxc"}))


@pytest.fixture(scope="session")
def way_setns(setns_target):
    """The namespaces of a process."""
    return Process("setns", setns_target)


@pytest.fixture(scope="session")
def way_setns_nsenter(setns_target):
    """The same by nsenter."""
    return Process("setns", setns_target, "setns_nsenter", tool="nsenter")


@pytest.fixture(scope="session")
def way_setns_lxc(lxc_box):
    """A container of LXC, by the pid of its init."""
    return Process("setns", lxc_box.common, "setns_lxc", kind="lxc", lxcpath=lxc_box.path)


@pytest.fixture(scope="session")
def way_chroot(handmade_box):
    """Another root directory."""
    way = Rooted("chroot", str(handmade_box.tree()), tail="root")
    way.separate = False
    return way


class Rooted(Box):
    wanted = "/no-such-target"


@pytest.fixture(scope="session")
def way_jail(handmade_box, tmp_path_factory):
    """A stand-in for jexec: the words and the exit status of FreeBSD's, over a root directory."""
    script = tmp_path_factory.mktemp("jail") / "jexec"
    script.write_text(JEXEC % {"tree": shlex.quote(str(handmade_box.tree()))})
    script.chmod(0o755)
    way = Jailed("jail", "ctxt-jail", jexec=str(script))
    way.separate = False
    return way


class Jailed(Box):
    pass


JEXEC = """#!/bin/sh
# jexec [-l] [-u user | -U user] jail command ...
user=root tree=%(tree)s
[ "$1" = -l ] && shift
case $1 in
    -u|-U) user=$2; shift 2 ;;
    -*) echo "usage: jexec [-l] [-u username | -U username] jail [command ...]" >&2; exit 1 ;;
esac
case $1 in
    ctxt-jail) ;;
    *) echo "jexec: jail \\"$1\\" not found" >&2; exit 1 ;;
esac
shift
[ $# -gt 0 ] || exit 9   # a shell, which nobody wants here
line=$(chroot "$tree" grep "^$user:" /etc/passwd) || { echo "jexec: $user: no such user" >&2; exit 1; }
number=$(echo "$line" | cut -d: -f3,4)
exec env -i HOME=/ SHELL=/bin/sh TERM=dumb USER="$user" PATH=/usr/bin:/bin \\
    /usr/sbin/chroot --userspec="$number" "$tree" "$@"
"""
