"""A container made by hand: namespaces by ``unshare``, a root directory by ``pivot_root``, and an init of ours."""

import re
from pathlib import Path

from tests.lab import processes, trees
from tests.lab.boxes import Box, CannotStart
from tests.lab.poll import until

SCRIPT = """\
hostname {name}
mount -t tmpfs -o mode=755 tmpfs {top}
mkdir {top}/upper {top}/work {top}/root
mount -t overlay overlay -o lowerdir={lower},upperdir={top}/upper,workdir={top}/work {top}/root
mount -t proc proc {top}/root/proc
mount -t tmpfs -o mode=755 tmpfs {top}/root/dev
for device in null zero random urandom tty; do
    : >{top}/root/dev/$device
    mount --bind /dev/$device {top}/root/dev/$device
done
cd {top}/root
mkdir old
pivot_root . old
umount -l old
exec /sbin/init
"""
FLAGS = ("--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup", "--kill-child")


class Handmade(Box):
    """``container()`` starts one and returns the pid of its init; ``tree()`` is a root directory with devices."""

    kind = "handmade"
    programs = ("unshare", "nsenter", "chroot")

    def container(self, minor=None, users=False):
        """A new one, with this Python; ``users``: in a user namespace where its root is 100000 outside."""
        name = "ctxt-%s-%d" % (self.tag, len(self.processes))
        top = self.directory / name
        top.mkdir(mode=0o755)
        script = SCRIPT.format(name=name, top=top, lower=trees.make(minor))
        flags = [*FLAGS, "--propagation", "private"]
        if users:
            flags += ["--user", "--map-users=100000,0,65536", "--map-groups=100000,0,65536",
                      "--setuid=0", "--setgid=0"]  # fmt: skip
        who = self.daemon(name, "unshare", *flags, "sh", "-ec", script)
        inits = until(lambda: self._inits(who[0]) or not processes.alive(who), "the init of " + name)
        if inits is True:
            raise CannotStart("unshare: " + self.log(name))
        return inits[0]

    def _inits(self, pid):
        """Its child, once that has become our init."""
        found = [who[0] for who in processes.descendants(pid)]
        return [child for child in found if re.search(r"/sbin/init", processes.command_line(child))]

    def start(self):
        """A place in memory for trees."""
        self.top = self.directory / "top"
        self.top.mkdir()
        self.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.top)

    def first(self):
        """A container."""
        return self.container()

    def tree(self, minor=None, devices=True):
        """A new root directory that may be written to."""
        top = self.top / ("tree-%d" % len(list(self.top.iterdir())))
        for folder in ("upper/dev", "work", "root"):
            (top / folder).mkdir(parents=True)
        for number, device in enumerate(("null", "zero") if devices else ()):
            self.run("mknod", "-m", "666", top / "upper/dev" / device, "c", "1", 3 + 2 * number)
        top.chmod(0o755)
        Path(top, "upper").chmod(0o755)
        self.run("mount", "-t", "overlay", "overlay", "-o", "lowerdir=%s,upperdir=%s/upper,workdir=%s/work" % (
            trees.make(minor), top, top), top / "root")
        return top / "root"
