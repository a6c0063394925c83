"""An LXD of our own, in a private folder, with ``dir`` storage and no network; its instances are unprivileged."""

import time

from tests.lab import trees
from tests.lab.boxes import Box, CannotStart

PRESEED = """\
storage_pools: [{name: default, driver: dir}]
profiles: [{name: default, devices: {root: {path: /, pool: default, type: disk}}}]
"""
PARTS = ("d", "conf", "cache")
METADATA = "architecture: %s\ncreation_date: 1700000000\nproperties: {os: lab, description: lab}\n"


class Lxd(Box):
    """``client`` is the words of its client; ``container()`` starts an instance and returns its name."""

    kind = "lxd"
    programs = ("lxd", "lxc")
    server, commands = "lxd", (["lxd", "waitready"], ["lxd", "init"], ["lxd", "shutdown"])
    variables = ("LXD_DIR", "LXC_CONF")

    def __init__(self, *args, **fields):
        super().__init__(*args, **fields)
        self.have_bare = False
        names = (*self.variables, "XDG_CACHE_HOME")
        self.own_env = {name: "%s/%s" % (self.directory, part) for name, part in zip(names, PARTS, strict=True)}
        self.env.update(self.own_env)
        self.client = ["env", *("%s=%s" % pair for pair in self.own_env.items()), self.programs[1]]

    def start(self):
        """Start the daemon and give it an image."""
        for name in (*PARTS, "image"):
            (self.directory / name).mkdir(mode=0o711)
        wait, init, _ = self.commands
        who = self.daemon("server", self.server, "--group", "root", "--logfile", self.directory / "log")
        self.await_up(who, "server", lambda: self.succeeds(*wait, "--timeout", "1"))
        self.run(*init, "--preseed", input=PRESEED)
        self.image()

    def succeeds(self, *command):
        """Does it exit with 0?"""
        try:
            self.run(*command)
        except CannotStart:
            return False
        return True

    def image(self, minor=None, alias="lab"):
        """Import the tree with this Python."""
        import platform

        folder = self.directory / "image"
        (folder / "metadata.yaml").write_text(METADATA % platform.machine())
        self.run("tar", "-C", folder, "-cf", folder / "meta.tar", "metadata.yaml")
        self.run(self.programs[1], "image", "import", folder / "meta.tar", trees.tar(trees.make(minor)), "--alias",
                 alias)

    def container(self, alias="lab"):
        """The name of a new one that runs."""
        name = "ctxt-%s-%d" % (self.tag, time.monotonic_ns() % 10**9)
        self.run(self.programs[1], "init", "-q", alias, name)
        self.run(self.programs[1], "start", name)
        return name

    def first(self):
        """An instance with a Python."""
        return self.container()

    def bare(self):
        """The name of a new one without a Python."""
        if not self.have_bare:
            self.image("", "bare")
            self.have_bare = True
        return self.container("bare")

    def init(self, name):
        """The pid of its first process."""
        import json

        return json.loads(self.run(self.programs[1], "query", "/1.0/instances/%s/state" % name))["pid"]

    def stop(self):
        """The daemon ends its instances itself; what it does not is ended with its control groups."""
        for line in self.run(self.programs[1], "list", "-f", "csv", "-c", "n", timeout=10).split():
            self.run(self.programs[1], "delete", "-f", line, timeout=20)
        self.run(*self.commands[2], "--timeout", "5", timeout=10)


class Incus(Lxd):
    """The same of Incus, whose server and client have other names."""

    kind = "incus"
    PATH = "/usr/libexec/incus:/usr/lib/incus"
    programs = ("incus", "incus")
    server, commands = "incusd", (["incusd", "waitready"], ["incus", "admin", "init"], ["incus", "admin", "shutdown"])
    variables = ("INCUS_DIR", "INCUS_CONF")

    def __init__(self, *args, **fields):
        super().__init__(*args, **fields)
        self.env["PATH"] += ":" + self.PATH
