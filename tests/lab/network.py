"""A host behind a network that can be cut: three namespaces in a row, the last one with an sshd in it.

    client (10.77.1.1) -- middle (forwards, or not) -- host (10.77.2.2, port 22)

While the middle one does not forward, every packet is lost without a word, in both directions, as on a dead line: no
interface goes down, nobody is told. Needs root and iproute2.
"""

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from tests.lab import processes
from tests.lab.poll import until
from tests.lab.sshd import CannotStart

CONFIG = """\
ListenAddress 10.77.2.2
ListenAddress ::
Port 22
HostKey {server.directory}/plain_host_key
PidFile {folder}/pid
AuthorizedKeysFile {server.directory}/keys/%u
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
"""
CLIENT = """\
Host *
  HostName 10.77.2.2
  User {server.key_user}
  IdentityFile {server.key}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
"""


class Network:
    """``ssh``: words of an ssh program that starts in the client; ``ssh_config``: its configuration, for any host."""

    def __init__(self, server, folder):
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise CannotStart("needs root and iproute2")
        self.folder = Path(folder)
        tag = "ctxt" + secrets.token_hex(2)
        self.names = self.client, self.middle, self.host = [tag + end for end in "cmh"]
        self.ssh = ["ip", "netns", "exec", self.client, "ssh"]
        self.ssh_config = str(self.folder / "ssh_config")
        try:
            self._up(server)
        except BaseException:
            self.down()
            raise

    def _up(self, server):
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        for left, right, net in ((self.client, self.middle, 1), (self.middle, self.host, 2)):
            ip("link", "add", "right", "netns", left, "type", "veth", "peer", "name", "left", "netns", right)
            for name, device, number in ((left, "right", 1), (right, "left", 2)):
                ip("-n", name, "addr", "add", "10.77.%d.%d/24" % (net, number), "dev", device)
                ip("-n", name, "link", "set", device, "up")
        ip("-n", self.client, "route", "add", "10.77.2.0/24", "via", "10.77.1.2")
        ip("-n", self.host, "route", "add", "10.77.1.0/24", "via", "10.77.2.1")
        self.restore()
        (self.folder / "sshd_config").write_text(CONFIG.format(server=server, folder=self.folder))
        Path(self.ssh_config).write_text(CLIENT.format(server=server, folder=self.folder))
        public = Path(server.daemons["plain"]["key"] + ".pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text("10.77.2.2 %s\n" % " ".join(public))
        ip("netns", "exec", self.host, "/usr/sbin/sshd", "-f", str(self.folder / "sshd_config"), "-E",
           str(self.folder / "log"))
        pid = self.folder / "pid"
        until(lambda: pid.exists() and pid.read_text().strip(), "sshd to listen")

    def cut(self):
        """From now on every packet is lost."""
        ip("netns", "exec", self.middle, "sysctl", "-qw", "net.ipv4.ip_forward=0")

    def restore(self):
        """Packets pass again."""
        ip("netns", "exec", self.middle, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def down(self):
        """End what runs in the namespaces, and remove them."""
        for name in self.names:
            done = subprocess.run(["ip", "netns", "pids", name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  text=True)
            found = [processes.identity(int(word)) for word in done.stdout.split()]
            processes.end([who for who in found if who])
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def ip(*words):
    """Run ``ip``; CannotStart when it fails."""
    done = subprocess.run(["ip", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=30)
    if done.returncode:
        raise CannotStart("ip %s: %s" % (" ".join(words), done.stdout.strip()[-300:]))
