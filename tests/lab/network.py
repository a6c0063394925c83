"""Hosts in network namespaces, each with an sshd, and the wires between them, which can be cut.

    client --- alpha --- beta          Network(server, {"alpha": "client", "beta": "alpha", "gamma": "client"})
       \\------ gamma

A wire is a namespace of its own in the middle, which forwards, or does not: then every packet is lost without a word,
in both directions, as on a dead line; no interface goes down, nobody is told. Hosts forward nothing, so beta is to be
had from alpha alone. Needs root and iproute2.
"""

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from tests.lab import processes
from tests.lab.poll import until
from tests.lab.sshd import PREFIX, RUN, CannotStart

NAMES = Path("/run/netns")  # where ip keeps them

SERVER = """\
ListenAddress 0.0.0.0
ListenAddress ::
Port 22
HostKey {server.directory}/plain_host_key
PidFile {folder}/{name}.pid
AuthorizedKeysFile {server.directory}/keys/%u
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 1000
"""
HOST = """\
Host {name}
  HostName {address}
"""
CLIENT = """\
Host *
  User {server.key_user}
  IdentityFile {folder}/key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
"""


class Wire:
    """What is between two hosts; ``address`` is that of the one at its right end."""

    def __init__(self, namespace, left, right, number):
        self.namespace = namespace
        nets = "10.77.%d" % (2 * number), "10.77.%d" % (2 * number + 1)
        self.address = nets[1] + ".2"
        self.left, self.right = "w%dl" % number, "w%dr" % number  # the names of both ends, on either side of them
        namespace.add()
        for device, one, other, net in ((self.left, left, namespace, nets[0]), (self.right, namespace, right, nets[1])):
            ip("link", "add", device, "netns", one.name, "type", "veth", "peer", "name", device, "netns", other.name)
            for side, ending in ((one, ".1/24"), (other, ".2/24")):
                side.ip("addr", "add", net + ending, "dev", device)
                side.ip("link", "set", device, "up")
        left.ip("route", "add", nets[1] + ".0/24", "via", nets[0] + ".2")
        right.ip("route", "add", nets[0] + ".0/24", "via", nets[1] + ".1")
        self.restore()

    def cut(self):
        """From now on every packet is lost."""
        self.namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=0")

    def restore(self):
        """Packets pass again, of every size."""
        self.namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.namespace.ip("link", "set", self.left, "mtu", "1500")

    def swallow_large(self):
        """What comes from the left and is larger than 600 bytes is lost, and nobody is told: a black hole of MTU."""
        self.namespace.ip("link", "set", self.left, "mtu", "600")


class Namespace:
    """One network namespace."""

    def __init__(self, name):
        self.name = name

    def add(self):
        """Make it."""
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words):
        """``ip`` for what is in it."""
        ip("-n", self.name, *words)

    def run(self, *words):
        """Run a command in it."""
        return ip("netns", "exec", self.name, *words)

    def processes(self):
        """The identities of those that run in it."""
        done = subprocess.run(["ip", "netns", "pids", self.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True)
        found = [processes.identity(int(word)) for word in done.stdout.split()]
        return [who for who in found if who]

    def remove(self):
        """End what runs in it, and it."""
        processes.end(self.processes())
        subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL)


class Host(Namespace):
    """A host with an sshd; ``wire`` leads to it."""

    def __init__(self, network, title, name):
        Namespace.__init__(self, name)
        self.network = network
        self.title = title
        self.wire = None

    def power_on(self):
        """Its interface is up, its sshd listens, ``hostname`` says its title."""
        folder, pid = self.network.folder, self.network.folder / (self.title + ".pid")
        pid.unlink(missing_ok=True)
        self.ip("link", "set", self.wire.right, "up")
        subprocess.run(["ip", "-n", self.name, "route", "add", self.wire.address[:-3].rpartition(".")[0] + ".%d.0/24"
                        % (int(self.wire.address.split(".")[2]) - 1), "via", self.wire.address[:-1] + "1"],
                       stderr=subprocess.DEVNULL)  # it has gone with the interface
        self.run("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec /usr/sbin/sshd "$@"', self.title,
                 "-f", str(folder / (self.title + ".conf")), "-E", str(folder / (self.title + ".log")))
        until(lambda: pid.exists() and pid.read_text().strip(), "sshd to listen")

    def power_off(self):
        """It is gone between two moments: nobody hears a word of it."""
        self.ip("link", "set", self.wire.right, "down")
        processes.end(self.processes())

    def reset(self):
        """Its kernel ends all connections to its sshd: both ends get a RST."""
        self.run("ss", "-K", "sport", "=", ":22")

    def session(self, context):
        """The identity of the sshd process that holds the session of an interpreter here."""
        pid = context.pid
        while "sshd" not in processes.command_line(pid).split(" ")[0]:
            pid = processes.stat(pid)[0]
        return processes.identity(pid)


