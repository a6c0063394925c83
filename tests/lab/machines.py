"""systemd-nspawn, and machines: a system bus and systemd-machined of our own, where pid 1 need not be systemd.

They live in a mount namespace that has /run/systemd/system, without which machinectl and systemd-run do not talk to
systemd; nobody outside sees it. ``boot`` starts a container that boots this machine's own systemd, on an overlay over
its /; that container is a host with systemd, to which ``.host`` means itself.
"""

import subprocess
from pathlib import Path

from tests.lab import trees
from tests.lab.boxes import CGROUPS, Box, CannotStart

BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"""
# a unit that fails or waits for hardware would only cost time
MASKED = ("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-journald.service",
          "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-logind.service",
          "systemd-timesyncd.service",
          "systemd-networkd.service", "systemd-resolved.service", "systemd-journal-flush.service",
          "systemd-random-seed.service", "systemd-update-utmp.service", "systemd-binfmt.service",
          "systemd-sysctl.service", "apparmor.service", "getty.target")  # fmt: skip
SANE = ("--quiet", "--register=no", "--keep-unit", "--private-network", "--timezone=off", "--resolv-conf=off")


class Nspawn(Box):
    """``tree()`` makes a root directory that may be written to."""

    kind = "nspawn"
    programs = ("systemd-nspawn",)
    extra_args = ("--private-network", "--timezone=off", "--resolv-conf=off")

    def start(self):
        """A file system in memory for what is written."""
        self.top = self.directory / "top"
        self.top.mkdir()
        self.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.top)
        if not Path("/sys/fs/cgroup").is_dir():
            raise CannotStart("no control groups here")

    def first(self):
        """A tree; something has run in it."""
        tree = self.tree()
        self.run("systemd-nspawn", *SANE, "--pipe", "-D", tree, "true")
        return tree

    def tree(self, minor=None):
        """A new root directory with this Python: an overlay, in memory."""
        name = "ctxt-%s-%d" % (self.tag, len(list(self.top.iterdir())))
        top = self.top / name
        for folder in ("upper", "work", name):  # whose name is the container's, in what nspawn leaves when it is killed
            (top / folder).mkdir(parents=True)
        self.run("mount", "-t", "overlay", "overlay", "-o", "lowerdir=%s,upperdir=%s/upper,workdir=%s/work" % (
            trees.make(minor), top, top), top / name)
        return top / name

    def down(self):
        """And what nspawn leaves when it is killed."""
        super().down()
        for path in Path("/run/systemd/nspawn").glob("*/ctxt-%s*" % self.tag):
            if path.is_dir():
                subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, check=False)
                path.rmdir()
            else:
                path.unlink()


class Machines(Box):
    """``boot()`` starts a machine and returns its name; ``inside`` is the words that run a program beside machined."""

    kind = "machines"
    programs = ("systemd-nspawn", "machinectl", "dbus-daemon", "systemd-run")

    @property
    def inside(self):
        """A command as a prefix: where the bus and machined are."""
        return ["env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=%s/bus" % self.directory, "nsenter",
                "--mount=/proc/%d/ns/mnt" % self.holder[0], "--"]

    def start(self):
        """Bus and machined."""
        place = self.directory
        (place / "bus.conf").write_text(BUS.format(path=place / "bus"))
        (place / "top").mkdir()
        script = ("mount -t tmpfs none /run/systemd; mkdir -p /run/systemd/system /run/systemd/machines; "
                  "mount -t tmpfs -o mode=755 none %s/top; : >%s/ready; exec sleep infinity" % (place, place))
        self.holder = self.daemon("holder", "unshare", "--mount", "--propagation", "private", "sh", "-ec", script)
        self.await_up(self.holder, "holder", (place / "ready").exists)
        bus = self.daemon("dbus", "dbus-daemon", "--config-file=%s/bus.conf" % place, "--nofork", "--nopidfile")
        self.await_up(bus, "dbus", (place / "bus").exists)
        machined = self.daemon("machined", *self.inside, "/lib/systemd/systemd-machined")
        self.await_up(machined, "machined", lambda: self.succeeds("machinectl", "list"))

    def succeeds(self, *command):
        """Does it exit with 0, beside machined?"""
        try:
            self.run(*self.inside, *command, timeout=10)
        except CannotStart:
            return False
        return True

    def first(self):
        """A machine."""
        return self.boot()

    def boot(self):
        """The name of a new machine that has booted systemd."""
        name = "ctxt-%s-%d" % (self.tag, len(self.processes))
        top = self.directory / "top" / name
        masks = "".join("ln -s /dev/null %s/root/etc/systemd/system/%s; " % (top, unit) for unit in MASKED)
        self.run(*self.inside, "sh", "-ec", (
            f"mkdir -p {top}/upper {top}/work {top}/root; "
            f"mount -t overlay overlay -o lowerdir=/,upperdir={top}/upper,workdir={top}/work {top}/root; "
            f"rm -rf {top}/root/etc/systemd/system/*; : >{top}/root/etc/fstab; " + masks))
        # machined takes the unit from the leader's control group; without systemd outside nobody made one
        groups = []
        for root in [CGROUPS / "systemd", CGROUPS / "unified", CGROUPS]:
            if (root / "cgroup.procs").exists():
                groups.append(root / ("ctxt-%s.slice" % self.tag) / (name + ".scope"))
                groups[-1].mkdir(parents=True)
        who = self.daemon(name, *self.inside, "systemd-nspawn", "--quiet", "--keep-unit", "--timezone=off",
                          "--resolv-conf=off", "--private-network", "--console=pipe", "-D", top / "root", "-M", name,
                          "--boot", "systemd.unit=multi-user.target", cgroups=groups)
        self.await_up(who, name, lambda: self.succeeds(
            "systemd-run", "--machine=" + name, "--quiet", "--pipe", "--wait", "true"), 40)
        return name

    def init(self, name):
        """The pid of its first process."""
        return int(self.run(*self.inside, "machinectl", "show", "-p", "Leader", "--value", name))
