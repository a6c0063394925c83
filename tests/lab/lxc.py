"""Containers of classic LXC in a private lxcpath, without network, on an overlay over ``tests.lab.trees``."""

from tests.lab import trees
from tests.lab.boxes import Box

CONFIG = """\
lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = overlay:{lower}:{upper}
lxc.uts.name = {name}
lxc.net.0.type = empty
lxc.apparmor.profile = unconfined
lxc.init.cmd = /sbin/init
lxc.signal.halt = SIGTERM
"""


class Lxc(Box):
    """``path`` is the lxcpath, ``container()`` starts one and returns its name."""

    kind = "lxc"
    programs = ("lxc-start", "lxc-attach")

    @property
    def path(self):
        """The lxcpath."""
        return self.directory / "lxc"

    def start(self):
        """The folder is all that is needed."""
        self.path.mkdir()

    def first(self):
        """A container."""
        return self.container()

    def container(self, minor=None):
        """The name of a new one that runs, with this Python (see ``trees.make``)."""
        name = "ctxt-%s-%d" % (self.tag, len(list(self.path.iterdir())))
        upper = self.directory / ("upper-" + name)
        for folder in (self.path / name, upper):
            folder.mkdir()
        (self.path / name / "config").write_text(CONFIG.format(lower=trees.make(minor), upper=upper, name=name))
        self.run("lxc-start", "-P", self.path, "-n", name, "-d", "-l", "INFO", "-o", self.directory / (name + ".log"))
        self.run("lxc-wait", "-P", self.path, "-n", name, "-s", "RUNNING", "-t", "10")
        return name

    def init(self, name):
        """The pid of its first process."""
        return int(self.run("lxc-info", "-P", self.path, "-n", name, "-pH"))

    def stop(self):
        """Kill all of them, as lxc does it."""
        for folder in self.path.iterdir():
            self.run("lxc-stop", "-P", self.path, "-n", folder.name, "-k")