class Network:
    """``hosts``: {title: Host}; ``wires``: {title of the host at the right end: Wire}; ``ssh``: words of an ssh
    program that starts in the client; ``ssh_config``: its configuration, with all hosts, for everybody.

    ``plan``: {title: the host on the left of its wire}."""

    def __init__(self, server, plan):
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
            raise CannotStart("needs root and iproute2")
        sweep()
        tag = "%s-%s" % (Path(server.directory).name, secrets.token_hex(2))
        self.server = server
        self.folder = Path(server.directory, "network-" + tag)
        self.ssh_config = str(self.folder / "ssh_config")
        self.client = Namespace(tag + "-client")
        self.ssh = ["ip", "netns", "exec", self.client.name, "ssh"]
        self.hosts = {title: Host(self, title, "%s-%s" % (tag, title)) for title in plan}
        self.middles = [Namespace("%s-to-%s" % (tag, title)) for title in plan]
        self.wires = {}
        try:
            self._up(plan)
        except BaseException:
            self.down()
            raise

    def _up(self, plan):
        self._files()
        self.client.add()
        for host in self.hosts.values():
            host.add()
        config = ""
        for number, (title, left) in enumerate(plan.items()):
            host = self.hosts[title]
            host.wire = self.wires[title] = Wire(self.middles[number], self.hosts.get(left, self.client), host, number)
            config += HOST.format(name=title, address=host.wire.address)
            conf = self.folder / (title + ".conf")
            conf.write_text(SERVER.format(server=self.server, folder=self.folder, name=title))
            host.power_on()
        Path(self.ssh_config).write_text(config + CLIENT.format(server=self.server, folder=self.folder))

    def _files(self):
        self.folder.mkdir(mode=0o755)
        self.folder.chmod(0o755)
        key = self.folder / "key"  # of the account itself: from one host it goes to the next
        key.touch(0o600)
        key.write_text(Path(self.server.key).read_text())
        shutil.chown(key, self.server.key_user)
        public = Path(self.server.daemons["plain"]["key"] + ".pub").read_text().split()[:2]
        known = self.folder / "known_hosts"
        known.write_text("* %s\n" % " ".join(public))
        known.chmod(0o644)

    def cut(self):
        """From now on every packet is lost, on every wire."""
        for wire in self.wires.values():
            wire.cut()

    def restore(self):
        """All hosts are up, all wires pass packets."""
        for wire in self.wires.values():
            wire.restore()
        for host in self.hosts.values():
            if not host.processes():
                host.power_on()

    def down(self):
        """End what runs in the namespaces, and remove them."""
        for one in (*self.hosts.values(), *self.middles, self.client):
            one.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


def sweep():
    """Remove the namespaces that killed runs left: those whose sshd's directory is gone."""
    for path in NAMES.glob(PREFIX + "*-*-*"):
        words = path.name.split("-")
        if not (RUN / "-".join(words[:2])).exists():
            Namespace(path.name).remove()


def stop(who):
    """SIGSTOP for this process; [who] for ``processes.end``."""
    os.kill(who[0], signal.SIGSTOP)
    return [who]


def ip(*words):
    """Run ``ip``; CannotStart when it fails."""
    done = subprocess.run(["ip", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=30)
    if done.returncode:
        raise CannotStart("ip %s: %s" % (" ".join(words), done.stdout.strip()[-300:]))
    return done.stdout
